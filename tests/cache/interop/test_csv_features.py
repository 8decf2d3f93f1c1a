"""A lab's own CSV streams: their times, units and subjects, and stage two on them with nothing of stage one there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cache.errors import MissingData, UsageError
from cache.interop import FORMATS
from cache.interop._wants import Wants
from cache.records import Timeline
from cache.store import FeatureCache

TOP = Path(__file__).parents[3]


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, r)) for r in rows)]) + "\n")


def write_lab(top, *, subjects=3, each=2, rows=60):
    """Gaze in seconds and eGeMAPS in ms, both at 10 Hz beside labels at 10 Hz; recordings of some subjects."""
    rng, listed = np.random.default_rng(0), []
    for subject in range(subjects):
        for i in range(each):
            name, steps = f"s{subject}_{i}", np.arange(rows)
            va = np.stack([np.sin(steps / 9 + subject), np.cos(steps / 7 + i)], 1) * 0.6
            noise = rng.normal(0, 0.1, (rows, 4)).round(4)
            gaze = [(f"{t / 10:.1f}", *(va[t] + noise[t, :2])) for t in steps]
            write(top / f"features/gaze/{name}.csv", "time,x,y", gaze)
            voice = [(t * 100, va[t, 1] + noise[t, 2], noise[t, 3]) for t in steps]
            write(top / f"features/egemaps/{name}.csv", "time,energy,pitch", voice)
            labels = [(f"{t / 10:.1f}", *va[t].round(4)) for t in steps]
            write(top / f"labels/{name}.csv", "time,valence,arousal", labels)
            listed.append((name, f"S{subject}"))
    write(top / "recordings.csv", "recording,subject", listed)
    return top


@pytest.fixture
def lab(tmp_path):
    return write_lab(tmp_path / "lab")


GAZE = {"modalities": {"gaze": "visual"}}


def test_rows_at_10_hz_are_the_labels_frames_to_the_last_bit(bring, lab):
    done, cache = bring("csv", lab, **GAZE)
    assert not done.failures
    frames = cache.timelines.read("s1_0")
    np.testing.assert_allclose(frames.pts, np.arange(60) / 10, atol=1e-9)
    for name, unit in (("gaze", 1), ("egemaps", 1000)):
        spec, table = cache.resolve(name), np.loadtxt(lab / f"features/{name}/s1_0.csv", delimiter=",", skiprows=1)
        found = cache.read(spec.key, "s1_0")
        np.testing.assert_allclose(table[:, 0] / unit, frames.pts, atol=1e-9)
        np.testing.assert_allclose(found.values, table[:, 1:], atol=1e-6)
        assert found.present.all()
    labels = cache.labels.read("va", "s1_0")
    wanted = np.loadtxt(lab / "labels/s1_0.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(labels.va, wanted, atol=1e-6)
    split = cache.labels.partitions("va")
    assert set(split.of.values()) == {"train"}
    assert split.subjects["s1_0"] == "S1"
    assert any("--folds 5" in n for n in done.notes)
    assert cache.resolve("gaze").modality == "visual"
    assert cache.resolve("egemaps").modality == "audio"


def test_the_video_s_own_frames_are_kept(bring, lab, tmp_path):
    cache = FeatureCache.create(tmp_path / "old")
    cache.timelines.write("s0_0", Timeline(np.arange(150) / 25, 6.0), {"clock": "container"})
    bring("csv", lab, cache, **GAZE)
    table = np.loadtxt(lab / "features/gaze/s0_0.csv", delimiter=",", skiprows=1)[:, 1:]
    found = cache.read(cache.resolve("gaze").key, "s0_0").values
    assert len(found) == 150
    np.testing.assert_allclose(found[[0, 1, 5, 50, 149]], table[[0, 0, 2, 20, 59]], atol=1e-6)


def test_times_that_begin_late_and_have_holes_stay_where_they_are(bring, lab):
    for path in (lab / "features/gaze/s0_0.csv", lab / "labels/s0_0.csv"):
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([header, *rows[10:20], *rows[30:]]) + "\n")
    _, cache = bring("csv", lab, **GAZE)
    pts = cache.timelines.read("s0_0").pts
    seen = (pts > 0.95) & ((pts < 1.95) | (pts > 2.95))
    assert len(pts) == 60
    assert cache.read(cache.resolve("gaze").key, "s0_0").present.tolist() == seen.tolist()
    assert cache.labels.read("va", "s0_0").labelled.tolist() == seen.tolist()
    assert cache.read(cache.resolve("egemaps").key, "s0_0").present.all()


def test_partitions_are_taken_from_the_table_and_lacking_ones_are_told(bring, lab, tmp_path):
    rows = [("s0_0", "A", "train"), ("s0_1", "A", "devel"), ("s1_0", "B", "test"), ("gone", "C", "train")]
    write(tmp_path / "who.csv", "recording,subject,partition", rows)
    done, cache = bring("csv", lab, labels=tmp_path / "who.csv", **GAZE)
    split = cache.labels.partitions("va")
    assert {r: split.of.get(r) for r in ("s0_1", "s1_0", "s2_0")} == {
        "s0_1": "validation",
        "s1_0": "test",
        "s2_0": None,
    }
    assert any("3 recordings are in no partition" in n for n in done.notes)
    assert any("have no features, such as 'gone'" in n for n in done.notes)
    assert cache.labels.read("va", "s2_0").labelled.all()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no table"),
        ("time,x,y\n", "no rows"),
        ("time,x,y\n0.0,1,2\n0.1,1\n", "no table"),
        ("time,x,y\n0.2,1,2\n0.1,1,2\n", "must increase"),
        ("x,y\n1,2\n", "no column time_s, time_ms, timestamp, time"),
        ("time,time_s,x\n0,0,2\n", "the columns time_s and time"),
        ("time,x,y\n0,1,2\n100,1,2\n", "another unit than in the files beside it"),
        ("time\n0.0\n0.1\n", "wanted numbers"),
        ("time,x,y\n0.0,nan,nan\n0.1,,\n", "finite"),
        ("time,x,y\n0.0,1,hello\n0.1,1,2\n", "no table"),
    ],
)
def test_a_bad_file_fails_alone(bring, lab, text, cause):
    (lab / "features/gaze/s2_1.csv").write_text(text)
    done, cache = bring("csv", lab, **GAZE)
    assert [f.recording for f in done.failures] == ["s2_1"]
    assert cause in str(done.failures[0])
    assert len(cache.recordings(cache.resolve("gaze").key)) == 5


def test_a_step_of_a_second_is_asked_for_and_a_unit_in_the_name_settles_it(bring, lab, tmp_path):
    for path in (lab / "features/gaze").iterdir():
        write(path, "time,x,y", [(t, t, -t) for t in range(6)])
    done, _ = bring("csv", lab, **GAZE)
    assert len(done.failures) == 6
    assert "call the column time_s or time_ms" in str(done.failures[0])
    for path in (lab / "features/gaze").iterdir():
        path.write_text(path.read_text().replace("time", "time_s"))
    done, cache = bring("csv", lab, FeatureCache.create(tmp_path / "again"), **GAZE)
    assert not done.failures
    found = cache.read(cache.resolve("gaze").key, "s0_0").values
    assert found[:, 0].tolist() == [t // 10 for t in range(60)]


def test_what_the_folder_lacks_is_said(bring, lab, tmp_path):
    with pytest.raises(MissingData, match=r"features/<stream>/<recording>\.csv"):
        FORMATS.get("csv")(tmp_path, Wants())
    with pytest.raises(UsageError, match=r"gaze"):
        bring("csv", lab)
    for path in (lab / "labels").iterdir():
        path.unlink()
    (lab / "recordings.csv").unlink()
    done, _ = bring("csv", lab, FeatureCache.create(tmp_path / "bare"), **GAZE)
    assert any("nothing is labelled" in n for n in done.notes)


BLOCKED = """
import sys
REFUSED = set({refused!r})
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED or name in REFUSED:
            raise ImportError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Gone())
sys.path.insert(0, {top!r})
"""
STAGE_ONE = ["timm", "transformers", "tokenizers", "torchaudio", "torchvision", "av", "cv2", "PIL", "huggingface_hub"]
IMPORT = ["import", "csv", "lab", "--cache", "cache", "--stream", "gaze=visual", "-q"]
TRAIN = [
    *("train-fusion", "--head", "concat", "--cache", "cache", "--folds", "3", "--fold-by", "subject"),
    *("--epochs", "1", "--tokens", "20", "--device", "cpu", "--json", "-q"),
]


def without(refused, tmp_path, code):
    """Python in which these cannot be imported. Returns what it printed."""
    script = BLOCKED.format(refused=refused, top=str(TOP)) + code
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def subject_folds(told):
    found = json.loads(told)
    assert (found["folds"], found["fold_by"], found["recordings"]) == (3, "subject", 6)
    assert np.isfinite(found["raw"]["mean"])


@pytest.mark.slow
def test_a_subject_fold_protocol_runs_from_the_command_line_without_stage_one_s_libraries(lab, tmp_path):
    """The command line names stage one's commands, which are words; what they would run is not there."""
    refused = [*STAGE_ONE, "extract.run", "extract.recipe", "extract.encoders", "extract.datasets", "extract.media"]
    call = "import cli; sys.argv = ['affuse', *{}]; cli.main()"
    told = without(refused, tmp_path, call.format(["cache", *IMPORT]))
    assert "6 recordings imported" in told
    subject_folds(without(refused, tmp_path, call.format(TRAIN)))


@pytest.mark.slow
def test_the_same_without_the_package_of_stage_one(lab, tmp_path):
    refused = [*STAGE_ONE, "extract"]
    without(refused, tmp_path, f"from cache.commands import cache_app; cache_app({IMPORT})")
    code = "import typer; from fuse.commands import fuse_app; "
    subject_folds(without(refused, tmp_path, f"{code} fuse_app({TRAIN})"))


def test_the_refusal_refuses(tmp_path):
    code = "try:\n    import extract\nexcept ImportError:\n    print('gone')"
    assert without(["extract"], tmp_path, code) == "gone\n"
