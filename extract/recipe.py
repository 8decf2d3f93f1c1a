"""What one run of stage one is: the recipe as given, over a file's, over the defaults."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cache.cluster import check_workers
from cache.errors import ConfigError, UsageError
from cache.find import CACHES
from cache.recipe import build, find_recipe, merge
from cache.records import FACE_BOX, MODALITIES
from cache.registry import load_plugin
from extract.clock import check_fps
from extract.encoders import ENCODERS
from extract.faces import Mode
from extract.naming import Asked, parse, parse_all

SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class ExtractRecipe:
    """What to extract from where. An empty modality is left out; ``extract.naming`` says how streams are asked for.

    ``encoders`` holds options by the name of an encoder or, over those, of a stream; ``@`` in a stream is over both.

    ``dataset_options`` are the corpus's own, e.g. ``label_range``; the dataset's ``Config`` names them. A recording
    that takes longer than ``deadline_s`` seconds is given up. ``decode``: ``cpu``, or the hardware that decodes the
    video (``cuda``, ``qsv``, ... as PyAV offers), which is in the fingerprint of visual streams. ``fps``: frames a
    second of recordings without video (sound alone: 25 where it is None; crops alone need it). ``faces``: which face of
    raw video is cropped, see ``extract.faces``; ``face_weights``: the detector's file or hub id. ``plugins``: Python
    files that register a dataset or an encoder of one's own.

    ``recogniser``: a Whisper (hub id or folder) for the words of recordings without a transcript, in ``language``
    (``en``; detected where it is empty); both are in the fingerprint of text streams. Without one those have no words.

    ``workers``: so many processes of this machine (0: this one alone), or with ``cluster`` so many of its jobs.
    ``scheduler``: the address of a Dask cluster that does the work; ``cluster``: one that is started for it, such as
    ``slurm:FILE.toml``. See ``extract.executor``; none of them changes a number.
    """

    dataset: str
    root: Path
    cache: Path | str  # a folder, or a URL
    dataset_options: dict[str, Any] = field(default_factory=dict)
    visual: tuple[str, ...] = ("swin",)
    audio: tuple[str, ...] = ("hubert",)
    text: tuple[str, ...] = ("roberta",)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    align: Literal["overlap", "linear", "nearest"] = "overlap"
    dtype: Literal["float16", "float32", "bfloat16"] = "float16"
    device: str = "auto"
    decode: str = "cpu"
    deadline_s: float = 6 * 3600.0
    fps: float | None = None
    faces: Mode = "none"
    face_weights: str = "hub"
    recogniser: str = ""
    language: str = ""
    plugins: tuple[Path, ...] = ()
    workers: int = 0
    scheduler: str = ""
    cluster: str = ""

    def __post_init__(self) -> None:
        check_fps(self.fps)
        if self.faces == "none" and self.face_weights != "hub":
            raise ConfigError("face_weights are given, but no face is cropped", hint="add --faces largest")
        if self.recogniser and not self.text:
            raise ConfigError("a recogniser is given, but no stream of text", hint="name one: --text roberta")
        if self.language and not self.recogniser:
            told = f"language is {self.language!r}, but nothing is recognised"
            raise ConfigError(told, hint="name a model: --recogniser openai/whisper-small")
        if self.workers < 0:
            raise ConfigError(
                f"{self.workers} workers are asked for", hint="give 0, which is this process alone, or more"
            )
        check_workers(self.workers, self.scheduler, self.cluster)


def extract_recipe(given: dict[str, Any], recipe: Path | None = None) -> ExtractRecipe:
    """Defaults < the recipe file (or shipped name) < what was given; tables named after an encoder are its options.

    The root defaults to ``data/<dataset>``, the cache to ``var/cache/<dataset>``. Raises UsageError without a dataset,
    ConfigError for unknown keys and for options of encoders that the run does not use.
    """
    data = merge(find_recipe(recipe, SHIPPED), given)
    name = data.get("dataset")
    if not name:
        raise UsageError("no dataset is named", hint="give --dataset NAME; python cli.py list datasets")
    data = merge({"root": Path("data") / name, "cache": CACHES / name}, data)
    for plugin in data.get("plugins", ()):
        load_plugin(Path(plugin))
    asked = _asked(data)
    tables = {*ENCODERS.names(), *(a.stream for a in asked)}
    options = {k: v for k, v in data.items() if k in tables}
    rest = {k: v for k, v in data.items() if k not in tables}
    made = build(ExtractRecipe, merge(rest, {"encoders": options}))
    unused = set(made.encoders) - {n for a in asked for n in (a.encoder, a.stream)}
    if unused and recipe is None:
        raise ConfigError(f"options for {', '.join(sorted(unused))} are given, but the run does not use it")
    return made


def _asked(data: dict[str, Any]) -> list[Asked]:
    """The streams of a recipe that is not checked yet: what is no list of names is left to the checks."""
    given = [data.get(m, getattr(ExtractRecipe, m)) for m in MODALITIES]
    texts = [t for some in given if isinstance(some, list | tuple) for t in some if isinstance(t, str)]
    return parse_all(texts, [*ENCODERS.names(), FACE_BOX])


def options_of(recipe: ExtractRecipe, text: str) -> dict[str, Any]:
    """Options of a stream from the recipe's tables: its encoder's, under its own."""
    asked = parse(text)
    return merge(recipe.encoders.get(asked.encoder, {}), recipe.encoders.get(asked.stream, {}))
