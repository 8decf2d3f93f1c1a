"""Labels and partitions are written whole: what the corpus does not give any more is dropped, and that is told."""

import numpy as np

from cache.labels import LabelStore
from cache.records import Timeline
from cache.store import FeatureCache
from extract.datasets import open_dataset
from extract.index import index_labels
from extract.recipe import extract_recipe
from extract.run import run_extract

CFR = np.arange(10) / 25


def test_labels_that_the_corpus_gives_no_more_are_dropped_and_named(light_encoders, media, manifest, tmp_path):
    film, labels = media(tmp_path / "a.mkv", CFR), tmp_path / "a.csv"
    labels.write_text("valence,arousal\n" + "0.1,0.2\n" * 10)
    rows = {f"r{i}": {"video": film, "labels": labels, "partition": "train"} for i in range(11)}
    given = {"dataset": "manifest", "root": manifest(**rows), "cache": tmp_path / "cache"}
    streams = {"visual": ["brightness"], "audio": [], "text": []}
    first = run_extract(extract_recipe({**given, **streams}), quiet=True)
    assert not [n for n in first.notes if "dropped" in n]
    cache = FeatureCache(tmp_path / "cache")
    notes, _ = index_labels(open_dataset("manifest", given["root"], {}), cache)
    assert not notes
    for name in ("r0", "r3"):
        rows[name].pop("labels")
    again = run_extract(extract_recipe({**given, **streams, "root": manifest(**rows)}), quiet=True)
    assert "labels of 2 recordings are dropped, the corpus gives none now: r0, r3" in again.notes
    assert len(FeatureCache(cache.root).labels.recordings("va")) == 9
    for name in [f"r{i}" for i in range(4, 11)]:
        rows[name].pop("labels")
    notes, failures = index_labels(open_dataset("manifest", manifest(**rows), {}), FeatureCache(cache.root))
    assert notes == ["labels of 7 recordings are dropped, the corpus gives none now: r10, r4, r5, r6, r7, ..."]
    assert not failures


def test_machines_at_one_url_label_each_others_recordings(light_encoders, media, manifest, monkeypatch, tmp_path):
    film, labels = media(tmp_path / "a.mkv", CFR), tmp_path / "a.csv"
    labels.write_text("valence,arousal\n" + "0.1,0.2\n" * 10)
    rows = {f"r{i}": {"video": film, "labels": labels, "partition": "train"} for i in range(4)}
    corpus = open_dataset("manifest", manifest(**rows), {})
    caches = {}
    for name in ("one", "other"):
        monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / name))
        caches[name] = FeatureCache.create(f"file://{tmp_path}/far", "manifest")
    caches["one"].timelines.write("r0", Timeline(CFR, 0.4))
    caches["other"].timelines.write("r1", Timeline(CFR, 0.4))
    index_labels(corpus, caches["one"])
    assert caches["one"].labels.recordings("va") == ["r0", "r1"]
    write, left = LabelStore.write, [1]

    def beside(*args):
        if left:  # the other one ends between our look at the URL and our writing
            left.clear()
            caches["other"].timelines.write("r2", Timeline(CFR, 0.4))
            index_labels(corpus, caches["other"])
        return write(*args)

    monkeypatch.setattr(LabelStore, "write", beside)
    caches["one"].timelines.write("r3", Timeline(CFR, 0.4))
    notes, failures = index_labels(corpus, caches["one"])
    assert (notes, failures) == ([], [])
    assert FeatureCache(f"file://{tmp_path}/far").labels.recordings("va") == ["r0", "r1", "r2", "r3"]
