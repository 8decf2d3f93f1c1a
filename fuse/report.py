"""Tables for a terminal of 80 columns, and the same as Markdown."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from fuse.ablate import RowResult, Summary
from fuse.bootstrap import LEVEL, Interval
from fuse.elsewhere import Elsewhere
from fuse.evaluate import Evaluation
from fuse.robustness import Robustness
from fuse.snapshot import Share
from fuse.train import RunResult


def _spread(s: Summary) -> str:
    return f"{s.mean:.3f}" + (f" ±{s.std:.3f}".replace("0.", ".") if len(s.values) > 1 else "")


def ablation_table(rows: Sequence[RowResult], partition: str) -> Table:
    """Raw CCC of valence, arousal and their mean with its interval, the mean after smoothing, and size.

    The best mean is bold: whether it beats the next is for ``compare`` to say.
    """
    seeds = len(rows[0].folders)
    title = f"CCC on {partition}, mean{' ± std' if seeds > 1 else ''} over {seeds} seed{'s' if seeds > 1 else ''}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("valence", "arousal", "mean", f"{LEVEL:.0%}", "smooth", "params"):
        table.add_column(name, justify="right", no_wrap=True)
    data = [d for row in rows for d in row.data]
    if len(dict.fromkeys(map(data_lines, ([d] for d in data)))) > 1 or not all(s.whole for s in data[0].values()):
        table.caption, table.caption_justify = data_lines(data), "left"
    best = max((r.raw["mean"].mean for r in rows if not r.control), default=0.0)
    for row in rows:
        table.add_row(
            row.label,
            f"{row.raw['valence'].mean:.3f}",
            f"{row.raw['arousal'].mean:.3f}",
            _spread(row.raw["mean"]),
            _raw_range(row),
            f"{row.smoothed['mean'].mean:.3f}",
            _thousands(row.parameters),
            style="bold" if row.raw["mean"].mean == best else "dim" if row.control else "",
        )
    return table


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
        table.add_column(name, justify="right" if name in ("valence", "arousal", "mean") else "left", no_wrap=True)
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
        table.add_column(name, justify="right" if name in ("whole", "along the curve", "floor") else "left")
    letters = {run: chr(ord("A") + i) for i, run in enumerate(dict.fromkeys(a.run for a in found.areas))}
    for a in found.areas:
        floor = "" if a.floor is None else f"{a.floor:.3f}"
        kind = f"{a.kind}, {a.pattern}" if a.pattern else a.kind
        table.add_row(letters[a.run], a.modality, kind, f"{a.clean:.3f}", f"{a.area:.3f}", floor)
    table.caption, table.caption_justify = "\n".join(f"{v}: {k}" for k, v in letters.items()), "left"
    return table


def data_lines(data: Sequence[dict[str, Share]]) -> str:
    """What the numbers of some runs rest on, a line a partition; where runs rest on different data, that is said."""
    lines = []
    for partition in data[0]:
        shares = list(dict.fromkeys(d[partition] for d in data))
        frames = f"{shares[0].frames:,} labelled frames" if len(shares) == 1 else "NOT THE SAME FOR ALL ROWS"
        lines.append(f"{partition}: {'; '.join(map(str, shares))}, {frames}")
    return "\n".join(lines)


def markdown(rows: Sequence[RowResult]) -> str:
    """The ablation as a Markdown table."""
    head = ["", "valence", "arousal", "mean", f"{LEVEL:.0%} interval", "smoothed", "parameters", "s/run"]
    lines = [f"| {' | '.join(head)} |".replace("|  |", "| |"), "|---" * len(head) + "|"]
    for r in rows:
        cells = [f"{r.raw[d].mean:.3f}" for d in ("valence", "arousal")]
        cells += [
            _spread(r.raw["mean"]),
            _raw_range(r),
            f"{r.smoothed['mean'].mean:.3f}",
            _thousands(r.parameters),
            f"{r.seconds:.1f}",
        ]
        lines.append(f"| {r.label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _thousands(n: int) -> str:
    return f"{n / 1e6:.1f}M" if n >= 1e6 else f"{n / 1e3:.1f}k" if n >= 1000 else str(n)
