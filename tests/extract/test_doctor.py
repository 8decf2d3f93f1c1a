"""The doctor: a corpus with nothing wrong is told so, and each thing that can be wrong is one finding."""

import json
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from cache.errors import ConfigError
from extract.doctor import run_doctor
from extract.recipe import extract_recipe

CFR = np.arange(75) / 25
SOUND = (0.4 * np.sin(np.arange(48_000) / 10)).astype(np.float32)  # three seconds


@pytest.fixture
def doctor(manifest, tmp_path):
    """Examines a manifest of these rows; returns {(severity, check): [finding, ...]}."""

    def run(options=None, **rows):
        recipe = extract_recipe({"dataset": "manifest", "root": manifest(**rows), "dataset_options": options or {}})
        found = run_doctor(recipe, quiet=True)
        kinds = {}
        for finding in found.findings:
            assert "\n" not in finding.detail
            kinds.setdefault((finding.severity, finding.check), []).append(finding)
        assert found.faults == sum(f.severity == "fault" for f in found.findings)
        order = ["fault", "warning", "note"]
        assert found.findings == sorted(found.findings, key=lambda f: order.index(f.severity))
        return kinds

    return run


@pytest.fixture
def film(media, tmp_path):
    """A healthy film of three seconds, or one changed as asked."""

    def write(name="a", pts=CFR, sound=SOUND, **more):
        return media(tmp_path / f"{name}.mkv", pts, sound=sound, **more)

    return write


def write_rows(path, count, row="0.1,0.2", header="valence,arousal"):
    path.write_text("\n".join([header, *[row.replace("#", str(i)) for i in range(count)]]) + "\n")
    return path


def only(kinds, severity, check):
    """The single finding of the only kind there is."""
    assert list(kinds) == [(severity, check)], kinds
    (finding,) = kinds[severity, check]
    return finding


def well(path, tmp_path, count=75):
    return {"video": path, "labels": write_rows(tmp_path / f"{path.stem}.csv", count), "partition": "train"}


def test_a_healthy_recording_has_no_finding(doctor, film, tmp_path):
    assert doctor(a=well(film(), tmp_path)) == {}


@pytest.mark.parametrize(("rows", "severity"), [(73, "note"), (74, "note"), (77, "note"), (78, "fault"), (72, "fault")])
def test_pitfall_9_label_rows_against_decoded_frames(doctor, film, tmp_path, rows, severity):
    found = only(doctor(a=well(film(), tmp_path, rows)), severity, "label-rows")
    assert found.detail.startswith(f"{rows} label rows for 75 frames")


def test_a_rate_that_would_explain_the_rows_is_named(doctor, film, tmp_path):
    found = only(doctor(a=well(film(), tmp_path, 90)), "fault", "label-rows")
    assert found.detail.endswith("as many as at 30 fps, the video has 25")


def test_crops_against_frames_and_faces_that_are_missing(doctor, film, tmp_path):
    video = film()

    def crops(numbers):
        folder = tmp_path / "crops"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for n in numbers:
            Image.new("L", (4, 4)).save(folder / f"{n:05d}.png")
        return doctor(a={**well(video, tmp_path), "crops": folder})

    assert crops(range(1, 76)) == {}
    assert only(crops(range(1, 77)), "note", "crops").detail == "76 crops for 75 frames"
    assert "30 fps" in only(crops(range(1, 91)), "fault", "crops").detail
    assert "numbered from 0" in only(crops(range(75)), "fault", "crops").detail
    assert only(crops(range(1, 11)), "warning", "few-faces").detail == "65 of 75 frames have no crop"


def test_crops_that_cannot_be_read(doctor, film, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for n in range(1, 76):
        Image.effect_noise((64, 64), 50).save(folder / f"{n:05d}.jpg")
    row = {**well(film(), tmp_path), "crops": folder}
    assert doctor(a=row) == {}
    (folder / "00007.jpg").write_bytes(b"")
    (folder / "00009.jpg").write_bytes((folder / "00008.jpg").read_bytes()[:900])
    found = only(doctor(a=row), "fault", "crops")
    assert "00007.jpg cannot be read" in found.detail
    assert found.detail.endswith("(and 1 more)")


def _chunk(data, name, number):
    """Where the number-th chunk of that name begins in a PNG."""
    at = -1
    for _ in range(number):
        at = data.index(name, at + 1)
    return at


def test_a_crop_damaged_so_that_pil_raises_no_oserror_is_a_finding(doctor, film, tmp_path):
    folder, noise = tmp_path / "crops", np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    folder.mkdir()
    for n in range(1, 76):
        Image.new("L", (4, 4)).save(folder / f"{n:05d}.png")
    named, huge = folder / "00007.png", folder / "00008.png"
    Image.fromarray(noise).save(named)
    data = bytearray(named.read_bytes())
    data[_chunk(data, b"IDAT", 2)] = 0x0E  # SyntaxError
    named.write_bytes(data)
    data = bytearray(huge.read_bytes())
    size = _chunk(data, b"IHDR", 1)
    data[size + 4 : size + 12] = (100_000).to_bytes(4, "big") * 2  # DecompressionBombError
    data[size + 17 : size + 21] = zlib.crc32(data[size : size + 17]).to_bytes(4, "big")
    huge.write_bytes(data)
    found = only(doctor(a={**well(film(), tmp_path), "crops": folder}), "fault", "crops")
    assert "00007.png cannot be read: broken PNG file" in found.detail
    assert found.detail.endswith("(and 1 more)")


def test_a_recording_without_crops_among_others(doctor, film, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for n in range(1, 76):
        Image.new("L", (4, 4)).save(folder / f"{n:05d}.png")
    rows = {"a": {**well(film("a"), tmp_path), "crops": folder}, "b": well(film("b", sound=-SOUND), tmp_path)}
    found = only(doctor(**rows), "warning", "no-crops")
    assert found.detail == "1 (b) of 2 recordings have no face crops: whole frames would be encoded"


def test_a_recording_without_transcript_among_others(doctor, film, tmp_path):
    (tmp_path / "a.txt").write_text("[0s - 1s] hello\nnoise\nnoise\n")
    rows = {"a": {**well(film("a"), tmp_path), "transcript": "a.txt"}, "b": well(film("b", sound=-SOUND), tmp_path)}
    found = doctor(**rows)
    assert found["note", "no-transcript"][0].detail.startswith("1 (b) of 2")
    (warned,) = found["warning", "transcript"]
    assert warned.detail == "a.txt line 2 has no [start - end] and is left out: 'noise' (and 1 more)"


@pytest.mark.parametrize("content", [None, b"", b"not a film " * 99])
def test_media_that_is_missing_or_cannot_be_read(doctor, film, tmp_path, content):
    path = tmp_path / "b.mp4"
    if content is not None:
        path.write_bytes(content)
    found = only(doctor(a=well(film(), tmp_path), b=well(path, tmp_path)), "fault", "media")
    assert found.recording == "b"
    assert "b.mp4" in found.detail


def test_a_sound_file_that_is_missing(doctor, film, tmp_path):
    row = {**well(film(), tmp_path), "audio": tmp_path / "a.wav"}
    assert "a.wav" in only(doctor(a=row), "fault", "media").detail


def test_sound_that_is_missing_silent_short_or_late(doctor, film, tmp_path):
    def check(**more):
        return doctor(a=well(film(**more), tmp_path))

    assert only(check(sound=None), "warning", "no-audio")
    assert only(check(sound=np.zeros(48_000, np.float32)), "warning", "silent-audio")
    assert only(check(sound=SOUND[:16_000]), "warning", "short-audio").detail == "1.0 s of sound for 3.0 s of picture"
    assert only(check(sound=SOUND, sound_start=0.25), "note", "late-start").detail.startswith("sound starts at 0.2")


def test_picture_that_starts_late(doctor, film, tmp_path):
    sound = np.tile(SOUND, 2)
    assert (
        "picture starts at 0.85 s"
        in only(doctor(a=well(film(pts=CFR + 0.85, sound=sound), tmp_path)), "note", "late-start").detail
    )


def test_variable_rate_tells_what_index_over_fps_would_do(doctor, film, tmp_path):
    pts = np.concatenate([CFR[:40], 1.6 + np.arange(35) * 0.08])
    found = only(doctor(a=well(film(pts=pts, sound=np.tile(SOUND, 2)), tmp_path)), "note", "variable-rate")
    assert found.detail.startswith("40 to 80 ms a frame")


def test_sound_alone_has_a_nominal_clock(doctor, film, tmp_path):
    found = doctor(a={"audio": film(), "labels": write_rows(tmp_path / "a.csv", 75), "partition": "train"})
    assert only(found, "note", "nominal-clock")


def test_damaged_packets(doctor, film, tmp_path):
    path = film(picture=lambda i: np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8))
    data = bytearray(path.read_bytes())
    for spot in range(len(data) // 4, len(data) - 2000, 997):
        data[spot] ^= 0xFF
    path.write_bytes(bytes(data))
    assert ("warning", "damaged-media") in doctor(a=well(path, tmp_path))


def test_copies_are_a_warning_and_across_partitions_a_fault(doctor, film, tmp_path):
    a = film("a")
    b = shutil.copy(a, tmp_path / "b.mkv")
    rows = {"a": well(a, tmp_path), "b": well(b, tmp_path)}
    assert only(doctor(**rows), "warning", "duplicate-media").detail == "the same bytes as b"
    rows["b"]["partition"] = "test"
    assert only(doctor(**rows), "fault", "duplicate-media").detail == "the same bytes as b, in test and train"
    rows["b"]["video"] = a  # two people in one video are no copy
    assert only(doctor(**rows), "warning", "media-in-two-partitions")
    rows["b"]["partition"] = "train"
    assert doctor(**rows) == {}


def test_one_subject_in_two_partitions(doctor, film, tmp_path):
    rows = {n: {**well(film(n, sound=SOUND * g), tmp_path), "subject": "s1"} for n, g in (("a", 1), ("b", 0.5))}
    rows["b"]["partition"] = "test"
    found = only(doctor(**rows), "fault", "subject-in-two-partitions")
    assert found.detail == "subject 's1' is in test and train"


def test_transcripts_and_annotations_that_cannot_be_read(doctor, film, tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "a.srt").write_text("")
    row = well(film(), tmp_path)
    assert "a.json" in only(doctor(a={**row, "transcript": "a.json"}), "fault", "transcript").detail
    assert "gone.srt" in only(doctor(a={**row, "transcript": "gone.srt"}), "fault", "transcript").detail
    assert only(doctor(a={**row, "transcript": "a.srt"}), "warning", "transcript")
    write_rows(tmp_path / "a.csv", 75, "0.1,x")
    assert "a.csv line 2" in doctor(a=row)["fault", "annotation"][0].detail
    write_rows(tmp_path / "a.csv", 75, "0.1,3")
    assert "label_range" in doctor(a=row)["fault", "annotation"][0].detail
    assert doctor({"label_range": [0, 9]}, a=row) == {}


def test_invalid_labels_are_counted(doctor, film, tmp_path):
    row = well(film(), tmp_path)
    path = tmp_path / "a.csv"
    path.write_text(path.read_text().replace("0.1,0.2", "-5,0.2", 15))
    assert only(doctor(a=row), "note", "invalid-labels").detail.startswith("20.0% of 75 annotation rows")
    write_rows(path, 75, "-5,-5")
    assert ("warning", "no-valid-label") in doctor(a=row)


def test_labels_by_time_end_where_the_media_does(doctor, film, tmp_path):
    row = well(film(), tmp_path)

    def check(text, count=30, **options):
        write_rows(tmp_path / "a.csv", count, text, "time,valence,arousal")
        return doctor(options, a=row)

    assert check("#00,0.1,0.2", time_unit="ms") == {}
    assert "milliseconds?" in only(check("#00,0.1,0.2"), "fault", "label-times").detail
    assert "labels end at 29.0 s" in only(check("#,0.1,0.2"), "fault", "label-times").detail
    assert "labels end at 0.9 s" in only(check("#00,0.1,0.2", 10, time_unit="ms"), "warning", "label-times").detail


def test_recordings_in_no_or_an_unknown_partition_and_a_corpus_without_labels(doctor, film, tmp_path):
    row = well(film(), tmp_path)
    assert only(doctor(a={**row, "partition": ""}), "warning", "no-partition").recording == "a"
    assert "'devel'" in only(doctor(a={**row, "partition": "devel"}), "warning", "partition-name").detail
    assert only(doctor(a={**row, "labels": ""}), "warning", "no-labels").recording == ""
    other = {**well(film("b", sound=-SOUND), tmp_path), "labels": ""}
    assert only(doctor(a=row, b=other), "warning", "no-labels").detail.startswith("1 (b) of train and validation")
    assert doctor(a=row, b={**other, "partition": "test"}) == {}


def test_the_command_tells_it_in_80_columns_and_by_its_exit_code(manifest, film, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = film("good")
    rows = {f"a_rather_long_name_of_a_recording_{i}": well(good, tmp_path, 90) for i in range(8)}
    root = manifest(**rows)
    args = ["doctor", "--dataset", "manifest", "--root", str(root), "--quiet"]
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 1
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "+ 3 more" in result.stdout
    found = json.loads(CliRunner().invoke(cli.app, [*args, "--json"]).stdout)
    assert found["faults"] == 8
    assert found["findings"][0]["check"] == "label-rows"
    root = manifest(a=well(good, tmp_path, 75))
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 0
    assert "nothing is wrong" in result.stdout


def test_wrong_options_are_told_before_anything_is_read(doctor):
    with pytest.raises(ConfigError, match="did you mean 'label_range'"):
        doctor({"label_rang": [1, 9]}, a={"video": "a.mp4"})
