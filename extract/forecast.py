"""What a run would cost, before it runs: hours, gigabytes and peak memory of every stream, at every precision.

Lengths come from headers, speed and memory from a short probe on the corpus's own media. Nothing is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache.progress import progress
from cache.records import Recording, StreamSpec
from cache.remote import local_root
from cache.store import FeatureCache
from extract.encoders import Encoder
from extract.plan import Job, plan
from extract.probe import at_precision, probe
from extract.reading import reading_s
from extract.recipe import ExtractRecipe
from extract.run import prepare
from extract.sizes import GB, Size, bytes_needed, free_bytes, size_of
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
    """A run before it runs. unreadable: recordings whose header cannot be read; fits: whether the disk has room.

    reading_hours: of decoding, once a recording for all its streams. hours: that and the streams as asked for, one
    after the other; a run reads ahead while it encodes, so it may end sooner. gigabytes: also of files in between.
    spread_hours: of so many ``workers``, each with a device of its own like the probed one, and no faster than the
    longest recording.
    """

    dataset: str
    device: str
    recordings: int
    unreadable: int
    media_hours: float
    frames: int
    streams: list[StreamCost]
    reading_hours: float
    hours: float
    workers: int
    spread_hours: float
    gigabytes: float
    free_gigabytes: float
    fits: bool


def run_plan(recipe: ExtractRecipe, *, quiet: bool = False) -> Forecast:
    """Probe every stream and the reading of media. Raises what ``run_extract`` would, for a wrong recipe or root."""
    _, recordings, asked = prepare(recipe)
    root = local_root(recipe.cache)
    cache = FeatureCache(root) if (root / "zarr.json").is_file() else None
    sizes = {r.id: size for r in recordings if (size := size_of(r, cache)) is not None}
    wanted = {w.name: w for w in asked}
    timed = cache.timelines.has if cache else lambda id: False
    jobs = _jobs(recordings, wanted, cache, timed)
    specs = {name: StreamSpec(name, w.modality, w.encoder.dim) for name, w in wanted.items()}
    room = bytes_needed(jobs, specs, sizes, recipe.dtype)
    costs: list[StreamCost] = []
    with progress("plan", len(wanted) + 1, quiet=quiet) as step:
        for name, stream in wanted.items():
            missing = [j.recording for j in jobs if name in j.keys]
            costs += _costs(stream, missing, sizes, room.streams[name], recipe)
            step()
        reading = reading_s(jobs, [*wanted.values()], sizes, timed) / HOUR_S
        step()
    free = free_bytes(root.absolute())
    hours = reading + sum(c.hours or 0 for c in costs if c.chosen)
    return Forecast(
        dataset=recipe.dataset,
        device=str(torch_device(recipe.device)),
        recordings=len(recordings),
        unreadable=len(recordings) - len(sizes),
        media_hours=round(sum(s.seconds for s in sizes.values()) / HOUR_S, 6),
        frames=sum(s.frames for s in sizes.values()),
        streams=costs,
        reading_hours=round(reading, 6),
        hours=round(hours, 6),
        workers=max(1, recipe.workers),
        spread_hours=round(hours * _share(jobs, sizes, recipe.workers), 6),
        gigabytes=round(room.total / GB, 4),
        free_gigabytes=round(free / GB, 1),
        fits=room.total <= free,
    )


def _share(jobs: list[Job], sizes: dict[str, Size], workers: int) -> float:
    """The part of the work that the busiest of so many workers does; a recording is never split."""
    seconds = [sizes[j.recording.id].seconds for j in jobs if j.recording.id in sizes]
    return max(1 / max(1, workers), max(seconds, default=0.0) / max(sum(seconds), 1e-9))


def _jobs(
    recordings: list[Recording], wanted: dict[str, Wanted], cache: FeatureCache | None, timed: Callable[[str], bool]
) -> list[Job]:
    """What each recording lacks, by names of streams."""
    keys = {name: remembered_key(cache, w) for name, w in wanted.items()} if cache else {}
    return plan(recordings, wanted, lambda name, id: bool(keys.get(name)) and cache.has(keys[name], id), timed)[0]


def _costs(
    wanted: Wanted, missing: list[Recording], sizes: dict[str, Size], stored: int, recipe: ExtractRecipe
) -> list[StreamCost]:
    some = [sizes[r.id] for r in missing if r.id in sizes]
    work = sum(s.frames if wanted.modality == "visual" else s.seconds for s in some)
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
        left = name in ("stream", "precision")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "stream", overflow="fold")
    for c in f.streams:
        cells = (str(c.recordings), _figure(c.hours), _figure(c.gigabytes), _figure(c.memory_mb))
        table.add_row(c.stream, c.precision + (" *" if c.chosen else ""), *cells, style="" if c.chosen else "dim")
    table.add_row("(reading media)", "", "", _figure(f.reading_hours), "", "")
    table.caption = f"* as asked for: {_figure(f.hours)} h, {_figure(f.gigabytes)} GB of {f.free_gigabytes} GB free"
    if f.workers > 1:
        table.caption += f"\n{f.workers} workers, each with such a device of its own: {_figure(f.spread_hours)} h"
    table.caption_justify = "left"
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
