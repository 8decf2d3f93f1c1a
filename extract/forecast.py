"""What a run would cost, before it runs: hours, gigabytes and peak memory of every stream, at every precision.

Lengths come from headers, speed and memory from a short probe on the corpus's own media. Nothing is written.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache.progress import progress
from cache.records import Recording, StreamSpec
from cache.remote import local_root
from cache.store import FeatureCache
from extract.encoders import Encoder
from extract.probe import at_precision, probe
from extract.recipe import ExtractRecipe
from extract.run import prepare
from extract.sizes import GB, Size, free_bytes, size_of, stream_bytes
from extract.streams import Wanted, remembered_key, torch_device

if TYPE_CHECKING:
    from rich.table import Table

HOUR_S = 3600.0


@dataclass(frozen=True)
class StreamCost:
    """One stream at one precision; ``chosen`` is that of the recipe. hours, memory_mb: None where nothing was read."""

    stream: str
    precision: str
    chosen: bool
    recordings: int
    hours: float | None
    gigabytes: float
    memory_mb: float | None


@dataclass(frozen=True)
class Forecast:
    """A run before it runs. unreadable: recordings whose header cannot be read; fits: whether the disk has room."""

    dataset: str
    device: str
    recordings: int
    unreadable: int
    media_hours: float
    frames: int
    streams: list[StreamCost]
    hours: float
    gigabytes: float
    free_gigabytes: float
    fits: bool


def run_plan(recipe: ExtractRecipe, *, quiet: bool = False) -> Forecast:
    """Probe every stream. Raises what ``run_extract`` would, for a wrong recipe, root or weights."""
    _, recordings, wanted = prepare(recipe)
    root = local_root(recipe.cache)
    cache = FeatureCache(root) if (root / "zarr.json").is_file() else None
    sizes = {r.id: size for r in recordings if (size := size_of(r, cache)) is not None}
    costs: list[StreamCost] = []
    with progress("plan", len(wanted), quiet=quiet) as step:
        for stream in wanted:
            costs += _costs(stream, _missing(recordings, stream, cache), sizes, recipe)
            step()
    chosen = [c for c in costs if c.chosen]
    needed, free = sum(c.gigabytes for c in chosen), free_bytes(root.absolute()) / GB
    return Forecast(
        dataset=recipe.dataset,
        device=str(torch_device(recipe.device)),
        recordings=len(recordings),
        unreadable=len(recordings) - len(sizes),
        media_hours=round(sum(s.seconds for s in sizes.values()) / HOUR_S, 6),
        frames=sum(s.frames for s in sizes.values()),
        streams=costs,
        hours=round(sum(c.hours or 0 for c in chosen), 6),
        gigabytes=round(needed, 4),
        free_gigabytes=round(free, 1),
        fits=needed < free,
    )


def _missing(recordings: list[Recording], wanted: Wanted, cache: FeatureCache | None) -> list[Recording]:
    """Recordings that the stream lacks."""
    key = remembered_key(cache, wanted) if cache else ""
    return [r for r in recordings if not (cache and key and cache.has(key, r.id))]


def _costs(wanted: Wanted, missing: list[Recording], sizes: dict[str, Size], recipe: ExtractRecipe) -> list[StreamCost]:
    some = [sizes[r.id] for r in missing if r.id in sizes]
    work = sum(s.frames if wanted.modality == "visual" else s.seconds for s in some)
    spec = StreamSpec(wanted.name, wanted.modality, wanted.encoder.dim)
    stored = sum(stream_bytes(spec, s.frames, recipe.dtype) for s in some)
    rows = []
    for precision in _precisions(wanted.encoder, torch_device(recipe.device).type):
        cost = probe(at_precision(wanted.encoder, precision), missing, recipe.device, wanted.faces)
        rows.append(
            StreamCost(
                stream=wanted.name,
                precision=precision,
                chosen=precision == getattr(wanted.encoder.cfg, "precision", ""),
                recordings=len(missing),
                hours=round(cost.cost_s * work / HOUR_S, 6) if cost else None if some else 0.0,
                gigabytes=round(stored / GB, 4),
                memory_mb=round(cost.memory_mb) if cost else None,
            )
        )
    return rows


def _precisions(encoder: Encoder[Any], device: str) -> list[str]:
    """Those that make a difference on this device, the encoder's own first; "" for an encoder without a choice."""
    own = getattr(encoder.cfg, "precision", "")
    others = ("float32", "tf32", "bf16") if device == "cuda" else ("float32", "bf16")
    return list(dict.fromkeys((own, *others))) if own else [""]


def plan_table(forecast: Forecast) -> "Table":
    """The forecast for people."""
    from rich.table import Table

    f = forecast
    title = f"{f.dataset}: {f.recordings} recordings, {f.media_hours:.2f} h, {f.frames:,} frames, on {f.device}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("stream", "precision", "to do", "hours", "GB", "peak MB"):
        table.add_column(name, justify="left" if name in ("stream", "precision") else "right")
    for c in f.streams:
        cells = (str(c.recordings), _figure(c.hours), _figure(c.gigabytes), _figure(c.memory_mb))
        table.add_row(c.stream, c.precision + (" *" if c.chosen else ""), *cells, style="" if c.chosen else "dim")
    table.caption = f"* as asked for: {_figure(f.hours)} h, {_figure(f.gigabytes)} GB of {f.free_gigabytes} GB free"
    table.caption_justify = "left"
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
