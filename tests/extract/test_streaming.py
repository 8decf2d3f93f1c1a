"""What makes memory constant: spools, sound in pieces, a reader that works ahead, deadlines."""

import io
import math
import os
import threading
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.align import POLICIES, align
from cache.errors import CacheError, DataError
from cache.prefetch import prefetched, within
from cache.records import Timeline, Track
from extract.encoders import ENCODERS, Encoder
from extract.recipe import extract_recipe
from extract.run import run_extract
from extract.sound import Resampler, SoundFile, listen, read_waveform, sound_at
from extract.spool import Spool, TrackSpool


def resample(samples, native, rate, cuts):
    resampler, out = Resampler(native, rate), []
    for piece in np.split(samples, cuts):
        out += resampler.push(piece)
    return np.concatenate([*out, *resampler.finish()])


@pytest.mark.parametrize("native", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_sound_resampled_in_pieces_is_sound_resampled_at_once(native, rate, data):
    count = data.draw(st.one_of(st.integers(1, 2000), st.integers(10 * native, 23 * native)))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    wanted = torchaudio.transforms.Resample(native, rate)(torch.from_numpy(samples)).numpy()
    made = resample(samples, native, rate, cuts)
    assert len(made) == math.ceil(count * rate / native)
    assert abs(len(made) - len(wanted)) <= 1  # torchaudio rounds the length in single precision
    np.testing.assert_allclose(made[: len(wanted)], wanted[: len(made)], atol=1e-5)


def test_a_rate_that_would_need_an_endless_filter_is_refused():
    with pytest.raises(DataError, match="44101 Hz cannot be resampled to 16000 Hz"):
        Resampler(44_101, 16_000)


def test_sound_is_decoded_once_for_all_rates_and_leaves_nothing_behind(media, tmp_path, monkeypatch):
    decoded = []
    pieces = SoundFile.pieces
    monkeypatch.setattr(SoundFile, "pieces", lambda self: decoded.append(self.path) or pieces(self))
    tone = (0.3 * np.sin(np.arange(48_000) / 9)).astype(np.float32)
    path = media(tmp_path / "a.mkv", np.arange(25) / 25, sound=tone, rate=48_000, sound_start=0.2)
    with sound_at(path, {16_000, 44_100}, tmp_path) as sounds:
        assert decoded == [path]
        for rate, sound in sounds.items():
            whole = read_waveform(path, rate)
            assert (sound.rate, sound.start) == (rate, whole.start)
            assert np.array_equal(sound.samples[:], whole.samples)
            assert np.array_equal(sound.samples[100:-7], whole.samples[100:-7])
            assert not len(sound.samples[10**9 :])
    assert list((tmp_path / ".staging").iterdir()) == []
    heard = listen(path)
    assert heard.seconds == pytest.approx(len(whole.samples) / 44_100, abs=1e-3)
    assert heard.loudest == pytest.approx(0.3, abs=0.05)
    with sound_at(media(tmp_path / "mute.mkv", np.arange(3) / 25), {16_000}, tmp_path) as sounds:
        assert sounds == {}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), policy=st.sampled_from(sorted(POLICIES)))
def test_a_track_on_disk_aligns_as_one_in_memory(tmp_path_factory, seed, policy):
    rng = np.random.default_rng(seed)
    rows, frames = int(rng.integers(0, 4000)), int(rng.integers(1, 3000))
    start = np.sort(rng.uniform(-1, frames / 25, rows)) if seed % 2 else rng.uniform(-1, frames / 25, rows)
    spans = np.stack([start, start + rng.uniform(0.001, 0.3, rows)], axis=1)
    track = Track(spans, rng.standard_normal((rows, 3)).astype(np.float32))
    timeline = Timeline(np.arange(frames) / 25, frames / 25)
    spool = TrackSpool(tmp_path_factory.getbasetemp(), 3)
    for at in range(0, rows, 700):
        spool.append(Track(track.spans[at : at + 700], track.values[at : at + 700]))
    on_disk, in_memory = align(spool.track, timeline, policy), align(track, timeline, policy)
    spool.close()
    assert np.array_equal(on_disk.values, in_memory.values)
    assert np.array_equal(on_disk.present, in_memory.present)


def test_a_spool_on_a_full_disk_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("extract.spool.tempfile.TemporaryFile", lambda dir: io.FileIO("/dev/full", "wb"))
    spool = Spool(tmp_path)
    with pytest.raises(CacheError, match="No space left"):
        spool.append(np.zeros(10, np.float32))
    spool.close()


@pytest.mark.parametrize(
    ("row", "wrong"), [((2,), (3, 4)), ((2,), (3, 1)), ((2,), (3,)), ((), (3, 2)), ((1, 4), (3, 4))]
)
def test_rows_of_another_shape_are_refused_and_nothing_of_them_is_kept(tmp_path, row, wrong):
    spool = Spool(tmp_path, row)
    spool.append(np.ones((5, *row), np.float32))
    with pytest.raises(DataError) as caught:
        spool.append(np.zeros(wrong, np.float32))
    assert str(caught.value) == f"rows of shape {wrong[1:]}; wanted {row}"
    spool.append(np.ones((1, *row), np.float32))
    assert np.array_equal(spool[:], np.ones((6, *row), np.float32))
    spool.close()


def test_a_spool_that_was_cut_off_is_an_error_and_not_an_endless_wait(tmp_path):
    spool = Spool(tmp_path, (2,))
    spool.append(np.ones((10, 2), np.float32))
    os.ftruncate(spool._file.fileno(), 60)  # of 80 bytes
    assert spool[:7].shape == (7, 2)
    with pytest.raises(EOFError, match="row 5 to 10 of 10 are not in their spool"):
        spool[5:]
    spool.close()


def test_a_reader_works_ahead_by_no_more_than_it_may():
    read, go = [], threading.Event()

    def items():
        for i in range(20):
            read.append(i)
            if i == 3:
                go.set()
            yield i

    out = prefetched(items(), ahead=2)
    assert next(out) == 0
    assert go.wait(10)  # one taken, two waiting, one in hand
    assert read == [0, 1, 2, 3]
    assert list(out) == list(range(1, 20))


def test_errors_of_the_reader_come_out_in_their_place_and_a_consumer_that_leaves_ends_it():
    def items():
        yield 1
        raise DataError("broken")

    seen = []
    with pytest.raises(DataError, match="broken"):
        seen.extend(prefetched(items()))
    before = threading.active_count()
    out = prefetched(iter(range(10**9)))
    assert next(out) == 0
    assert threading.active_count() == before + 1
    out.close()
    assert threading.active_count() == before


def test_pitfall_6_a_reader_that_hangs_is_an_error_of_its_file():
    forever = threading.Event()

    def items():
        yield 1
        forever.wait()

    with pytest.raises(DataError, match=r"film.mp4: nothing could be read for 0.05 s"):
        list(prefetched(items(), stall_s=0.05, what="film.mp4"))
    forever.set()


@dataclass(frozen=True)
class WideConfig:
    weights: str = "none"


class Wide(Encoder):
    """Rows of 256 numbers for every frame, and for every 20 ms of sound, ten seconds at a time."""

    Config, dim, modality = WideConfig, 256, "visual"

    def signature(self):
        return ["wide"]

    def load(self, device):
        self.weights_hash = "wide"

    def push(self, block):
        return Track(block.spans, np.ones((len(block.spans), self.dim), np.float32))


class WideSound(Wide):
    modality = "audio"

    def tracks(self, sound):
        for at in range(0, len(sound.samples), 160_000):
            rows = np.arange(0, len(sound.samples[at : at + 160_000]), 320)
            spans = sound.start + (at + np.stack([rows, rows + 320], axis=1)) / 16_000
            yield Track(spans, np.ones((len(rows), self.dim), np.float32))


@pytest.mark.slow
def test_pitfall_17_memory_is_constant_in_length(media, manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS._classes, "wide", Wide)
    monkeypatch.setitem(ENCODERS._classes, "wide-sound", WideSound)
    peaks = {}
    for seconds in (90, 400):
        path = media(tmp_path / f"{seconds}.mkv", np.arange(seconds * 25) / 25, sound=np.zeros(seconds * 16_000))
        given = {"dataset": "manifest", "root": manifest(a={"video": path}), "cache": tmp_path / f"cache{seconds}"}
        recipe = extract_recipe({**given, "visual": ["wide"], "audio": ["wide-sound"], "text": []})
        tracemalloc.start()
        assert run_extract(recipe, quiet=True).made == 2
        peaks[seconds] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if seconds == 400:  # whose rows alone are 31 MB
            assert peaks[400] < peaks[90] + 3e6  # frame times and spans alone


def test_what_takes_longer_than_its_deadline_is_given_up():
    assert list(within([1, 2], time.monotonic() + 60, "a")) == [1, 2]
    with pytest.raises(DataError, match="a was given up: its deadline has passed"):
        list(within([1, 2], time.monotonic() - 1, "a"))


def test_sound_that_takes_longer_than_its_deadline_is_given_up(media, tmp_path):
    path = media(tmp_path / "a.mkv", np.arange(3) / 25, sound=np.zeros(16_000, np.float32))
    late, soon = time.monotonic() - 1, time.monotonic() + 600
    assert listen(path, soon).seconds > 0.9
    with pytest.raises(DataError, match=r"a\.mkv was given up: its deadline has passed; look at the file"):
        listen(path, late)
    with pytest.raises(DataError, match=r"a\.mkv was given up"), sound_at(path, {16_000}, tmp_path, late):
        pass
    assert list((tmp_path / ".staging").iterdir()) == []
