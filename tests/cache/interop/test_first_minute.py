"""A new user: features made elsewhere, one command into a cache, one command to a trained head; and what goes wrong."""

import json
import pickle

import numpy as np
import pytest

CLIPS = {"train": 8, "valid": 3, "test": 3}


@pytest.fixture
def pkl(tmp_path):
    rng, parts = np.random.default_rng(0), {}
    for part, count in CLIPS.items():
        mood = rng.uniform(-3, 3, count)
        lengths = rng.integers(30, 50, count)
        parts[part] = {
            "id": [f"{part}{i}$_$0" for i in range(count)],
            "regression_labels": mood,
            "audio_lengths": lengths.tolist(),
            "vision_lengths": lengths.tolist(),
            "text_bert": np.stack([np.zeros((count, 50)), np.ones((count, 50)), np.zeros((count, 50))], 1),
            **{
                m: (mood[:, None, None] + rng.normal(size=(count, 50, width))).astype(np.float32)
                for m, width in (("text", 6), ("audio", 4), ("vision", 5))
            },
        }
    (tmp_path / "unaligned_50.pkl").write_bytes(pickle.dumps(parts))
    return tmp_path / "unaligned_50.pkl"


@pytest.fixture
def folder(tmp_path):
    rng, lines = np.random.default_rng(0), ["name,valence,arousal,partition"]
    (tmp_path / "out" / "clip").mkdir(parents=True)
    for part, count in CLIPS.items():
        for i in range(count):
            name, mood = f"{part}_{i}", rng.uniform(-1, 1, 2)
            place = tmp_path / "out" / "clip" / name
            np.save(f"{place}_clip.npy", (mood + rng.normal(size=(60, 2))).astype(np.float32))
            np.save(f"{place}_timestamps_ms.npy", np.arange(60) * 40.0)
            np.save(f"{place}_fps.npy", np.array(25.0))
            lines.append(f"{name},{mood[0]:.4f},{mood[1]:.4f},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path / "out"


def trained(run, dataset):
    code, out, err = run(
        *("train-fusion", "--head", "concat", "--dataset", dataset, "--epochs", "2", "--device", "cpu", "--json", "-q")
    )
    assert code == 0, err
    return json.loads(out)


@pytest.mark.slow
def test_a_pickle_of_mmsa(run, pkl):
    code, _, err = run("cache", "import", "mmsa", pkl, "--dataset", "mosi", "-q")
    assert code == 2
    assert "--label-range -3,3" in err
    code, out, err = run("cache", "import", "mmsa", pkl, "--dataset", "mosi", "--label-range", "-3,3", "-q")
    assert code == 0, err
    assert "14 recordings imported" in out
    assert "no arousal" in out
    assert "dropped: raw_text" in out
    assert "next: python cli.py train-fusion --head concat" in out
    assert trained(run, "mosi")


@pytest.mark.slow
def test_a_folder_of_video_features(run, folder):
    code, out, err = run("cache", "import", "video-features", folder, "--dataset", "mine", "-q")
    assert code == 0, err
    assert "--labels TABLE.csv" in out
    labels = folder.parent / "labels.csv"
    code, out, err = run("cache", "import", "video_features", folder, "--dataset", "mine", "--labels", labels, "-q")
    assert code == 0, err
    assert "0 recordings imported, 14 there already" in out
    assert "labels 'va': 14 recordings" in out
    assert trained(run, "mine")


def test_an_export_says_what_it_drops_and_never_overwrites(run, full, tmp_path):
    for form, lost in (("hdf5", "nothing"), ("csd", "frame times"), ("muse", "stream settings")):
        code, out, _ = run("cache", "export", form, tmp_path / form, "--cache", full.root)
        assert code == 0
        assert f"dropped: {lost}" in out
        code, _, err = run("cache", "export", form, tmp_path / form, "--cache", full.root)
        assert code == 2
        assert "is there already" in err


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["mmsa", "none.pkl"], "no file at none.pkl"),
        (["mmas", "x"], "did you mean 'mmsa'?"),
        (["hdf5", "x", "--stream", "face"], "names no modality"),
        (["hdf5", "x", "--label-range", "3"], "--label-range -3,3"),
        (["hdf5", "x", "--label-range", "3,-3"], "empty or endless"),
        (["hdf5", "x", "--columns", "a"], "--columns 0,1"),
        (["hdf5", "x", "--columns", "0,1,2"], "--columns 0,1"),
        (["hdf5", "x", "--fps", "0"], "frames a second"),
        (["hdf5", "x", "--align", "best"], "overlap, linear, nearest"),
        (["hdf5", "x", "--dtype", "int8"], "float16 or float32"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(run, tmp_path, words, cause):
    code, _, err = run("cache", "import", *words, "--dataset", "d")
    assert code in (1, 2)
    assert cause in err
    assert err.count("\n") == 1
    assert not (tmp_path / "var").exists()


def test_into_which_cache_is_asked(run):
    code, _, err = run("cache", "import", "hdf5", "x")
    assert code == 2
    assert "--dataset NAME" in err


def test_many_failures_are_not_a_wall_of_text(run, folder):
    for path in folder.rglob("*_clip.npy"):
        path.write_bytes(b"no")
    for i in range(30):
        np.save(folder / "clip" / f"x{i}_timestamps_ms.npy", np.zeros(1))
        (folder / "clip" / f"x{i}_clip.npy").write_bytes(b"no")
    code, out, _ = run("cache", "import", "video-features", folder, "--dataset", "mine", "-q")
    assert code == 3
    assert out.count("failed: ") == 21
    assert "failed: 24 more; --json lists all" in out


def test_a_cache_at_a_url_takes_an_import_and_gives_an_export(run, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / "mirrors"))
    url = f"file://{tmp_path}/bucket/cache"
    code, out, err = run("cache", "import", "video-features", folder, "--cache", url, "-q")
    assert code == 0, err
    assert f"in {url}; next: " in out
    assert len(list((tmp_path / "bucket/cache").glob("features/*/*/values/zarr.json"))) == 14
    code, _, err = run("cache", "export", "hdf5", tmp_path / "x.h5", "--cache", url)
    assert code == 0, err
