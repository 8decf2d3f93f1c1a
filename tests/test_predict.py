"""From a finished run to new media: the features of its corpus, so the same numbers, or a line that says why not."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from cache.errors import CacheError, DataError, UsageError, WeightsNotFound
from cache.fingerprint import stream_key
from cache.labels import LabelStore
from cache.store import FeatureCache
from extract.again import Again, run_again
from extract.encoders._tensors import tensor_hash
from extract.encoders.swin import Swin
from extract.media import VideoFile
from extract.recipe import extract_recipe
from extract.run import run_extract
from fuse.finished import declared, load_run
from fuse.numbers.postprocess import postprocess
from fuse.prediction import in_partition, predict_all
from fuse.prediction_files import read_predictions
from fuse.recipe import TrainRecipe
from fuse.train import run_train

COUNT = 40
PARTITIONS = ("train", "train", "validation", "validation", "test", "test")


def write_words(path):
    path.write_text("1\n00:00:00,200 --> 00:00:00,900\nhello there\n")
    return path


def save_weights(folder, seed):
    """A micro Swin with random weights as a folder of safetensors."""
    from safetensors.torch import save_file

    encoder = Swin(Swin.Config(size="micro", weights=f"random:{seed}"))
    encoder.load(torch.device("cpu"))
    folder.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in encoder.net.state_dict().items()}, folder / "model.safetensors")
    return tensor_hash(encoder.net.state_dict())


@pytest.fixture(scope="module")
def corpus(media, tmp_path_factory):
    """Six clips with sound and words, extracted by micro encoders, test without labels; the picture tells valence."""
    root = tmp_path_factory.mktemp("corpus")
    rng, rows = np.random.default_rng(0), ["id,video,transcript,labels,partition"]
    save_weights(root / "swin", 3)
    for i, partition in enumerate(PARTITIONS):
        pts = np.cumsum(rng.uniform(0.03, 0.05, COUNT + i))
        level = rng.uniform(40, 220, COUNT + i)
        paint = lambda n, level=level: np.full((64, 64, 3), level[n], np.uint8)  # noqa: E731
        sound = rng.normal(size=int(pts[-1] * 16_000)).astype(np.float32) * 0.1
        media(root / f"clip{i}.mp4", pts, picture=paint, sound=sound)
        write_words(root / f"clip{i}.srt")
        va = np.stack([level / 128 - 1, -level / 256], 1)
        (root / f"clip{i}.csv").write_text("valence,arousal\n" + "".join(f"{v:.4f},{a:.4f}\n" for v, a in va))
        labels = "" if partition == "test" else f"clip{i}.csv"
        rows.append(f"clip{i},clip{i}.mp4,clip{i}.srt,{labels},{partition}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    micro = {"size": "micro", "weights": "random:0"}
    data = {"dataset": "manifest", "root": root, "cache": root / "cache", "device": "cpu", "hubert": micro}
    data |= {"roberta": micro, "swin": {"size": "micro", "weights": str(root / "swin")}}
    assert not run_extract(extract_recipe(data), quiet=True).failures
    return root


@pytest.fixture(scope="module")
def run(corpus):
    small = {"tokens": 16, "hop": 8, "batch_size": 4, "epochs": 2, "device": "cpu", "smooth": 5}
    made = run_train(TrainRecipe("concat", corpus / "cache", corpus / "runs", **small), quiet=True)
    return Path(made.folder)


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Runs ``predict`` in an empty folder; returns (exit code, result or None, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_command(*args):
        result = CliRunner().invoke(cli.app, ["predict", *map(str, args), "--json", "--quiet", "--device", "cpu"])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, json.loads(result.stdout) if result.stdout else None, result.stderr

    return run_command


def again(run, media, tmp_path, **more):
    how = Again(tmp_path / "new", device="cpu", **more)
    return run_again(media, declared(load_run(run)), how, quiet=True)


def test_new_media_has_the_numbers_that_it_has_in_a_corpus_bit_for_bit(corpus, run, tmp_path):
    trained = load_run(run)
    for name in ("clip5.mp4", "clip5.srt"):
        shutil.copy(corpus / name, tmp_path / name.replace("clip5", "mine"))
    new = again(run, [tmp_path / "mine.mp4"], tmp_path)
    assert new.keys == {s.name: s.key for s in trained.streams}
    assert (new.made, new.kept, new.failures) == (3, 0, {})
    here, _ = predict_all(
        trained, FeatureCache(new.cache), new.recordings, tmp_path / "a", keys=new.keys, device="cpu", quiet=True
    )
    cache = FeatureCache(corpus / "cache")
    there, failed = predict_all(
        trained, cache, in_partition(trained, cache, "test"), tmp_path / "b", device="cpu", quiet=True
    )
    assert not failed
    assert sorted(there) == ["clip4", "clip5"]
    for part in ("times", "raw", "smoothed"):
        assert np.array_equal(getattr(here["mine"], part), getattr(there["clip5"], part))
    assert (tmp_path / "a" / "mine.csv").read_bytes() == (tmp_path / "b" / "clip5.csv").read_bytes()


def test_files_hold_every_frame_at_its_time_smoothed_and_raw_and_nothing_is_made_twice(corpus, run, call, tmp_path):
    code, result, _ = call(run, corpus / "clip4.mp4")
    assert code == 0
    assert result["frames"] == {"clip4": COUNT + 4}
    assert Path(result["folder"]) == Path("var/predict/manifest") / run.name
    times, smoothed = read_predictions(Path(result["folder"]) / "clip4.csv")
    same, raw = read_predictions(Path(result["folder"]) / "raw" / "clip4.csv")
    pts = VideoFile(corpus / "clip4.mp4").read_times().pts
    np.testing.assert_allclose(times, pts, atol=1e-6)
    assert np.array_equal(times, same)
    np.testing.assert_allclose(smoothed, postprocess({"": raw}, 5)[""], atol=2e-6)
    assert np.abs(smoothed - raw).max() > 1e-4
    assert again(run, [corpus / "clip4.mp4"], tmp_path).made == 3
    assert again(run, [corpus / "clip4.mp4"], tmp_path).made == 0


def test_neither_the_corpus_nor_its_cache_is_needed(corpus, run, call, tmp_path, monkeypatch):
    video = shutil.copy(corpus / "clip4.mp4", tmp_path / "x.mp4")
    (corpus / "cache").rename(corpus / "gone")
    try:
        assert call(run, video)[0] == 0
        old = tmp_path / "old"
        shutil.copytree(run, old)
        record = json.loads((old / "environment.json").read_text())
        del record["declared"]
        (old / "environment.json").write_text(json.dumps(record))
        code, _, err = call(old, video)
        assert code == 1
        assert "does not say how its streams were made" in err
        assert err.count("\n") == 1
    finally:
        (corpus / "gone").rename(corpus / "cache")
    assert call(old, video)[0] == 0  # a run from before the record: its cache says it


def test_a_partition_is_predicted_without_opening_a_label(corpus, run, call, monkeypatch):
    def locked(*args):
        raise AssertionError("a label was opened")

    monkeypatch.setattr(LabelStore, "read", locked)
    code, result, _ = call(run, "--partition", "test")
    assert (code, sorted(result["frames"])) == (0, ["clip4", "clip5"])
    assert not (run / "test_evaluations.csv").exists()
    code, result, _ = call(run, "--partition", "validation", "--cache", corpus / "cache")
    assert sorted(result["frames"]) == ["clip2", "clip3"]
    assert call(run, "--partition", "test", corpus / "clip4.mp4")[0] == 2
    assert call(run)[0] == 2


def test_a_recording_that_was_not_extracted_is_named_and_the_others_go_on(corpus, run, call, tmp_path):
    shutil.copytree(corpus / "cache", tmp_path / "cache")
    cache = FeatureCache(tmp_path / "cache")
    shutil.rmtree(cache.folder(cache.resolve("hubert").key, "clip5"))
    code, result, _ = call(run, "--partition", "test", "--cache", cache.root)
    assert (code, [*result["frames"]]) == (3, ["clip4"])
    assert "lacks hubert of 'clip5'" in result["failures"][0]


def test_what_lacks_sound_words_or_picture_is_predicted_and_what_is_no_film_is_named(
    corpus, run, call, media, tmp_path
):
    media(tmp_path / "silent.mp4", np.arange(30) / 25)
    media(tmp_path / "one.mp4", np.array([0.5]), sound=np.zeros(8000, np.float32))
    (tmp_path / "bad.mp4").write_text("no film")
    (tmp_path / "..mp4").write_bytes((tmp_path / "silent.mp4").read_bytes())
    names = ["silent.mp4", "one.mp4", "bad.mp4", "none.mp4", "..mp4"]
    code, result, _ = call(run, *(tmp_path / n for n in names), "--out", tmp_path / "out", "--overlay")
    assert code == 3
    assert result["frames"] == {"silent": 30, "one": 1, ".": 30}
    assert len(result["failures"]) == 2
    assert result["failures"][0].startswith("bad, media: ")
    assert result["failures"][1].startswith("none, media: no media file at")
    assert any("absent throughout" in note and "silent" in note and "~" not in note for note in result["notes"])
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert made == {f"{n}.{kind}" for n in ("silent", "one", "%2E") for kind in ("csv", "mp4")} | {"raw"}
    assert all(VideoFile(Path(p)).read_times() for p in result["overlays"])


def test_two_files_of_one_name_are_two_recordings(corpus, run, call, tmp_path):
    for folder, clip in (("a", "clip1"), ("b", "clip3")):
        (tmp_path / folder).mkdir()
        shutil.copy(corpus / f"{clip}.mp4", tmp_path / folder / "same.mp4")
    _, result, _ = call(run, tmp_path / "a" / "same.mp4", tmp_path / "b" / "same.mp4", "--out", "out")
    assert result["frames"] == {"a/same.mp4": COUNT + 1, "b/same.mp4": COUNT + 3}
    assert len(list((tmp_path / "out").glob("*.csv"))) == 2
    _, result, _ = call(run, tmp_path / "a" / "same.mp4")
    _, result, _ = call(run, tmp_path / "b" / "same.mp4")  # the cache knows them apart
    assert result["frames"] == {"same": COUNT + 3}


@pytest.fixture
def moved(corpus):
    """The folder of Swin's weights, away for a test."""
    away = (corpus / "swin").rename(corpus / "elsewhere")
    yield away
    shutil.rmtree(corpus / "swin", ignore_errors=True)
    away.rename(corpus / "swin")


def test_weights_that_moved_are_one_line_and_may_be_given(corpus, run, call, moved):
    code, _, err = call(run, corpus / "clip4.mp4")
    assert code == 1
    assert err.count("\n") == 1
    assert "--set swin.weights=DIR" in err
    assert call(run, corpus / "clip4.mp4", "--set", f"swin.weights={moved}")[0] == 0
    code, _, err = call(run, corpus / "clip4.mp4", "--set", "swim.weights=x")
    assert code == 2
    assert "swim" in err


def test_other_weights_are_refused_by_name_before_anything_is_made(corpus, run, moved, tmp_path):
    other, was = save_weights(corpus / "swin", 4), save_hash(run, "swin")
    with pytest.raises(DataError, match=rf"cannot be made again as it was: weights = .{was}., here .{other}."):
        again(run, [corpus / "clip4.mp4"], tmp_path)
    assert FeatureCache(tmp_path / "new").stream_keys() == []


def save_hash(run, name):
    return next(d["settings"]["weights"] for d in declared(load_run(run)).values() if d["name"] == name)


def test_another_version_of_an_encoder_is_refused(corpus, run, tmp_path, monkeypatch):
    monkeypatch.setattr(Swin, "version", 99)
    with pytest.raises(DataError, match=r"version = \d+, here 99; take the version of the program"):
        again(run, [corpus / "clip4.mp4"], tmp_path)


def test_a_stream_that_was_imported_cannot_be_made(corpus, run, tmp_path):
    about = {"name": "x", "modality": "visual", "dim": 2, "settings": {"encoder": "imported:csd"}, "origin": {}}
    with pytest.raises(UsageError, match="was imported: no encoder here makes it"):
        run_again([corpus / "clip4.mp4"], {stream_key("x", about["settings"]): about}, Again(tmp_path / "new"))
    key, swin = next((k, d) for k, d in declared(load_run(run)).items() if d["name"] == "swin")
    other = {**swin, "settings": {**swin["settings"], "dtype": "bfloat16", "converted": {"from": key}}}
    with pytest.raises(UsageError, match="was converted: no encoder here makes it"):
        run_again([corpus / "clip4.mp4"], {stream_key("swin", other["settings"]): other}, Again(tmp_path / "new"))
    with pytest.raises(DataError, match="has other settings"):
        run_again([corpus / "clip4.mp4"], {"x-000": about}, Again(tmp_path / "new"))


def test_a_corpus_is_no_cache_for_new_media(corpus, run, call):
    code, _, err = call(run, corpus / "clip4.mp4", "--cache", corpus / "cache")
    assert code == 1
    assert "holds 'manifest', not 'media'" in err


def test_a_cache_without_a_stream_of_the_run_is_named(run, toy_cache, tmp_path):
    with pytest.raises(CacheError, match=r"trained on stream swin-\w+"):
        in_partition(load_run(run), toy_cache, "test")


def test_weights_not_found_keeps_its_class(corpus, run, moved, tmp_path):
    with pytest.raises(WeightsNotFound, match="swin"):
        again(run, [corpus / "clip4.mp4"], tmp_path)


def test_a_run_on_crops_says_that_it_was_shown_whole_frames(corpus, run, tmp_path, monkeypatch):
    records = declared(load_run(run))
    key = next(k for k in records if k.startswith("swin"))
    records[key] = {**records[key], "sources": ["crops"]}
    new = run_again([corpus / "clip4.mp4"], records, Again(tmp_path / "new", device="cpu"), quiet=True)
    assert any("was trained on face crops" in note and "--faces" in note for note in new.notes)
    monkeypatch.setattr("extract.faces.find_detector", lambda spec: Path(spec))
    monkeypatch.setattr("extract.faces.weights_hash", lambda path: "sha")
    monkeypatch.setattr("extract.faces.open_detector", lambda path: lambda rgb: [])
    how = Again(tmp_path / "new", device="cpu", faces="largest", face_weights="yunet.onnx")
    new = run_again([corpus / "clip4.mp4"], records, how, quiet=True)
    assert new.keys["swin"] != key
    assert any("faces were cropped here" in note for note in new.notes)
    assert not FeatureCache(new.cache).read(new.keys["swin"], new.recordings["clip4"]).present.any()
    made, failed = predict_all(
        load_run(run), FeatureCache(new.cache), new.recordings, tmp_path / "o", keys=new.keys, device="cpu", quiet=True
    )
    assert not failed
    assert np.isfinite(made["clip4"].raw).all()  # no face in any frame
    records[key] = {**records[key], "sources": ["frames"]}
    with pytest.raises(UsageError, match="was made from whole frames"):
        run_again([corpus / "clip4.mp4"], records, how, quiet=True)


def test_a_much_faster_film_is_noted(run, call, media, tmp_path):
    media(tmp_path / "fast.mp4", np.arange(60) / 60)
    _, result, _ = call(run, tmp_path / "fast.mp4")
    assert any(note.startswith("fast has 60 frames a second") for note in result["notes"])


def test_a_name_that_is_no_utf8_is_written_and_read(corpus, run, call, tmp_path):
    path = os.fsdecode(os.fsencode(str(tmp_path)) + b"/b\xe9.mp4")
    shutil.copy(corpus / "clip4.mp4", path)
    code, result, _ = call(run, path)
    assert code == 0
    assert sum(result["frames"].values()) == COUNT + 4
