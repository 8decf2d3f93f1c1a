"""Challenge files: the template row for row, or a file a video, and nothing that was not predicted."""

import json

import numpy as np
import pytest

from cache.errors import DataError, MissingData, UsageError
from fuse.finished import load_run
from fuse.numbers.postprocess import postprocess
from fuse.prediction_files import read_predictions, save_predictions
from fuse.recipe import TrainRecipe
from fuse.submission import HEADER, submission_lines, submit_one, submit_per_video
from fuse.train import run_train

VIDEOS = {"2-30-640x360": 12, "video10_1_left": 5, "9-15-1920x1080": 7}


@pytest.fixture
def predictions(tmp_path):
    rng = np.random.default_rng(0)
    for video, count in VIDEOS.items():
        values = rng.uniform(-1.5, 1.5, (count, 2))
        save_predictions(tmp_path / "made", video, np.arange(count) / 25, values)
    return tmp_path / "made"


def template(path, *rows, values=",,", end="\n"):
    path.write_text(end.join([HEADER, *(f"{r}{values}" for r in rows)]) + end)
    return path


def rows_of(video, numbers):
    return [f"{video}/{n:05d}.jpg" for n in numbers]


@pytest.mark.parametrize(("values", "end"), [(",,", "\n"), (",0.5,-0.5", "\r\n"), ("", "\n")])
def test_every_row_of_the_template_in_its_order_and_no_other(predictions, tmp_path, values, end):
    wanted = rows_of("video10_1_left", [3, 1, 2]) + rows_of("2-30-640x360", [12, 5])
    sample = template(tmp_path / "sample.txt", *wanted, values=values, end=end)
    made = submit_one(predictions, sample, tmp_path / "out" / "s.txt")
    lines = (tmp_path / "out" / "s.txt").read_text().splitlines()
    assert lines[0] == HEADER
    assert [line.split(",")[0] for line in lines[1:]] == wanted
    left, plain = (read_predictions(predictions / f"{v}.csv")[1] for v in ("video10_1_left", "2-30-640x360"))
    want = np.clip(np.stack([left[2], left[0], left[1], plain[11], plain[4]]), -1, 1)
    got = np.array([[float(c) for c in line.split(",")[1:]] for line in lines[1:]])
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert (made.rows, made.videos, made.held) == (5, 2, 0)
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_few_rows_beyond_the_last_frame_hold_it_and_are_counted(predictions, tmp_path):
    sample = template(tmp_path / "sample.txt", *rows_of("video10_1_left", range(1, 8)))
    made = submit_one(predictions, sample, tmp_path / "s.txt")
    lines = [line.partition(",")[2] for line in (tmp_path / "s.txt").read_text().splitlines()[1:]]
    assert lines[4] == lines[5] == lines[6]
    assert made.held == 2
    assert "2 rows lie beyond" in "\n".join(submission_lines(made))
    sample = template(tmp_path / "sample.txt", *rows_of("video10_1_left", range(1, 9)))
    with pytest.raises(DataError, match=r"'video10_1_left' up to 3 beyond its last predicted one \(5\)"):
        submit_one(predictions, sample, tmp_path / "t.txt")
    assert not (tmp_path / "t.txt").exists()
    assert submit_one(predictions, sample, tmp_path / "t.txt", tolerance=3).held == 3


def test_values_beyond_the_range_are_clipped_and_counted(predictions, tmp_path):
    sample = template(tmp_path / "sample.txt", *rows_of("2-30-640x360", range(1, 13)))
    made = submit_one(predictions, sample, tmp_path / "s.txt")
    values = read_predictions(predictions / "2-30-640x360.csv")[1]
    assert made.clipped == (np.abs(values) > 1).sum() > 0


def test_videos_without_predictions_are_all_named(predictions, tmp_path):
    sample = template(tmp_path / "sample.txt", "a/00001.jpg", "2-30-640x360/00001.jpg", "b/00001.jpg")
    with pytest.raises(MissingData, match="of 2 of 3 videos: a, b"):
        submit_one(predictions, sample, tmp_path / "s.txt")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "begins with 'nothing'"),
        ("image_location,arousal,valence\na/00001.jpg,,\n", "wanted image_location,valence,arousal"),
        (f"{HEADER}\n", "has no rows"),
        (f"{HEADER}\na/00000.jpg,,\n", "line 2 .* counted from 1"),
        (f"{HEADER}\na/00001.jpg,,\n00002.jpg,,\n", "line 3"),
    ],
)
def test_what_is_no_template_is_told_by_its_line(predictions, tmp_path, text, told):
    (tmp_path / "sample.txt").write_text(text)
    with pytest.raises(DataError, match=told):
        submit_one(predictions, tmp_path / "sample.txt", tmp_path / "s.txt")


def test_predictions_that_are_no_numbers_are_refused(predictions, tmp_path):
    path = predictions / "2-30-640x360.csv"
    path.write_text(path.read_text().replace("0,0.000000,", "0,0.000000,nan,", 1).rsplit(",", 1)[0] + "\n")
    sample = template(tmp_path / "sample.txt", "2-30-640x360/00001.jpg")
    with pytest.raises(DataError):
        submit_one(predictions, sample, tmp_path / "s.txt")


def test_a_file_a_video(predictions, tmp_path):
    made = submit_per_video(predictions, None, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"{v}.txt" for v in VIDEOS)
    for video, count in VIDEOS.items():
        lines = (tmp_path / "out" / f"{video}.txt").read_text().splitlines()
        assert lines[0] == "valence,arousal"
        assert len(lines) == count + 1
    assert made.rows == sum(VIDEOS.values())
    (tmp_path / "names.txt").write_text("video10_1_left\r\nvideo11\r\n")
    with pytest.raises(MissingData, match="video11"):
        submit_per_video(predictions, tmp_path / "names.txt", tmp_path / "more")


def test_a_name_that_is_no_file_name_cannot_leave_the_folder(tmp_path):
    save_predictions(tmp_path / "made", "../x", np.arange(3) / 25, np.zeros((3, 2)))
    with pytest.raises(DataError, match="cannot be the name of a file"):
        submit_per_video(tmp_path / "made", None, tmp_path / "out")


def test_a_runs_own_predictions_are_smoothed_as_it_was_scored(toy_cache, tmp_path):
    recipe = TrainRecipe(
        "concat", toy_cache.root, tmp_path / "runs", tokens=32, hop=16, epochs=1, device="cpu", smooth=5
    )
    run = run_train(recipe, quiet=True)
    files = sorted((tmp_path / "runs").rglob("predictions/test/*.csv"))
    sample = template(tmp_path / "sample.txt", *(r for f in files for r in rows_of(f.stem, range(1, 61))))
    submit_one(folder := files[0].parents[2], sample, tmp_path / "s.txt")
    lines = (tmp_path / "s.txt").read_text().splitlines()[1:]
    got = np.array([[float(c) for c in line.split(",")[1:]] for line in lines])
    want = postprocess({f.stem: read_predictions(f)[1] for f in files}, 5)
    np.testing.assert_allclose(got, np.concatenate([want[f.stem][:60] for f in files]), atol=2e-6)
    assert load_run(folder).width == run.evaluations["test"].smooth == 5
    saved = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps({**saved, "interpolate": True}))
    with pytest.raises(UsageError, match="bridges frames without a face"):
        submit_one(folder, sample, tmp_path / "t.txt")
