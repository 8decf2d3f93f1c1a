"""The outcome of an extraction in a few lines."""

from extract.finetune import TrainedEncoder
from extract.run import ExtractResult
from extract.spent import spent_line


def extract_lines(result: ExtractResult) -> list[str]:
    """What was made and kept, notes, and each failure with its cause."""
    did = f"{result.made} made, {result.kept} already there" if result.made or not result.kept else "nothing to do"
    lines = [f"{result.recordings} recordings x {len(result.streams)} streams in {result.seconds:.1f} s: {did}"]
    lines.append(f"cache {result.cache}: {', '.join(result.streams)}")
    if result.bottleneck:
        lines.append(spent_line(result.spent))
    lines += [f"note: {n}" for n in result.notes]
    if result.failures:
        lines.append(f"{len(result.failures)} failures, also listed in {result.cache}/failures.csv:")
        lines += [f"  {f}" for f in result.failures]
    return lines


def trained_lines(made: TrainedEncoder) -> list[str]:
    """Scores on validation, where the weights are, and how to use them."""
    counts = ", ".join(f"{n:,} of {p}" for p, n in made.examples.items())
    return [
        f"{made.encoder}: validation CCC {made.mean:.3f} (valence {made.valence:.3f}, arousal {made.arousal:.3f})",
        f"at epoch {made.epoch}, on single frames; {counts} examples, {made.seconds:.0f} s",
        f"weights in {made.folder}; use them: python cli.py extract {made.use} ...",
    ]
