"""The demo corpus: its files are real and odd in the promised ways, and its affect is hidden in the promised shares."""

import hashlib
import json
import re

import av
import numpy as np
import pytest

from cache.errors import DataError, UsageError
from extract.demo.plan import frame_times, plan_scenes
from extract.demo.story import AROUSAL, VALENCE, tell_story, wander
from extract.demo.voice import grow_throat, speak
from extract.demo.words import VOCABULARY, as_srt, choose_words
from extract.demo.write import write_demo

SEED, RECORDINGS = 3, 6
SCENES = {scene.id: scene for scene in plan_scenes(SEED, RECORDINGS)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "corpus"
    write_demo(root, SEED, RECORDINGS, quiet=True)
    return root


def media(root, scene):
    return root / scene.batch / f"{scene.id}{scene.suffix}"


def video_pts(path):
    with av.open(str(path)) as container:
        return np.array([float(frame.pts * frame.time_base) for frame in container.decode(video=0)])


def annotation(root, scene):
    text = (root / "annotations/VA_Estimation_Challenge" / scene.partition / f"{scene.id}.txt").read_text()
    header, *rows = text.splitlines()
    assert header == "valence,arousal"
    assert all(re.fullmatch(r"-?\d\.\d{4},-?\d\.\d{4}", row) for row in rows)
    return np.array([row.split(",") for row in rows], float)


def digest(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_frames_are_where_and_when_they_were_planned(corpus, scene):
    pts = video_pts(media(corpus, scene))
    steps = np.diff(pts)
    assert (steps > 0).all()
    assert pts[0] == pytest.approx(scene.video_start, abs=0.01)
    assert scene.duration - 0.17 < pts[-1] < scene.duration
    if scene.variable:
        assert steps.min() < 0.025
        assert steps.max() > 0.07
        assert len(np.unique(steps.round(3))) > 20
    else:
        np.testing.assert_allclose(steps, 1 / float(scene.rate), atol=0.0011)  # webm counts milliseconds


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_sound_is_there_and_starts_when_planned(corpus, scene):
    with av.open(str(media(corpus, scene))) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (128, 128)
        assert video.codec_context.name in ("h264", "vp9", "libvpx-vp9")
        assert bool(container.streams.audio) == (scene.audio_start is not None)
        if scene.audio_start is None:
            return
        frames = list(container.decode(audio=0))
    assert frames[0].sample_rate == scene.sound_hz
    # an aac track that starts late is preceded by its encoder's 1024 samples of delay
    assert float(frames[0].time) == pytest.approx(scene.audio_start, abs=1024 / scene.sound_hz + 0.01)
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert np.abs(heard).max() > 0.05


def test_every_oddity_is_in_six_recordings_and_in_the_full_corpus():
    for scenes in (list(SCENES.values()), plan_scenes(0, 24)):
        assert {s.suffix for s in scenes} == {".mp4", ".webm"}
        assert {s.extra_rows for s in scenes} == {-1, 0, 1}
        assert any(s.video_start for s in scenes)
        assert any(s.audio_start for s in scenes)
        assert any(s.audio_start is None for s in scenes)
        assert not all(s.transcript for s in scenes)
        assert len({s.rate for s in scenes}) == 3
        assert any(s.leaves and s.crops for s in scenes)
        assert {s.batch for s in scenes} == {"batch1", "batch2"}
    assert sum(s.audio_start is None for s in scenes) == 2
    assert sum(s.variable for s in scenes) == 6


@pytest.mark.parametrize("recordings", [3, 5, 6, 24])
def test_subjects_are_in_one_partition_only(recordings):
    scenes = plan_scenes(0, recordings)
    homes = {}
    for scene in scenes:
        homes.setdefault(scene.subject, set()).add(scene.partition)
    assert all(len(partitions) == 1 for partitions in homes.values())
    sizes = {p: sum(s.partition == p for s in scenes) for p in ("Train_Set", "Validation_Set", "Test_Set")}
    assert all(sizes.values())
    if recordings == 24:
        assert list(sizes.values()) == [12, 5, 7]


def test_subjects_file_agrees_with_the_plan(corpus):
    lines = (corpus / "subjects.csv").read_text().splitlines()
    assert lines == ["recording,subject", *(f"{s.id},{s.subject}" for s in SCENES.values())]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_annotation_has_a_row_a_frame_give_or_take(corpus, scene):
    va = annotation(corpus, scene)
    assert len(va) == len(video_pts(media(corpus, scene))) + scene.extra_rows
    invalid = (va == -5).all(axis=1)
    assert invalid.sum() == 5
    assert (np.abs(va[~invalid]) <= 1).all()
    assert (va[~invalid].std(axis=0) > 0.2).all()


@pytest.mark.parametrize("scene", [s for s in SCENES.values() if s.crops], ids=lambda s: s.id)
def test_crops_are_numbered_by_frame_and_missing_while_the_face_is_away(corpus, scene):
    from PIL import Image

    pts = video_pts(media(corpus, scene))
    paths = sorted((corpus / "cropped_aligned" / scene.id).iterdir())
    numbers = np.array([int(p.stem) for p in paths])
    assert all(re.fullmatch(r"\d{5}\.jpg", p.name) for p in paths)
    with Image.open(paths[0]) as crop:
        assert crop.size == (112, 112)
    missing = np.setdiff1d(np.arange(1, len(pts) + 1), numbers)
    assert numbers.max() <= len(pts)
    assert (np.diff(missing) == 1).all()
    assert 1.9 < pts[missing[-1] - 1] - pts[missing[0] - 1] < 4.1
    with av.open(str(media(corpus, scene))) as container:
        frames = [f.to_ndarray(format="rgb24")[:, :, 0].astype(float) for f in container.decode(video=0)]
    seen, gone = frames[numbers[0]], np.stack([frames[n - 1] for n in missing[1:-1]])
    assert gone.std(axis=(1, 2)).max() < 0.5 * seen.std()  # nothing but the wall
    assert np.abs(gone - gone[0]).mean() < 2


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_transcripts_are_one_known_word_a_cue_within_the_recording(corpus, scene):
    path = corpus / "transcripts" / f"{scene.id}.srt"
    assert path.exists() == scene.transcript
    if not scene.transcript:
        return
    pattern = r"(\d+)\n00:00:(\d\d,\d{3}) --> 00:00:(\d\d,\d{3})\n(\w+)\n"
    cues = re.findall(pattern, path.read_text())
    start, end = np.array([[float(t.replace(",", ".")) for t in cue[1:3]] for cue in cues]).T
    assert [int(cue[0]) for cue in cues] == list(range(1, len(cues) + 1))
    assert {cue[3] for cue in cues} <= set(VOCABULARY)
    assert (start < end).all()
    assert (end[:-1] <= start[1:]).all()
    assert start[0] >= 0
    assert end[-1] <= scene.duration
    assert 1.8 < len(cues) / scene.duration < 3.2


def test_writing_again_returns_at_once_and_leaves_everything(corpus):
    before = {p: p.stat().st_mtime_ns for p in corpus.rglob("*")}
    write_demo(corpus, SEED, RECORDINGS, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in corpus.rglob("*")} == before
    assert json.loads((corpus / "demo.json").read_text()) == {"seed": 3, "version": 1, "recordings": 6}
    assert "synthetic" in (corpus / "README.txt").read_text()
    assert not (corpus / ".demo-part").exists()


def test_same_seed_gives_same_bytes_and_another_seed_replaces_them(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("extract.demo.write.plan_scenes", lambda seed, n: plan_scenes(seed, n)[:2])
    write_demo(tmp_path, SEED, recordings=RECORDINGS)
    first, whole = digest(tmp_path), digest(corpus)
    named = {name: sha for name, sha in first.items() if re.search("demo0[12]", name)}
    assert {"batch1/demo01.mp4", "batch2/demo02.webm", "transcripts/demo01.srt"} < set(named)
    assert {name: whole.get(name) for name in named} == named
    (tmp_path / "mine.txt").write_text("kept")
    monkeypatch.setattr("extract.demo.write.plan_scenes", lambda seed, n: plan_scenes(seed, n)[1:2])
    write_demo(tmp_path, SEED + 1, recordings=RECORDINGS)
    other = digest(tmp_path)
    assert "mine.txt" in other
    assert not any("demo01" in name for name in other)
    assert other["batch2/demo02.webm"] != first["batch2/demo02.webm"]


def test_a_killed_write_is_finished_and_a_real_corpus_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("extract.demo.write.film", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", recordings=3)
    assert not (tmp_path / "demo" / "demo.json").exists()
    monkeypatch.setattr("extract.demo.write.film", lambda *_: None)
    write_demo(tmp_path / "demo", recordings=3)
    assert (tmp_path / "demo" / "demo.json").exists()
    (tmp_path / "real" / "batch1").mkdir(parents=True)
    with pytest.raises(DataError, match="not a demo corpus"):
        write_demo(tmp_path / "real", recordings=3)
    with pytest.raises(UsageError, match="wanted 3"):
        write_demo(tmp_path / "few", recordings=2)


def ccc(a, b):
    return 2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)


def best_ccc(parts, target):
    """Score of the best linear reading of ``parts``: what an oracle of those modalities could reach."""
    design = np.column_stack([*parts, np.ones(len(target))])
    return ccc(design @ np.linalg.lstsq(design, target, rcond=None)[0], target)


@pytest.fixture(scope="module")
def stories():
    return [tell_story(seed, f"person{seed % 7}", 18.0) for seed in range(48)]


PARTS = ("face_valence", "face_arousal", "voice_valence", "voice_arousal", "word_valence")


def test_parts_are_independent_standard_and_smooth(stories):
    parts = np.array([np.concatenate([getattr(s, name) for s in stories]) for name in PARTS])
    assert np.abs(np.corrcoef(parts) - np.eye(5)).max() < 0.12
    for story in stories:
        assert abs(story.face_valence.mean()) < 1e-9
        assert story.face_valence.std() == pytest.approx(1)
    lags = [np.mean([np.mean(s.face_valence[:-k] * s.face_valence[k:]) for s in stories]) for k in (10, 150)]
    assert lags[0] > 0.95
    assert lags[1] < 0.25


def test_no_modality_alone_explains_the_labels_and_all_do(stories):
    part = {name: np.concatenate([getattr(s, name) for s in stories]) for name in PARTS}
    valence, arousal = np.concatenate([s.va for s in stories]).T
    face = [part["face_valence"], part["face_arousal"]]
    voice, words = [part["voice_valence"], part["voice_arousal"]], [part["word_valence"]]
    assert best_ccc(face, valence) == pytest.approx(0.61, abs=0.08)
    assert best_ccc(face, arousal) == pytest.approx(0.61, abs=0.08)
    assert best_ccc(words, valence) == pytest.approx(0.59, abs=0.08)
    assert best_ccc(words, arousal) < 0.05
    assert best_ccc(voice, arousal) == pytest.approx(0.68, abs=0.08)
    assert best_ccc(voice, valence) == pytest.approx(0.16, abs=0.08)
    assert best_ccc(face + voice + words, valence) > 0.93
    assert best_ccc(face + voice + words, arousal) > 0.93
    assert sum(VALENCE.values()) == pytest.approx(1)
    assert sum(AROUSAL.values()) == pytest.approx(1)
    assert valence.std() == pytest.approx(0.38, abs=0.02)
    shuffled = np.concatenate([s.va[:, 0] for s in stories[1:] + stories[:1]])
    assert abs(ccc(shuffled, valence)) < 0.08


def test_cues_and_words_follow_their_parts(stories):
    for story in stories[:10]:
        assert np.corrcoef(story.face_cues[:, 0], story.face_valence)[0, 1] > 0.9
        assert np.corrcoef(story.face_cues[:, 3], story.face_arousal)[0, 1] > 0.9
        assert np.corrcoef(story.voice_cues[:, 0], story.voice_arousal)[0, 1] > 0.9
    said, felt = [], []
    for seed, story in enumerate(stories):
        for word in choose_words(story, np.random.default_rng(seed)):
            said.append(VOCABULARY[word.text])
            felt.append(story.at(np.array([(word.start + word.end) / 2]), story.word_valence)[0])
    assert np.corrcoef(said, felt)[0, 1] > 0.9
    assert 40 <= len(VOCABULARY) <= 60


def test_voice_is_louder_when_aroused_and_silent_in_pauses():
    story = tell_story(5, "p", 16.0)
    words = choose_words(story, np.random.default_rng(0))
    sound = speak(story, words, grow_throat(0, "p"), np.random.default_rng(1), 16000)
    times = (np.arange(len(sound) // 1600) + 0.5) * 0.1
    level = 20 * np.log10(sound[: len(times) * 1600].reshape(-1, 1600).std(axis=1))
    spoken = np.array([any(w.start <= t - 0.05 and t + 0.05 <= w.end for w in words) for t in times])
    quiet = np.array([all(t + 0.1 < w.start or t - 0.1 > w.end for w in words) for t in times])
    assert np.corrcoef(level[spoken], story.at(times, story.voice_arousal)[spoken])[0, 1] > 0.7
    assert level[quiet].mean() < level[spoken].mean() - 8
    assert np.abs(sound).max() < 1


def test_small_pieces():
    times = np.arange(0, 30, 0.01)
    assert wander(np.random.default_rng(0), times).std() == pytest.approx(1)
    scene = plan_scenes(0, 24)[0]
    assert (np.diff(frame_times(scene, np.random.default_rng(0))) > 0.019).all()
    assert as_srt([]) == ""
