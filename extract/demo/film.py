"""From a planned scene to its files: media, transcript, face crops and annotation of one recording."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from extract.demo.encode import Sound, write_media
from extract.demo.face import Portrait
from extract.demo.look import dress
from extract.demo.plan import Scene, frame_times
from extract.demo.story import Story, tell_story, wander
from extract.demo.voice import grow_throat, speak
from extract.demo.words import as_srt, choose_words

VIDEO_SIZE, CROP_SIZE = 128, 112
ANNOTATIONS = Path("annotations/VA_Estimation_Challenge")
INVALID_FRAMES = 5  # a recording; in a row, as in the real corpus
TURN_S = 0.35  # from in view to out of view

F64 = npt.NDArray[np.float64]


def scene_seed(seed: int, scene: Scene) -> int:
    """The seed of a recording's own randomness: its story, words, frame times and jitter."""
    return int(np.random.SeedSequence([seed, scene.index]).generate_state(1)[0])


def film(root: Path, seed: int, scene: Scene) -> None:
    """Write every file of one recording below ``root``; the folders must exist."""
    own = scene_seed(seed, scene)
    rng = np.random.default_rng([own, 2])
    story = tell_story(own, scene.subject, scene.duration, scene.leaves)
    words = choose_words(story, rng)
    edges = frame_times(scene, rng)
    sound = None
    if scene.audio_start is not None:
        samples = speak(story, words, grow_throat(seed, scene.subject), rng, scene.sound_hz)
        sound = Sound(samples[round(scene.audio_start * scene.sound_hz) :], scene.sound_hz, scene.audio_start)
    look, cues = dress(seed, scene.subject), _blink(story.at(edges[:-1], story.face_cues), rng)
    frames = _frames(Portrait(look, VIDEO_SIZE), story, cues, edges[:-1], rng)
    write_media(root / scene.batch / f"{scene.id}{scene.suffix}", frames, edges, VIDEO_SIZE, scene.rate, sound)
    if scene.crops:
        _write_crops(root / "cropped_aligned" / scene.id, Portrait(look, CROP_SIZE), cues, story.is_away(edges[:-1]))
    if scene.transcript:
        (root / "transcripts" / f"{scene.id}.srt").write_text(as_srt(words), encoding="utf-8")
    rows = _annotate(story.at(edges[:-1], story.va), scene.extra_rows, rng)
    (root / ANNOTATIONS / scene.partition / f"{scene.id}.txt").write_text(rows, encoding="utf-8")


def _frames(
    portrait: Portrait, story: Story, cues: F64, times: F64, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pictures of a recording: a head that sways a little, and slides out of view while it is away."""
    sway = 0.015 * np.stack([wander(rng, story.times, 1.0) for _ in range(2)], axis=1)
    dx, dy = story.at(times, sway).T
    for start, end in story.away:
        dx = dx + 3.0 * np.interp(times, [start - TURN_S, start, end, end + TURN_S], [0, 1, 1, 0])
    for cue, x, y in zip(cues, dx, dy, strict=True):
        yield portrait.draw(cue, x, y)


def _blink(cues: F64, rng: np.random.Generator) -> F64:
    """The cues with closed eyes for three frames, now and then."""
    cues, eyes = cues.copy(), 3
    for at in rng.choice(len(cues), len(cues) // 90, replace=False):
        cues[at : at + 3, eyes] = -2.5
    return cues


def _write_crops(folder: Path, portrait: Portrait, cues: F64, away: npt.NDArray[np.bool_]) -> None:
    folder.mkdir(parents=True)
    for number, (cue, gone) in enumerate(zip(cues, away, strict=True), 1):
        if not gone:
            Image.fromarray(portrait.draw(cue)).save(folder / f"{number:05d}.jpg", quality=88)


def _annotate(va: F64, extra_rows: int, rng: np.random.Generator) -> str:
    """The annotation file: a header and a row a frame, give or take ``extra_rows``; some frames are -5, invalid."""
    va = np.concatenate([va, va[-1:]])[: len(va) + extra_rows]
    first = int(rng.integers(10, len(va) - 10 - INVALID_FRAMES))
    va[first : first + INVALID_FRAMES] = -5
    return "valence,arousal\n" + "".join(f"{v:.4f},{a:.4f}\n" for v, a in va)
