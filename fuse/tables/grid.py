"""What a table is before anything is trained: its rows, what a paper reports for them, and grids made of flags."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.errors import UsageError
from cache.store import FeatureCache
from fuse.feeding.streams import choose_streams, named_streams
from fuse.heads import HEADS


@dataclass(frozen=True)
class Published:
    """CCCs that a paper prints for a row; None where it prints none. of: another model, if they are not the row's."""

    valence: float | None = None
    arousal: float | None = None
    mean: float | None = None
    of: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``set`` goes over the table's shared training settings; control: not a contestant.

    label: may hold roles in braces, ``{i3d}``, for the streams that play them. seeds: of this row alone, where a noisy
    control needs more than the table; 0 is the table's number. note: printed under the table.
    """

    label: str
    head: str
    streams: tuple[str, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    control: bool = False
    seeds: int = 0
    paper: Published | None = None
    note: str = ""


@dataclass(frozen=True)
class AblateRecipe:
    """Rows x seeds 0..seeds-1; workers, scheduler and cluster: as ``fuse.many.run_many`` takes them.

    train: settings shared by all rows; heads: settings by head over them; a row's own ``set`` over both.
    streams: the stream that plays each role, where rows name roles; skip_missing: leave out rows whose streams the
    cache lacks. extract: the flags that ``extract`` makes those streams with. paper: who printed the rows' published
    numbers, and on which split. notes: printed under the table.
    """

    cache: Path | str  # a folder, or a URL
    rows: tuple[Row, ...]
    runs: Path = Path("var/runs")
    train: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: int = 3
    workers: int = 1
    scheduler: str = ""
    cluster: str = ""
    partition: str = "test"
    title: str = ""
    paper: str = ""
    notes: tuple[str, ...] = ()
    streams: dict[str, str] = field(default_factory=dict)
    skip_missing: bool = False
    extract: str = ""


@dataclass(frozen=True)
class Grid:
    """Heads x streams. named: stream names by modality, as ``named_streams`` takes them; subsets: every choice of them.

    A head that takes one stream alone gets a row for each of them.
    """

    heads: tuple[str, ...]
    named: dict[str, list[str] | None] = field(default_factory=dict)
    subsets: bool = False


def make_grid(heads: list[str] | None, named: dict[str, list[str] | None], subsets: bool) -> Grid | None:
    """The grid that flags ask for; None where they ask for none. Raises UsageError for streams without a head."""
    if heads:
        return Grid(tuple(dict.fromkeys(heads)), named, subsets)
    if subsets or any(names is not None for names in named.values()):
        raise UsageError(
            "streams are named for a grid, but no heads",
            hint="add --heads NAMES; the rows of a recipe are given other streams by --set streams.ROLE=NAME",
        )
    return None


def grid_rows(grid: Grid, cache: FeatureCache) -> list[dict[str, Any]]:
    """Rows of a grid as plain data, head by head, fewer streams first. Raises UsageError for unknown names."""
    chosen = named_streams(cache, grid.named)
    specs = choose_streams(cache, tuple(chosen["streams"] or ()), tuple(chosen["without"] or ()))
    sizes = range(1, len(specs) + 1)
    whole = [list(itertools.combinations(specs, n)) for n in sizes]
    rows = []
    for head in grid.heads:
        single = HEADS.get(head).single_stream
        wanted = whole[0] if single else itertools.chain(*whole) if grid.subsets else whole[-1]
        for some in wanted:
            names = "+".join(s.name for s in some)
            label = f"{head}, {names}" if single or grid.subsets else head
            rows.append({"label": label, "head": head, "streams": [s.key for s in some]})
    return rows
