"""From an encoder's name and options to a declared stream of the cache, loading weights only when it must.

The hash of the loaded weights is in the fingerprint. Hashing means loading, so a stream remembers the cheap signature
of the weights it came from: while that is unchanged, its hash is known and torch is not even imported.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cache.errors import CorruptCache, DataError, UsageError
from cache.fingerprint import canonical, differing, spelled, stream_key
from cache.recipe import build, merge, to_plain
from cache.records import Modality, StreamSpec
from cache.store import FeatureCache
from extract.asr import Recogniser
from extract.device import torch_device
from extract.encoders import ENCODERS, Encoder
from extract.faces import FaceBoxes, FaceCrops
from extract.heard import Heard, heard, known_weights
from extract.media import decoder
from extract.naming import parse


@dataclass
class Stream:
    """One encoder of a run and the cached stream it fills. heard: for text, words of recordings without transcript."""

    encoder: Encoder[Any]
    spec: StreamSpec
    device: str
    align: str
    dtype: str
    weights: str
    decode: str = "cpu"
    faces: FaceCrops | None = None
    heard: Heard | None = None
    _ready: bool = field(default=False, repr=False)

    def begin(self) -> None:
        """A recording begins."""
        self.ready().begin()

    def ready(self) -> Encoder[Any]:
        """The encoder with its weights loaded. Raises DataError where they are not the ones of the fingerprint."""
        if not self._ready:
            if not self.encoder.weights_hash:
                self.encoder.load(torch_device(self.device))
            if self.encoder.weights_hash != self.weights:
                raise DataError(
                    f"the weights of {self.spec.name!r} changed without changing their files' size or time",
                    hint="touch the weights file and run again: they will become a stream of their own",
                )
            self._ready = True
        return self.encoder


@dataclass(frozen=True)
class Wanted:
    """An encoder that a run asks for, before any cache is touched.

    settings lack only the weights' hash, and what the encoder knows of its model once that is loaded. recogniser: of
    words, for streams of text where one is asked for. expected: settings that it has to come out with, where it is one
    that was made before.
    """

    name: str
    modality: Modality
    encoder: Encoder[Any]
    settings: dict[str, Any]
    signature: list[Any]
    decode: str
    faces: FaceCrops | None = None
    recogniser: Recogniser | None = None
    expected: dict[str, Any] | None = None


def want(
    text: str,
    modality: Modality,
    options: dict[str, Any],
    *,
    align: str,
    dtype: str,
    decode: str = "cpu",
    faces: FaceCrops | None = None,
    recogniser: Recogniser | None = None,
) -> Wanted:
    """Build the encoder that ``text`` asks for (see ``extract.naming``) and find its weights.

    Raises UnknownName or ConfigError for a wrong name or option, UsageError where its modality is another,
    WeightsNotFound where its weights cannot be had.
    """
    asked = parse(text)
    cls = ENCODERS.get(asked.encoder)
    if cls.modality != modality:
        raise UsageError(f"encoder {asked.made_by!r} is {cls.modality}", hint=f"give it as --{cls.modality} {text}")
    given = merge(options, asked.options, {"model": asked.model or None})
    encoder = cls(build(cls.Config, given, where=asked.stream))
    faces = faces if modality == "visual" else None
    settings = settings_of(asked.made_by, encoder, align, dtype, decode, faces)
    hears = recogniser if modality == "text" else None
    return Wanted(asked.stream, modality, encoder, settings, encoder.signature(), decode, faces, hears)


def want_boxes(faces: FaceCrops, decode: str) -> Wanted:
    """The stream that tells what was cropped: a row is a frame's own, in pixels, so no option of the run changes it."""
    boxes = FaceBoxes(faces)
    settings = settings_of(boxes.name, boxes, "overlap", "float32", decode, faces)
    return Wanted(boxes.name, boxes.modality, boxes, settings, boxes.signature(), decode, faces)


def settings_of(
    made_by: str, encoder: Encoder[Any], align: str, dtype: str, decode: str, faces: FaceCrops | None
) -> dict[str, Any]:
    """What the fingerprint covers, but for what only a loaded encoder knows; ``faces`` only where they are cropped."""
    return {
        "encoder": made_by,
        "version": encoder.version,
        "options": encoder.settings(),
        "align": align,
        "dtype": dtype,
        "decoder": decoder(decode if encoder.modality == "visual" else "cpu"),
        **({"faces": faces.settings()} if faces else {}),
    }


def declare(cache: FeatureCache, wanted: Wanted, device: str) -> Stream:
    """Work out the fingerprint, loading the weights only where their hash is not known, and declare the stream.

    Raises DataError where a stream that was made before would come out with other settings.
    """
    words = heard(cache, wanted.recogniser, device) if wanted.recogniser else None
    if words is not None:
        wanted = replace(wanted, settings={**wanted.settings, "recogniser": words.settings})
    spec = _remembered(cache, wanted)
    if spec is None:
        wanted.encoder.load(torch_device(device))
        settings, dim = {**wanted.settings, **_loaded(wanted.encoder)}, wanted.encoder.dim
    else:
        settings, dim = cache.about(spec.key)["settings"], spec.dim
    _check_expected(wanted, settings)
    spec = cache.declare(wanted.name, wanted.modality, dim, settings, _origin(wanted))
    align, dtype = wanted.settings["align"], wanted.settings["dtype"]
    made = (wanted.encoder, spec, device, align, dtype, settings["weights"])
    return Stream(*made, decode=wanted.decode, faces=wanted.faces, heard=words)


def _check_expected(wanted: Wanted, settings: dict[str, Any]) -> None:
    apart = differing(wanted.expected, settings) if wanted.expected is not None else {}
    if not apart:
        return
    told = ", ".join(f"{name} = {spelled(was)}, here {spelled(now)}" for name, (was, now) in apart.items())
    flags = {"faces.weights": "--face-weights PATH", "recogniser.weights": "--recogniser DIR"}
    flags["weights"] = f"--set {wanted.name}.weights=DIR"
    flag = next((flag for name, flag in flags.items() if name in apart), "")
    raise DataError(
        f"stream {wanted.name!r} cannot be made again as it was: {told}",
        hint=f"say where those weights are: {flag}" if flag else "take the version of the program that made it",
    )


def _origin(wanted: Wanted) -> dict[str, Any]:
    """Where the weights were and how the encoder was asked for: to make the stream again, of no effect on its key."""
    config = {k: _absolute(v) if k in ("weights", "model") else v for k, v in to_plain(wanted.encoder.cfg).items()}
    origin = {"signature": wanted.signature, "config": config}
    if wanted.faces:
        origin["face_weights"] = _absolute(str(wanted.faces.weights))
    if wanted.recogniser:
        origin["recogniser"] = _absolute(wanted.recogniser.model)
    return origin


def _absolute(spec: str) -> str:
    """A weights spec, its path in full where it is one."""
    path = Path(spec).expanduser()
    return str(path.resolve()) if spec not in ("", "hub") and path.exists() else spec


def remembered_key(cache: FeatureCache, wanted: Wanted) -> str:
    """The key of a stream that was declared with the same settings and weights before; else an empty string."""
    if wanted.recogniser is not None:
        hears = {**wanted.recogniser.settings(), "weights": known_weights(cache, wanted.recogniser)}
        wanted = replace(wanted, settings={**wanted.settings, "recogniser": hears})
    spec = _remembered(cache, wanted)
    return stream_key(wanted.name, cache.about(spec.key)["settings"]) if spec else ""


def _loaded(encoder: Encoder[Any]) -> dict[str, Any]:
    """The settings that only a loaded encoder knows; ``model`` is there where it has any."""
    model = encoder.model_settings()
    return {"weights": encoder.weights_hash, **({"model": model} if model else {})}


def _remembered(cache: FeatureCache, wanted: Wanted) -> StreamSpec | None:
    """A stream that was made with weights of the same signature under the same settings."""
    for key in cache.stream_keys():
        try:
            about = cache.about(key)
        except CorruptCache:
            continue  # declared anew, if it is this one
        rest = {k: v for k, v in about["settings"].items() if k not in ("weights", "model")}
        if canonical([rest, about["origin"].get("signature")]) == canonical([wanted.settings, wanted.signature]):
            return cache.stream(key)
    return None
