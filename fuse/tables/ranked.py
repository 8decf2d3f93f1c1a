"""A table that is done: its rows, whether the first beats the second, and the lines to print under it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.errors import UsageError
from fuse.feeding.snapshot import Share
from fuse.numbers.bootstrap import LEVEL, Difference, least_p
from fuse.numbers.compare import Comparison, compare_folders
from fuse.tables.grid import Published
from fuse.tables.summary import RowResult, Summary


@dataclass(frozen=True)
class Ablation:
    """Rows on one partition. first_against_second: by rank, None for fewer than two rows or where they do not pair.

    paper: who printed the rows' published numbers, and on which split. notes: everything to be read with the table.
    """

    title: str
    partition: str
    paper: str
    rows: list[RowResult]
    first_against_second: Comparison | None
    notes: list[str]

    @property
    def numbers(self) -> str:
        """What the numbers are: ``raw CCC on test, mean ± std over 3 seeds``."""
        seeds = len(self.rows[0].folders)
        return f"raw CCC on {self.partition}, mean{' ± std' if seeds > 1 else ''} over {seeds} seed{'s' * (seeds > 1)}"


def conclude(
    rows: list[RowResult], partition: str, *, title: str = "", paper: str = "", notes: Sequence[str] = ()
) -> Ablation:
    """The table of these rows. notes: what its recipe has to say of it."""
    found, told = _first_against_second(rows, partition)
    chose = "validation chose the epoch of each run, too" if partition == "validation" else ""
    lines = [told, chose, f"paper: {paper}; with its own encoders and data" if paper else "", *notes, *map(_note, rows)]
    return Ablation(title, partition, paper, rows, found, [line for line in lines if line])


def _note(row: RowResult) -> str:
    of = f"the paper's numbers, in brackets, are of {row.paper.of}" if row.paper and row.paper.of else ""
    told = "; ".join(filter(None, (of, row.note)))
    return f"{row.label}: {told}" if told else ""


def _first_against_second(rows: list[RowResult], partition: str) -> tuple[Comparison | None, str]:
    """The two best rows, over the seeds that both have."""
    ranked = sorted((r for r in rows if r.rank is not None), key=lambda r: r.rank or 0)
    best = ranked[:2]
    if len(best) < 2:
        return None, ""
    pair = f"{best[0].label} against {best[1].label}"
    seeds = min(len(r.folders) for r in best)
    a, b = ([Path(f) for f in r.folders[:seeds]] for r in best)
    try:
        found = compare_folders(a, b, partition)
    except UsageError as error:
        return None, f"{pair}: not compared, {error.message}"
    if found.differences is None:
        return found, f"{pair}: not compared, one recording tells nothing about others"
    d, verdict = found.differences["mean"], _verdict(found.differences["mean"], found.recordings)
    chosen = f"; p is of these two alone, out of {len(ranked)} rows" if len(ranked) > 2 else ""
    interval = f"{LEVEL:.0%} [{d.interval.low:+.3f} {d.interval.high:+.3f}]"
    over = f"over {found.recordings} recordings"
    return found, f"{pair}: raw mean {d.difference:+.3f} {interval}, p {d.p:.3f} {over}: {verdict}{chosen}"


def _verdict(d: Difference, recordings: int) -> str:
    if least_p(recordings) > 1 - LEVEL:
        return "too few recordings to tell"
    sure = d.p < 1 - LEVEL and d.interval.low > 0  # where p and interval disagree, nothing is claimed
    return "beats it" if sure else "not told apart"


def spread(s: Summary) -> str:
    """``0.531 ±.012``; without the spread for one seed."""
    return f"{s.mean:.3f}" + (f" ±{s.std:.3f}".replace("0.", ".") if len(s.values) > 1 else "")


def printed(paper: Published | None, dimension: str) -> str:
    """A paper's number, in brackets where it is another model's; empty where there is none."""
    value = getattr(paper, dimension) if paper else None
    if paper is None or value is None:
        return ""
    return f"({value:.3f})" if paper.of else f"{value:.3f}"


def thousands(n: int) -> str:
    """``1.2M``, ``3.4k``, ``17``."""
    return f"{n / 1e6:.1f}M" if n >= 1e6 else f"{n / 1e3:.1f}k" if n >= 1000 else str(n)


def data_lines(data: Sequence[dict[str, Share]]) -> str:
    """What the numbers of some runs rest on, a line a partition; where runs rest on different data, that is said."""
    lines = []
    for partition in data[0]:
        shares = list(dict.fromkeys(d[partition] for d in data))
        frames = f"{shares[0].frames:,} labelled frames" if len(shares) == 1 else "NOT THE SAME FOR ALL ROWS"
        lines.append(f"{partition}: {'; '.join(map(str, shares))}, {frames}")
    return "\n".join(lines)
