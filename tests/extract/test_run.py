"""Stage one through its public surface: alignment, resumption, what is missing, what is broken."""

import errno
import json
import os

import numpy as np
import pytest

from cache.commit import in_progress
from cache.errors import CacheError, ConfigError, DataError, MissingData, UnknownName, UsageError
from cache.fingerprint import differing
from cache.store import FeatureCache
from extract.recipe import extract_recipe
from extract.run import run_extract
from extract.streams import want

CFR = np.arange(75) / 25
MADE = {"brightness": "visual", "loudness": "audio"}


def flash_at(frames):
    return lambda i: np.full((64, 64, 3), 235 if i in frames else 20, np.uint8)


def beep(seconds, start, length, rate=16_000):
    t = np.arange(round(seconds * rate)) / rate
    return (0.6 * np.sin(2 * np.pi * 880 * t) * ((t >= start) & (t < start + length))).astype(np.float32)


def run(root, cache, **more):
    data = {"dataset": "manifest", "root": root, "cache": cache, "visual": ["brightness"], "audio": ["loudness"]}
    return run_extract(extract_recipe({**data, "text": ["length"], **more}), quiet=True)


def stream(cache_root, name, recording):
    cache = FeatureCache(cache_root)
    return cache.read(cache.resolve(name).key, recording)


@pytest.mark.parametrize(("start", "rate"), [(0.0, 16_000), (0.0, 44_100), (0.31, 48_000)])
def test_pitfall_10_flash_and_beep_meet_within_half_a_frame(light_encoders, media, manifest, tmp_path, start, rate):
    pts = np.cumsum([start, *np.random.default_rng(3).uniform(0.02, 0.07, 80)])
    flash = range(40, 46)
    begin, end = pts[40], pts[46]
    sound = beep(pts[-1] + 0.5, begin, end - begin, rate)
    path = media(tmp_path / "clip.mp4", pts, picture=flash_at(flash), sound=sound, rate=rate)
    run(manifest(clip={"video": path}), tmp_path / "cache")
    timeline = FeatureCache(tmp_path / "cache").timelines.read("clip")
    middles = (timeline.edges[:-1] + timeline.edges[1:]) / 2
    shown = np.diff(timeline.edges)

    def centre(name):
        strength = stream(tmp_path / "cache", name, "clip").values[:, 0]
        weight = np.where(strength > strength.max() / 4, strength, 0) * shown
        return (weight * middles).sum() / weight.sum()

    misalignment = abs(centre("brightness") - centre("loudness"))
    assert misalignment <= np.median(np.diff(pts)) / 2, f"{misalignment * 1000:.1f} ms"


def test_a_second_run_encodes_nothing_and_speed_options_remake_nothing(light_encoders, media, manifest, tmp_path):
    path = media(tmp_path / "a.mp4", CFR, sound=beep(3, 1, 0.5))
    root = manifest(a={"video": path})
    first = run(root, tmp_path / "cache")
    assert (first.made, first.kept) == (3, 0)
    counts = [c.pushed for c in light_encoders.values()]
    second = run(root, tmp_path / "cache", brightness={"batch_size": 99})
    assert (second.made, second.kept) == (0, 3)
    assert [c.pushed for c in light_encoders.values()] == counts


def test_nothing_is_pruned_while_encoders_are_still_loaded(light_encoders, media, manifest, tmp_path, monkeypatch):
    cache, encoder, seen = tmp_path / "cache", light_encoders["brightness"], []
    load = encoder.load

    def look(self, device):
        seen.append(in_progress(cache))
        load(self, device)

    monkeypatch.setattr(encoder, "load", look)
    run(manifest(a={"video": media(tmp_path / "a.mp4", CFR)}), cache)
    assert [len(names) for names in seen] == [1], "no recording is claimed yet, no draft is open"
    assert in_progress(cache) == []


def test_pitfall_14_another_option_is_a_new_stream_beside_the_old(light_encoders, media, manifest, tmp_path):
    root = manifest(a={"video": media(tmp_path / "a.mp4", CFR)})
    first = run(root, tmp_path / "cache")
    second = run(root, tmp_path / "cache", brightness={"gain": 2.0})
    third = run(root, tmp_path / "cache", align="nearest")
    keys = {k for r in (first, second, third) for k in r.streams if k.startswith("brightness-")}
    assert len(keys) == 3
    assert set(FeatureCache(tmp_path / "cache").stream_keys()) >= keys


def test_pitfall_29_what_a_recording_lacks_is_absent_not_zero(light_encoders, media, manifest, tmp_path):
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:00:01,500\nhello\n")
    mute = media(tmp_path / "mute.mp4", CFR)
    short = media(tmp_path / "short.mkv", CFR, sound=beep(1.0, 0, 1))
    root = manifest(mute={"video": mute, "transcript": tmp_path / "words.srt"}, short={"video": short})
    result = run(root, tmp_path / "cache")
    assert not result.failures
    assert any("loudness" in n and "absent throughout in 1 of 2 recordings: mute" in n for n in result.notes)
    assert not stream(tmp_path / "cache", "loudness", "mute").present.any()
    heard = stream(tmp_path / "cache", "loudness", "short").present
    assert heard[:24].all()
    assert not heard[28:].any()
    spoken = stream(tmp_path / "cache", "length", "mute")
    assert np.flatnonzero(spoken.present).tolist() == list(range(25, 38))
    assert (spoken.values[spoken.present, 0] == 5).all()
    assert not stream(tmp_path / "cache", "length", "short").present.any()


def test_crops_replace_frames_and_missing_faces_are_absent(light_encoders, media, manifest, tmp_path):
    from PIL import Image

    crops = tmp_path / "crops"
    crops.mkdir()
    seen = [f for f in range(75) if not 30 <= f < 50]
    for frame in seen:
        Image.new("RGB", (8, 8), (frame, frame, frame)).save(crops / f"{frame + 1:05d}.png")
    video = media(tmp_path / "a.mp4", CFR)
    run(manifest(a={"video": video, "crops": crops}), tmp_path / "cache")
    faces = stream(tmp_path / "cache", "brightness", "a")
    assert np.flatnonzero(faces.present).tolist() == seen
    np.testing.assert_allclose(faces.values[seen, 0], np.array(seen) / 255, atol=1e-3)


def test_a_recording_of_sound_alone_gets_a_nominal_clock_and_says_so(light_encoders, media, manifest, tmp_path):
    path = media(tmp_path / "a.mp4", CFR, sound=beep(3, 1, 0.5))
    run(manifest(a={"audio": path}), tmp_path / "cache")
    cache = FeatureCache(tmp_path / "cache")
    assert cache.timelines.info("a")["clock"] == "nominal"
    np.testing.assert_allclose(np.diff(cache.timelines.read("a").pts), 0.04)
    assert not stream(tmp_path / "cache", "brightness", "a").present.any()


def test_pitfall_30_bad_files_are_listed_and_the_rest_go_on(light_encoders, media, manifest, tmp_path):
    good = media(tmp_path / "good.mp4", CFR)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello " * 200)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    names = ("good", "empty", "text", "broken", "gone")
    root = manifest(**{n: {"video": tmp_path / f"{n}.mp4"} for n in names})
    result = run(root, tmp_path / "cache")
    assert {f.recording for f in result.failures} == {"empty", "text", "broken", "gone"}
    assert result.made == 3
    assert "empty" in (tmp_path / "cache" / "failures.csv").read_text()
    assert all("\n" not in f.cause for f in result.failures)


def test_failures_are_listed_whatever_ends_the_run(light_encoders, media, manifest, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    root = manifest(a={"video": tmp_path / "a.mp4"}, b={"video": media(tmp_path / "b.mp4", CFR)})

    def stop(self, block):
        raise KeyboardInterrupt

    monkeypatch.setattr(light_encoders["brightness"], "push", stop)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "cache")
    listed = tmp_path / "cache" / "failures.csv"
    assert [line.split(",")[:2] for line in listed.read_text().splitlines()[1:]] == [["a", "media"]]
    monkeypatch.undo()
    listed.write_text("of an earlier run\n")
    with pytest.raises(UnknownName):
        run(root, tmp_path / "cache", visual=["swim"])
    assert listed.exists()  # that was no run


def test_labels_can_be_trained_on_while_extraction_goes_on(light_encoders, media, manifest, tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        media(tmp_path / f"{name}.mp4", CFR)
        (tmp_path / f"{name}.txt").write_text("valence,arousal\n" + "0.1,0.2\n" * 75)
    root = manifest(**{n: {"video": tmp_path / f"{n}.mp4", "labels": f"{n}.txt"} for n in ("a", "b", "c")})
    seen = []

    def look(self, block):
        store = FeatureCache(tmp_path / "cache").labels
        seen.append(store.recordings("va") if store.protocols() else [])
        return brightness(self, block)

    brightness = light_encoders["brightness"].push
    monkeypatch.setattr(light_encoders["brightness"], "push", look)
    monkeypatch.setattr("extract.run._every", lambda seconds, act: act)
    run(root, tmp_path / "cache")
    assert [seen[0], seen[-1]] == [[], ["a", "b"]]


def test_pitfall_31_the_first_recordings_failing_alike_stop_the_run(light_encoders, manifest, tmp_path):
    root = manifest(**{f"r{i}": {"video": tmp_path / f"r{i}.mp4"} for i in range(9)})
    with pytest.raises(UsageError, match="first 5 recordings all failed"):
        run(root, tmp_path / "cache")


def test_changed_media_under_an_old_id_is_refused(light_encoders, media, manifest, tmp_path):
    path = media(tmp_path / "a.mp4", CFR)
    root = manifest(a={"video": path})
    run(root, tmp_path / "cache")
    media(path, CFR[:50])
    result = run(root, tmp_path / "cache", brightness={"gain": 3.0})
    assert "its media changed" in result.failures[0].hint


def test_labels_land_on_frames_and_surplus_rows_are_reported(light_encoders, media, manifest, tmp_path):
    rows = np.linspace(-1, 1, 77)
    lines = [f"{v:.4f},{-v:.4f}" for v in rows]
    lines[3] = "-5,-5"
    (tmp_path / "a.txt").write_text("valence,arousal\n" + "\n".join(lines) + "\n")
    video = media(tmp_path / "a.mp4", CFR)
    result = run(manifest(a={"video": video, "labels": "a.txt", "partition": "train"}), tmp_path / "cache")
    assert any("77 annotation rows for 75 frames; dropped 2 from the tail" in n for n in result.notes)
    labels = FeatureCache(tmp_path / "cache").labels.read("va", "a")
    assert labels.labelled.sum() == 74
    np.testing.assert_allclose(labels.va[labels.labelled, 0], np.delete(rows[:75], 3), atol=1e-4)
    assert FeatureCache(tmp_path / "cache").labels.partitions("va").members("train") == ["a"]


def test_wrong_recipes_say_what_is_right(light_encoders, manifest, tmp_path):
    root = manifest(a={"video": tmp_path / "a.mp4"})
    with pytest.raises(UnknownName, match="did you mean 'brightness'"):
        run(root, tmp_path / "c1", visual=["brightnes"])
    with pytest.raises(UsageError, match="give it as --audio loudness"):
        run(root, tmp_path / "c2", visual=["loudness"])
    with pytest.raises(ConfigError, match="did you mean 'gain'"):
        run(root, tmp_path / "c3", brightness={"gian": 1})
    with pytest.raises(ConfigError, match="does not use it"):
        run(root, tmp_path / "c4", visual=[], brightness={"gain": 1})
    with pytest.raises(MissingData, match="no manifest at"):
        run(tmp_path / "nowhere", tmp_path / "c5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,vidoe\na,b\n", "did you mean 'video'"),
        ("video\nb\n", "no column 'id'"),
        ("id,video\na,x\na,y\n", "line 3"),
        ("id,video\na,\n", "line 2"),
    ],
)
def test_bad_manifests_name_the_line(tmp_path, text, message):
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        run(tmp_path, tmp_path / "cache")


def test_info_of_a_commit_has_no_clock_of_the_wall(light_encoders, media, manifest, tmp_path):
    root = manifest(a={"video": media(tmp_path / "a.mp4", CFR)})
    trees = []
    for name in ("one", "two"):
        run(root, tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        trees.append({str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files})
    assert trees[0] == trees[1]
    assert json.loads(trees[0]["zarr.json"])["attributes"]["affuse"]["dataset"] == "manifest"


def test_pitfall_16_a_full_disk_stops_the_run_and_commits_nothing_half(
    light_encoders, media, manifest, tmp_path, monkeypatch
):
    root = manifest(**{n: {"video": media(tmp_path / f"{n}.mp4", CFR)} for n in ("a", "b")})
    real, left = os.fsync, iter([None] * 25)

    def full(fd):
        if next(left, "full") == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CacheError, match=r"No space left on device.*run the same command again"):
        run(root, tmp_path / "cache")
    monkeypatch.setattr("os.fsync", real)
    cache = FeatureCache(tmp_path / "cache")
    for key in cache.stream_keys():
        for recording in cache.recordings(key):
            assert len(cache.read(key, recording).values) == 75
    assert not any((tmp_path / "cache" / ".staging").iterdir())
    run(root, tmp_path / "cache")
    run(root, tmp_path / "clean")
    files = {p.relative_to(tmp_path / "clean"): p for p in (tmp_path / "clean").rglob("*") if p.is_file()}
    assert all((tmp_path / "cache" / name).read_bytes() == p.read_bytes() for name, p in files.items())


@pytest.mark.slow
def test_flash_and_beep_meet_within_half_a_frame_through_the_real_encoders(media, manifest, tmp_path):
    """Micro Swin and HuBERT: how far their rows are from the clip's usual row tells where flash and beep are."""
    pts = np.arange(100) / 25
    sound = beep(4.2, pts[50], 0.4)
    path = media(tmp_path / "clip.mp4", pts, picture=flash_at(range(50, 60)), sound=sound)
    micro = {"size": "micro", "weights": "random:0"}
    data = {"dataset": "manifest", "root": manifest(clip={"video": path}), "cache": tmp_path / "cache", "text": []}
    run_extract(extract_recipe({**data, "swin": micro, "hubert": micro}), quiet=True)

    def centre(name):
        rows = stream(tmp_path / "cache", name, "clip").values
        change = np.linalg.norm(rows - np.median(rows, axis=0), axis=1)
        inside = change > change.max() / 2
        return (np.flatnonzero(inside) / 25).mean()

    assert abs(centre("swin") - centre("hubert")) <= 0.02


def test_a_bad_audio_file_costs_the_audio_stream_only(light_encoders, media, manifest, tmp_path):
    (tmp_path / "bad.wav").write_text("not sound")
    video = media(tmp_path / "a.mp4", CFR)
    result = run(manifest(a={"video": video, "audio": tmp_path / "bad.wav"}), tmp_path / "cache")
    assert [(f.recording, f.stage) for f in result.failures] == [("a", "audio")]
    assert result.made == 2
    assert stream(tmp_path / "cache", "brightness", "a").present.all()


def test_known_bad_recordings_do_not_stop_a_resumed_run(light_encoders, media, manifest, tmp_path):
    video = media(tmp_path / "good.mp4", CFR)
    rows = {"a": {"video": video}, **{f"bad{i}": {"video": tmp_path / f"bad{i}.mp4"} for i in range(7)}}
    assert len(run(manifest(**rows), tmp_path / "cache", audio=[], text=[]).failures) == 7
    rows["zz"] = {"video": video}
    result = run(manifest(**rows), tmp_path / "cache", audio=[], text=[])
    assert (result.made, result.kept, len(result.failures)) == (1, 1, 7)


def test_other_files_under_a_committed_id_are_reported(light_encoders, media, manifest, tmp_path):
    first = media(tmp_path / "a.mp4", CFR, sound=beep(3, 1, 0.5))
    assert not run(manifest(a={"video": first}), tmp_path / "cache").failures
    second = media(tmp_path / "b.mp4", CFR[:40], sound=beep(1, 0, 0.5))
    failures = run(manifest(a={"video": second}), tmp_path / "cache").failures
    assert {f.recording for f in failures} == {"a"}
    assert "was made from frames a.mp4" in failures[0].cause
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:01,500\nhello\n")
    later = run(manifest(a={"video": first, "transcript": tmp_path / "a.srt"}), tmp_path / "cache").failures
    assert ["now has transcript a.srt" in f.cause for f in later] == [True]
    first.unlink()
    assert not run(manifest(a={"video": first}), tmp_path / "cache").failures  # gone is not changed


def test_sound_that_jumps_by_hours_or_joined_films_are_errors(light_encoders, media, manifest, tmp_path, monkeypatch):
    path = media(tmp_path / "a.mp4", CFR)
    times = iter([0.0, 5.0, 5.04, 1.0])
    monkeypatch.setattr("extract.media._shown_at", lambda frame: next(times, frame.time))
    (failure,) = run(manifest(a={"video": path}), tmp_path / "cache", audio=[], text=[]).failures
    assert "frame 3 is shown at 1.000 s, after one at 5.040 s" in failure.cause


def test_pitfall_6_a_recording_past_its_deadline_is_given_up_and_can_be_made_later(
    light_encoders, media, manifest, tmp_path
):
    rows = {n: {"video": media(tmp_path / f"{n}.mkv", CFR, sound=beep(3, 1, 1))} for n in "ab"}
    result = run(manifest(**rows), tmp_path / "cache", deadline_s=-1.0, text=[])
    assert [(f.recording, f.stage) for f in result.failures] == [("a", "media"), ("b", "media")]
    assert "its deadline has passed" in result.failures[0].cause
    assert result.failures[0].hint == "look at the file, or give more time: --set deadline_s=SECONDS"
    assert result.made == 0
    assert run(manifest(**rows), tmp_path / "cache", text=[]).made == 4


def test_hardware_decoding_is_asked_for_probed_and_in_the_fingerprint(light_encoders, media, manifest, tmp_path):
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR, sound=beep(3, 1, 1))})
    with pytest.raises(UsageError, match="decode = 'tpu' is none that PyAV was built with; use cpu"):
        run(root, tmp_path / "cache", decode="tpu")
    run(root, tmp_path / "cache", text=[])
    wanted = {n: want(n, m, {}, align="overlap", dtype="float16", decode="cuda") for n, m in MADE.items()}
    cache = FeatureCache(tmp_path / "cache")
    for name in MADE:
        changed = differing(cache.about(cache.resolve(name).key)["settings"], wanted[name].settings)
        assert set(changed) - {"weights"} == ({"decoder"} if name == "brightness" else set())
