"""How a run asks for a stream, in a recipe or on the command line: ``[alias=]encoder[:model][@option=value]...``

``hubert``, ``hubert@layers=6,9,12``, ``early=hubert@layer=4``, ``timm:convnext_tiny.fb_in22k``,
``wavlm=hf-audio:microsoft/wavlm-base-plus``, ``hf-text:/path/to/folder``. The stream is called by its alias, else by
its encoder and model, in letters that are safe as a folder and as a key of a torch module.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.errors import UsageError
from cache.recipe import merge, parse_sets

#: Encoders of any model, and what names the model after the colon.
OPEN = {"hf-audio": "ID", "hf-text": "ID", "timm": "NAME"}
FORM = "[alias=]encoder[:model][@option=value]"
_FORM = re.compile(r"(?:([^:@=]*)=)?([^:@=]*)(:[^@]*)?((?:@.*)?)")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_WHOLE_NUMBERS = re.compile(r"-?\d+(\s*,\s*-?\d+)*")
#: Stage two keeps a module a stream under the stream's name, and torch keeps these names for itself.
TAKEN = frozenset(
    re.findall(
        r"\w+",
        """
        T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double
        dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items
        keys load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop
        requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty train training type update
        values xpu zero_grad
        """,
    )
)


@dataclass(frozen=True)
class Asked:
    """A stream that is asked for. model is empty for encoders of one model; options are those behind ``@``."""

    encoder: str
    model: str = ""
    alias: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        """The stream's name in the cache: the alias, else the encoder (and model) in safe letters."""
        return self.alias or _safe(self.made_by)

    @property
    def made_by(self) -> str:
        """Encoder and model as in the fingerprint; of a folder its name only, since copies give the same numbers."""
        return f"{self.encoder}:{_called(self.model)}" if self.model else self.encoder


def parse(text: str) -> Asked:
    """One stream as it is asked for. Raises UsageError for what has another form; the encoder's name is not looked up.

    Values are TOML, bare words are strings, and ``6,9,12`` is a list; ``layers`` is always one.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or not match[2].strip():
        raise UsageError(f"{text!r} names no encoder", hint=f"write {FORM}, e.g. early=hubert@layer=4")
    alias, encoder, colon, options = match[1], match[2].strip(), match[3], match[4]
    if alias is not None and (not _ALIAS.fullmatch(alias) or alias in TAKEN or alias.startswith("register_")):
        told = f"{alias!r} in {text!r} cannot name a stream"
        raise UsageError(told, hint="take letters, digits, - and _, a letter first, and no word of torch")
    model = (colon or "")[1:].strip()
    if encoder in OPEN and not model:
        raise UsageError(f"{text!r} names no model", hint=f"write {encoder}:{OPEN[encoder]}")
    if colon is not None and encoder not in OPEN:
        told = f"{encoder!r} in {text!r} takes no model behind a colon"
        raise UsageError(told, hint=f"those that do: {', '.join(f'{e}:{m}' for e, m in OPEN.items())}")
    return Asked(encoder, model, alias or "", merge(*(_option(o, text) for o in options.split("@")[1:])))


def parse_all(texts: Iterable[str], encoders: Iterable[str]) -> list[Asked]:
    """All streams of a run. Raises UsageError where two that differ would have one name, or one another encoder's."""
    asked, names = [parse(t) for t in texts], set(encoders)
    for i, one in enumerate(asked):
        if one.alias in names - {one.encoder}:
            raise UsageError(f"{one.alias!r} is an encoder and cannot name a stream of {one.made_by}")
        if any(one.stream == a.stream and one != a for a in asked[:i]):
            hint = f"give each a name of its own, e.g. {one.stream}2={one.made_by}"
            raise UsageError(f"two streams are called {one.stream!r}", hint=hint)
    return asked


def forms(encoders: Iterable[str]) -> list[str]:
    """Encoders as they are asked for: ``hubert``, ``timm:NAME``."""
    return [f"{e}:{OPEN[e]}" if e in OPEN else e for e in encoders]


def _option(text: str, whole: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UsageError(f"@{text} in {whole!r} is not of the form @option=value", hint=f"write {FORM}")
    if _WHOLE_NUMBERS.fullmatch(value.strip()) and ("," in value or key.strip() == "layers"):
        value = f"[{value}]"
    return parse_sets([f"{key.strip()}={value.strip()}"])


def _called(model: str) -> str:
    return Path(model).expanduser().resolve().name if is_path(model) else model


def is_path(model: str) -> bool:
    """Whether a model is named by a local folder: by how it is written, so that naming reads no disk."""
    return model.startswith(("/", ".", "~"))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
