"""The outcome of an extraction in a few lines."""

from extract.run import ExtractResult


def extract_lines(result: ExtractResult) -> list[str]:
    """What was made and kept, notes, and each failure with its cause."""
    did = f"{result.made} made, {result.kept} already there" if result.made or not result.kept else "nothing to do"
    lines = [f"{result.recordings} recordings x {len(result.streams)} streams in {result.seconds:.1f} s: {did}"]
    lines.append(f"cache {result.cache}: {', '.join(result.streams)}")
    lines += [f"note: {n}" for n in result.notes]
    if result.failures:
        lines.append(f"{len(result.failures)} failures, also listed in {result.cache}/failures.csv:")
        lines += [f"  {f}" for f in result.failures]
    return lines
