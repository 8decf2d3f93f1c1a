"""Faces cropped out of raw video: where landmarks land, whose face is taken, what encoders see where there is none."""

import threading

import numpy as np
import pytest
from PIL import Image

from cache.errors import ConfigError, DataError, UsageError
from cache.fingerprint import ABSENT, differing
from cache.store import FeatureCache
from extract.detector import Face
from extract.faces import COLUMNS, SIZE, TEMPLATE, choose, crop_faces, crop_of, overlap, similarity
from extract.forecast import run_plan
from extract.media import VideoFile
from extract.recipe import extract_recipe
from extract.run import run_extract
from fuse.feeding.streams import choose_streams

CFR = np.arange(75) / 25
FRAME = 160
RED, BLUE = 0, 2


def turned(degrees, scale, at):
    """Where the template's points lie when a face is turned and scaled: f64[5,2]."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE - TEMPLATE.mean(axis=0)) @ turn.T * scale + at


def umeyama(source, target):
    """Equations 40 to 43 of the paper, by singular values: f64[2,3]."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    mirrored = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ mirrored @ vt
    scale = np.trace(np.diag(d) @ mirrored) / a.var(axis=0).sum()
    return np.c_[scale * turn, target.mean(axis=0) - scale * turn @ source.mean(axis=0)]


@pytest.mark.parametrize("degrees", [-80, -15, 0, 30, 180])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_landmarks_land_on_the_template_however_a_face_is_turned_and_scaled(degrees, scale):
    landmarks = turned(degrees, scale, np.array([210.3, 190.8]))
    matrix = similarity(landmarks)
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-9)
    y, x = np.mgrid[:400, :420]
    for point, wanted in zip(landmarks, TEMPLATE, strict=True):
        spot = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * (3 * scale) ** 2))
        rgb = np.repeat(spot.round().astype(np.uint8)[:, :, None], 3, axis=2)
        crop = crop_of(rgb, Face(np.zeros(4), landmarks, 1.0))[:, :, 0].astype(float)
        assert crop.shape == (SIZE, SIZE)
        seen = np.array([(crop.sum(axis=axis) @ np.arange(SIZE)) / crop.sum() for axis in (0, 1)])
        assert np.abs(seen - wanted).max() < 0.5


def test_a_face_that_does_not_fit_is_laid_on_as_umeyama_does():
    rng = np.random.default_rng(0)
    for _ in range(20):
        landmarks = turned(rng.uniform(-180, 180), rng.uniform(0.3, 4), rng.uniform(0, 500, 2)) + rng.normal(
            0, 4, (5, 2)
        )
        np.testing.assert_allclose(similarity(landmarks), umeyama(landmarks, TEMPLATE), atol=1e-6)
    mirrored = similarity(TEMPLATE * [-1, 1] + [SIZE, 0])
    assert np.linalg.det(mirrored[:, :2]) > 0


def test_overlap_is_intersection_over_union():
    a = np.array([10.0, 20, 40, 20])
    assert overlap(a, a) == 1
    assert overlap(a, np.add(a, [20, 0, 0, 0])) == pytest.approx(1 / 3)
    assert overlap(a, np.add(a, [40, 0, 0, 0])) == overlap(a, np.add(a, [0, 500, 0, 0])) == 0
    assert overlap(np.zeros(4), np.zeros(4)) == 0


def face(x, y=0.0, side=40.0, score=0.95):
    return Face(np.array([x, y, side, side]), TEMPLATE * side / SIZE + [x, y], score)


def test_the_face_that_continues_the_last_one_is_taken_and_another_only_after_a_second_without_it():
    last, near, large = face(0), face(8), face(100, side=90)
    assert choose([large, near], last, 1.0, 1.04) is near
    assert choose([large], last, 1.0, 1.96) is None
    assert choose([large], last, 1.0, 2.04) is large
    assert choose([large, near], last, 1.0, 2.04) is large
    assert choose([], last, 1.0, 9.0) is None


def stand_in(rgb):
    """Finds a red and a blue square; their landmarks are the template's, so a crop is the square."""
    found = []
    for channel, other in ((RED, BLUE), (BLUE, RED)):
        mask = rgb[:, :, channel].astype(int) - rgb[:, :, other] > 90
        rows, columns = np.flatnonzero(mask.sum(axis=1) > 6), np.flatnonzero(mask.sum(axis=0) > 6)
        if len(rows) and len(columns):
            found.append(
                face(float(columns[0]), float(rows[0]), float(columns[-1] - columns[0] + 1), 0.9 + channel / 50)
            )
    return found


def picture(red, blue=None):
    """Red and blue squares of sides red(i) and blue(i) on a grey frame; the one left, the other right; 0 for none."""

    def paint(i):
        rgb = np.full((FRAME, FRAME, 3), 120, np.uint8)
        for x, side, colour in ((8, red(i), (230, 20, 20)), (88, blue(i) if blue else 0, (20, 20, 230))):
            rgb[40 : 40 + side, x : x + side] = colour
        return rgb

    return paint


@pytest.fixture
def detector(monkeypatch):
    """The stand-in instead of YuNet; the list counts the pictures it has seen, by the thread that showed them."""
    seen = []
    monkeypatch.setattr("extract.faces.find_detector", lambda spec: spec)
    monkeypatch.setattr("extract.faces.weights_hash", lambda path: f"sha-of-{path}")
    detect = lambda rgb: seen.append(threading.current_thread().name) or stand_in(rgb)  # noqa: E731
    monkeypatch.setattr("extract.faces.open_detector", lambda path: detect)
    return seen


def recipe(root, cache, **more):
    data = {"dataset": "manifest", "root": root, "cache": cache, "visual": ["brightness"], "audio": [], "text": []}
    return extract_recipe({**data, "faces": "largest", **more})


def run(root, cache, **more):
    return run_extract(recipe(root, cache, **more), quiet=True)


def read(cache_root, name, recording="a"):
    cache = FeatureCache(cache_root)
    return cache.read(cache.resolve(name).key, recording)


@pytest.fixture
def film(media, manifest, tmp_path):
    """film(red, blue) is the root of a corpus of one video."""

    def make(red, blue=None, **rows):
        path = media(tmp_path / "a.mp4", CFR, picture=picture(red, blue), size=FRAME)
        return manifest(a={"video": path}, **rows)

    return make


def two(i):
    """The red face is the larger one in the beginning, is out of sight from frame 30 to 35 and from 50 on."""
    return 0 if 30 <= i < 35 or i >= 50 else 64


@pytest.mark.parametrize(
    ("mode", "blue_from"),
    [("largest", [*range(20, 75)]), ("tracked", [*range(75, 75)])],
)
def test_the_largest_face_or_the_one_that_goes_on(light_encoders, detector, film, tmp_path, mode, blue_from):
    run(film(two, lambda i: 40 if i < 20 else 70), tmp_path / "cache", faces=mode)
    boxes = read(tmp_path / "cache", "face-box")
    is_blue = boxes.present & (boxes.values[:, COLUMNS.index("x")] > FRAME / 2)
    assert np.flatnonzero(is_blue).tolist() == blue_from
    if mode == "tracked":  # one second without it ends with the film
        assert np.flatnonzero(~boxes.present).tolist() == [*range(30, 35), *range(50, 75)]
    else:
        assert boxes.present.all()


def test_after_a_second_out_of_sight_the_largest_face_is_followed(light_encoders, detector, film, tmp_path):
    run(film(lambda i: 64 if i < 20 else 0, lambda i: 40), tmp_path / "cache", faces="tracked")
    boxes = read(tmp_path / "cache", "face-box")
    assert np.flatnonzero(~boxes.present).tolist() == list(range(20, 45))  # frame 44 is one second after frame 19
    assert (boxes.values[45:, 1] > FRAME / 2).all()


def test_a_frame_without_a_face_is_absent_and_the_box_is_that_of_the_crop(light_encoders, detector, film, tmp_path):
    shown = [i for i in range(75) if not 30 <= i < 50]
    result = run(film(lambda i: 64 if i in shown else 0), tmp_path / "cache")
    assert not result.failures
    boxes, rows = (read(tmp_path / "cache", n) for n in ("face-box", "brightness"))
    for stream in (boxes, rows):
        assert np.flatnonzero(stream.present).tolist() == shown
        assert not stream.values[30:50].any()
    score, x, y, width, height = boxes.values[shown].T
    np.testing.assert_allclose(score, 0.9, atol=1e-6)
    for values, wanted in ((x, 8), (y, 40), (width, 64), (height, 64)):
        np.testing.assert_allclose(values, wanted, atol=2)
    red = np.mean([230, 20, 20]) / 255
    np.testing.assert_allclose(rows.values[shown, 0], red, atol=0.03)  # the grey of the frame would be 0.47


def test_encoders_see_what_they_would_of_a_folder_of_crops(light_encoders, detector, film, manifest, tmp_path):
    """Frames, clips and runs of one row for several frames, across gaps."""
    root = film(lambda i: 0 if 10 <= i < 14 or i in (40, 41, 66) else 30 + i // 2)
    micro = {"size": "micro", "weights": "random:0"}
    given = {"visual": ["brightness", "swin", "r3d"], "swin": micro, "r3d": {**micro, "clip": 4, "every": 3}}
    run(root, tmp_path / "video", **given)
    crops, frame = tmp_path / "crops", 0
    crops.mkdir()
    for block in VideoFile(tmp_path / "a.mp4").blocks():
        for rgb in block.rgb:
            frame += 1
            for found in stand_in(rgb):
                Image.fromarray(crop_of(rgb, found)).save(crops / f"{frame:05d}.png")
    root = manifest(a={"video": tmp_path / "a.mp4", "crops": crops})
    run(root, tmp_path / "folder", faces="none", **given)
    for name in ("brightness", "swin", "r3d"):
        ours, theirs = read(tmp_path / "video", name), read(tmp_path / "folder", name)
        np.testing.assert_array_equal(ours.present, theirs.present)
        assert ours.present.sum() == 68
        np.testing.assert_allclose(ours.values, theirs.values, rtol=2e-3, atol=2e-3)
    assert np.array_equal(read(tmp_path / "video", "brightness").values, read(tmp_path / "folder", "brightness").values)


def test_faces_are_looked_for_once_for_all_encoders_in_the_thread_that_decodes(
    light_encoders, detector, film, tmp_path
):
    root = film(lambda i: 64)
    result = run(root, tmp_path / "cache", visual=["brightness", "again=brightness@gain=2.0"])
    assert result.made == 3
    assert detector == ["affuse-reader"] * 75
    again = run(root, tmp_path / "cache", visual=["brightness", "again=brightness@gain=2.0"])
    assert (again.made, again.kept, len(detector)) == (0, 3, 75)


def test_a_recording_without_any_face_is_absent_throughout_and_named(light_encoders, detector, film, media, tmp_path):
    path = media(tmp_path / "b.mp4", CFR, picture=picture(lambda i: 0), size=FRAME)
    result = run(film(lambda i: 64, b={"video": path}), tmp_path / "cache")
    assert not result.failures
    for name in ("brightness", "face-box"):
        assert any(name in n and "absent throughout in 1 of 2 recordings: b" in n for n in result.notes)
        assert not read(tmp_path / "cache", name, "b").present.any()


def test_no_encoder_is_given_a_block_without_pictures(light_encoders, detector, film, tmp_path, monkeypatch):
    given, push = [], light_encoders["brightness"].push
    counted = lambda self, block: given.append(len(block.rgb)) or push(self, block)  # noqa: E731
    monkeypatch.setattr(light_encoders["brightness"], "push", counted)
    run(film(lambda i: 64 if i >= 70 else 0), tmp_path / "cache")
    assert given == [5]  # the first block of 64 frames shows nobody


def test_a_long_stretch_without_a_face_keeps_the_reader_going():
    film = [type("B", (), {"rgb": [np.zeros((8, 8, 3), np.uint8)] * 4, "spans": np.ones((4, 2))})] * 5
    blocks = list(crop_faces(film, lambda rgb: [], tracked=True))
    assert [len(b.rgb) for b in blocks] == [0] * 5
    assert blocks[0].faces.shape == (0, 5)


def test_faces_are_in_the_fingerprint_of_visual_streams_only_where_they_are_asked_for(
    light_encoders, detector, film, media, tmp_path
):
    sound = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    root = film(lambda i: 64)
    media(tmp_path / "a.mp4", CFR, picture=picture(lambda i: 64), sound=sound, size=FRAME)
    cache = FeatureCache.create(tmp_path / "cache", "manifest")
    keys = [
        set(run(root, cache.root, audio=["loudness"], **more).streams)
        for more in ({"faces": "none"}, {}, {"faces": "tracked"}, {"face_weights": "other.onnx"})
    ]
    whole, largest = (next(k for k in some if k.startswith("brightness")) for some in keys[:2])
    assert "faces" not in cache.about(whole)["settings"]
    changed = differing(cache.about(whole)["settings"], cache.about(largest)["settings"])
    assert {k for k in changed if not k.startswith("faces.")} == set()
    assert changed["faces.weights"] == (ABSENT, "sha-of-hub")
    assert changed["faces.mode"] == (ABSENT, "largest")
    assert len({k for some in keys for k in some if k.startswith("loudness")}) == 1
    assert len({k for some in keys for k in some if k.startswith("brightness")}) == 4
    assert len({k for some in keys for k in some if k.startswith("face-box")}) == 3
    assert cache.about(next(k for k in keys[1] if k.startswith("face-box")))["settings"]["options"] == {
        "columns": ["score", "x", "y", "width", "height"]
    }
    kept = run(root, cache.root, faces="largest", align="nearest", dtype="float32").streams
    assert {k for k in kept if k.startswith("face-box")} <= keys[1]  # its rows are frames' own


def test_boxes_are_for_people_to_look_at_and_train_nothing_unasked(light_encoders, detector, film, tmp_path):
    run(film(lambda i: 64), tmp_path / "cache")
    cache = FeatureCache(tmp_path / "cache")
    assert [s.name for s in choose_streams(cache, ())] == ["brightness"]
    assert [s.name for s in choose_streams(cache, ("face-box",))] == ["face-box"]


def test_a_plan_counts_the_search_for_faces(light_encoders, detector, film, tmp_path):
    plan = run_plan(recipe(film(lambda i: 64), tmp_path / "cache"), quiet=True)
    assert [c.stream for c in plan.streams] == ["brightness", "face-box"]
    assert all(c.hours is not None and c.chosen for c in plan.streams)
    assert plan.streams[1].hours > 0
    assert light_encoders["brightness"].pushed
    nobody = run_plan(recipe(film(lambda i: 0), tmp_path / "cache"), quiet=True)
    assert nobody.streams[0].hours is None  # there was no crop to time it on
    assert not (tmp_path / "cache").exists()


def test_a_corpus_with_crops_is_refused(light_encoders, detector, media, manifest, tmp_path):
    crops = tmp_path / "crops"
    crops.mkdir()
    path = media(tmp_path / "a.mp4", CFR)
    root = manifest(a={"video": path, "crops": crops}, b={"video": path})
    with pytest.raises(UsageError, match=r"1 of 2 recordings come as crops: a; leave --faces out"):
        run(root, tmp_path / "cache")


def test_wrong_settings_say_what_is_right(light_encoders, detector, film, tmp_path):
    root = film(lambda i: 64)
    with pytest.raises(ConfigError, match=r"faces = 'smallest': input should be 'none', 'largest' or 'tracked'"):
        run(root, tmp_path / "cache", faces="smallest")
    with pytest.raises(ConfigError, match=r"no face is cropped; add --faces largest"):
        run(root, tmp_path / "cache", faces="none", face_weights="yunet.onnx")
    with pytest.raises(UsageError, match="'face-box' is an encoder and cannot name a stream of brightness"):
        run(root, tmp_path / "cache", visual=["face-box=brightness"])


def test_weights_are_tried_before_the_run_begins(light_encoders, film, tmp_path, monkeypatch, capfd):
    (tmp_path / "face.onnx").write_text("no network")
    with pytest.raises(DataError, match=r"face.onnx cannot be used"):
        run(film(lambda i: 64), tmp_path / "cache", face_weights=str(tmp_path / "face.onnx"))
    assert not (tmp_path / "cache").exists()
