"""What the demo leaves behind: the table as JSON and Markdown, and pictures of its best row on validation."""

from pathlib import Path

from cache.recipe import to_json
from cache.records import Labels
from cache.store import FeatureCache
from fuse.feeding.locked import open_test_labels
from fuse.feeding.snapshot import take_snapshot
from fuse.numbers.metrics import ccc_va
from fuse.plots import plot_ablation, plot_circumplex, plot_traces, predicted_by
from fuse.tables.ranked import Ablation
from fuse.tables.table_files import markdown

PARTITION, PROTOCOL = "test", "va"


def save_demo(root: Path, cache_root: Path, table: Ablation) -> list[str]:
    """Write ``results.json``, ``results.md`` and ``plots/*.png`` below root; returns lines that say where."""
    (root / "results.json").write_text(to_json(table), encoding="utf-8")
    (root / "results.md").write_text(markdown(table), encoding="utf-8")
    plots = root / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    plot_ablation(plots / "ablation.png", table.rows, PARTITION)
    best = max((r for r in table.rows if not r.control), key=lambda r: r.validation.mean)  # test chooses nothing
    run = Path(best.folders[0])
    labels = open_test_labels(take_snapshot(FeatureCache(cache_root), (), PROTOCOL), run, "pictures of the demo")
    plot_circumplex(plots / "circumplex.png", run, PARTITION, labels)
    shown = _median_recording(run, labels)
    plot_traces(plots / "traces.png", shown, run, PARTITION, labels[shown])
    return [f"table: {root}/results.json; plots of {best.label} (best on validation): {plots}/"]


def _median_recording(run: Path, labels: dict[str, Labels]) -> str:
    """The recording whose own CCC is the median: neither the showpiece nor the failure."""

    def own(recording: str) -> float:
        _, pred = predicted_by(run, PARTITION, recording)
        return ccc_va(pred, labels[recording].va, labels[recording].labelled).mean

    ranked = sorted(labels, key=own)
    return ranked[len(ranked) // 2]
