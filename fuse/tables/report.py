"""Tables for a terminal of 80 columns."""

from rich import box
from rich.table import Table
from rich.text import Text

from fuse.elsewhere import Elsewhere
from fuse.numbers.bootstrap import LEVEL, Interval
from fuse.numbers.evaluate import Evaluation
from fuse.numbers.robustness import Robustness
from fuse.tables.grid import Published
from fuse.tables.ranked import Ablation, data_lines, spread, thousands
from fuse.tables.summary import RowResult
from fuse.train import RunResult


def ablation_table(made: Ablation) -> Table:
    """Rank, raw CCC of valence, arousal and their mean with its interval, the mean after smoothing, and size.

    Where a paper has numbers of its own, its valence and arousal (or its mean alone) stand in place of the size. The
    best mean is bold: whether it beats the next is told below.
    """
    table = Table(title=_title(made), title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    papers = any(r.paper for r in made.rows)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name in ("V", "A", "mean", f"{LEVEL:.0%}", "smooth", "paper V A" if papers else "params"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in made.rows:
        table.add_row(
            str(row.rank or ""),
            row.label,
            f"{row.raw['valence'].mean:.3f}",
            f"{row.raw['arousal'].mean:.3f}",
            spread(row.raw["mean"]),
            _raw_range(row),
            f"{row.smoothed['mean'].mean:.3f}",
            Text(_of_paper(row.paper), "not bold") if papers else thousands(row.parameters),
            style="bold" if row.rank == 1 else "dim" if row.control else "",
        )
    data = [d for row in made.rows for d in row.data]
    partial = len(set(map(data_lines, ([d] for d in data)))) > 1 or not all(s.whole for s in data[0].values())
    told = [*made.notes, *(data_lines(data).splitlines() if partial else [])]
    table.caption, table.caption_justify = "\n".join(f"- {line}" for line in told) or None, "left"
    return table


def _title(made: Ablation) -> str:
    return f"{made.title}\n{made.numbers}" if made.title else made.numbers


def _of_paper(paper: Published | None) -> str:
    """``.531 .468``, or the mean where that is all there is; in brackets where it is another model's."""
    if paper is None:
        return ""
    both = [v for v in (paper.valence, paper.arousal) if v is not None]
    told = " ".join(f"{v:.3f}".replace("0.", ".") for v in both)
    if not both and paper.mean is not None:
        told = f"mean {paper.mean:.3f}".replace("0.", ".")
    return f"({told})" if paper.of else told


def run_table(result: RunResult) -> Table:
    """One run: a row for each partition and way of scoring."""
    title = f"{result.head} on {', '.join(result.streams)}, seed {result.seed}: CCC"
    return _scores_table(title, result.evaluations, data_lines([result.data]))


def elsewhere_table(found: Elsewhere) -> Table:
    """A run on another cache, or files alone: the numbers, and what the two corpora differ in."""
    lines = [data_lines([{found.partition: found.share}])] if found.share else []
    lines += [f"trained on {found.trained_on}"] if found.trained_on else []
    lines += [f"scored on {found.scored_on}"] if found.scored_on else []
    e = found.evaluation
    lines = lines or [f"{e.recordings} recordings, {e.frames:,} labelled frames"]
    title = f"{found.source} on {found.dataset}: CCC"
    return _scores_table(title, {found.partition: e}, "\n".join(lines))


def _scores_table(title: str, evaluations: dict[str, Evaluation], caption: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("partition", "scored", "valence", "arousal", "mean"):
        number = name in ("valence", "arousal", "mean")
        table.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    table.caption, table.caption_justify = caption, "left"
    for partition, e in evaluations.items():
        wide = f"smoothed, {e.smooth} frames"
        kinds = {"raw, all frames": e.raw, wide: e.smoothed, "mean over recordings": e.per_recording}
        sure = (e.raw_interval, e.smoothed_interval, e.per_recording_interval)
        for (kind, s), i in zip(kinds.items(), sure, strict=True):
            table.add_row(partition, kind, f"{s.valence:.3f}", f"{s.arousal:.3f}", f"{s.mean:.3f}")
            if i:
                table.add_row(
                    "", f"  {LEVEL:.0%} over {e.recordings} recordings", *map(_range, (i.valence, i.arousal, i.mean))
                )
    return table


def _raw_range(row: RowResult) -> str:
    found = row.intervals["raw"]
    return _range(found.mean) if found else ""


def _range(i: Interval) -> str:
    return f"[{i.low:.2f} {i.high:.2f}]".replace("0.", ".")


def area_table(found: Robustness) -> Table:
    """The mean CCC along each curve, beside that on whole data and the floor; runs go by letters, told below."""
    title = f"{found.dataset}, {found.partition}, {found.recordings} recordings: raw mean CCC under corruption"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("run", "of", "kind", "whole", "along the curve", "floor"):
        number = name in ("whole", "along the curve", "floor")
        table.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    letters = {run: chr(ord("A") + i) for i, run in enumerate(dict.fromkeys(a.run for a in found.areas))}
    for a in found.areas:
        floor = "" if a.floor is None else f"{a.floor:.3f}"
        kind = f"{a.kind}, {a.pattern}" if a.pattern else a.kind
        table.add_row(letters[a.run], a.modality, kind, f"{a.clean:.3f}", f"{a.area:.3f}", floor)
    table.caption, table.caption_justify = "\n".join(f"{v}: {k}" for k, v in letters.items()), "left"
    return table
