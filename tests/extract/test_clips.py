"""What holds for every encoder of clips: which frames a row sees, when rows come out, what they cost to keep."""

import numpy as np
import pytest
import torch

from cache.align import align
from cache.errors import UsageError, WeightsNotFound
from cache.records import Timeline, Track
from cache.store import FeatureCache
from extract.blocks import FrameBlock
from extract.encoders import ENCODERS
from extract.encoders._clips import ClipConfig, ClipEncoder
from extract.encoders._pixels import Preprocess
from extract.recipe import extract_recipe
from extract.run import run_extract

CPU = torch.device("cpu")
NAMES = ("r3d", "r2plus1d", "i3d")
CASES = [
    {},
    {"placement": "centred"},
    {"stride": 3},
    {"stride": 2, "placement": "centred", "clip": 5},
    {"every": 4},
    {"every": 5, "placement": "centred"},
    {"every": 7, "clip": 2},
    {"every": 9, "clip": 3, "placement": "centred"},
    {"every": 3, "clip": 4, "stride": 2, "placement": "centred"},
    {"every": 8, "placement": "centred"},
    {"clip": 1},
]


class Seeing(ClipEncoder):
    """A row is the numbers of the frames of its clip, which are painted into the frames."""

    dim = property(lambda self: self.cfg.clip)

    def __init__(self, **options):
        super().__init__(ClipConfig(**options))
        self.preprocess = Preprocess(2, 1.0, (0, 0, 0), (1, 1, 1), "bilinear")
        self.device = CPU

    def build(self, found):
        raise NotImplementedError

    def embed(self, clips):  # (B, 3, T, 2, 2)
        return (clips[:, 0, :, 0, 0] * 255).round()


def frames(count, start=0.3, fps=25, gaps=()):
    edges = start + np.arange(count + 1) / fps
    shown = [i for i in range(count) if i not in gaps]
    spans = np.stack([edges[:-1], edges[1:]], axis=1)[shown]
    return FrameBlock([np.full((2, 2, 3), i, np.uint8) for i in shown], spans)


def pieces(block, sizes):
    at = 0
    while at < len(block.rgb):
        size = next(sizes)
        yield FrameBlock(block.rgb[at : at + size], block.spans[at : at + size])
        at += size


def encode(encoder, block, size=64):
    parts = pieces(block, iter(lambda: size, None))
    encoder.begin()
    return Track.concat([*(encoder.push(b) for b in parts), encoder.finish()], encoder.dim)


def expected(count, clip=16, stride=1, placement="causal", every=1):
    """Frames seen by the row of each frame, straight from the definition."""
    rows = []
    for frame in range(count):
        first = frame // every * every
        anchor = first if placement == "causal" else min(first + every // 2, count - 1)
        start = anchor - (clip - 1 if placement == "causal" else clip // 2) * stride
        rows.append([min(max(start + k * stride, 0), count - 1) for k in range(clip)])
    return np.array(rows, float)


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 15, 40])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_pitfall_7_every_frame_gets_the_row_of_its_clip_whatever_the_blocks(options, count, size):
    encoder, block = Seeing(**options), frames(count)
    for _ in range(2):  # the second recording starts afresh
        track = encode(encoder, block, size)
        timeline = Timeline(block.spans[:, 0], float(block.spans[-1, 1]))
        aligned = align(track, timeline)
        assert aligned.present.all()
        np.testing.assert_allclose(aligned.values, expected(count, **options), atol=1e-4)
        assert len(track) == -(-count // options.get("every", 1))


def test_with_a_row_a_frame_spans_are_the_frames_own():
    block = frames(33, gaps=(4, 5, 20))
    np.testing.assert_array_equal(encode(Seeing(), block, 5).spans, block.spans)


def test_frames_beside_a_gap_count_as_neighbours():
    track = encode(Seeing(clip=3), frames(9, gaps=(3, 4)), 4)
    np.testing.assert_array_equal(track.values[3], [1, 2, 5])


@pytest.mark.parametrize("size", [1, 4, 64])
def test_a_row_for_several_frames_never_covers_a_gap(size):
    block = frames(12, gaps=(2, 8, 9, 10))  # in order of arrival 0 1 3 4 | 5 6 7 11
    track = encode(Seeing(clip=1, every=4), block, size)
    np.testing.assert_array_equal(track.values[:, 0], [0, 0, 5, 5])
    edges = 0.3 + np.arange(13) / 25
    np.testing.assert_array_equal(track.spans, edges[[[0, 2], [3, 5], [5, 8], [11, 12]]])


def test_rows_come_as_soon_as_their_frames_are_seen():
    block = frames(40)
    assert len(Seeing().push(block)) == 40
    assert len(Seeing(placement="centred").push(block)) == 40 - 7
    assert len(Seeing(placement="centred", stride=2).push(block)) == 40 - 14
    assert len(Seeing(every=16).push(block)) == 2


@pytest.mark.parametrize("options", CASES, ids=str)
def test_pitfall_17_what_is_kept_does_not_grow_and_each_frame_is_prepared_once(options, monkeypatch):
    prepared, kept = [], []
    encoder = Seeing(**options)
    step = Preprocess.__call__
    monkeypatch.setattr(Preprocess, "__call__", lambda s, rgb, d: prepared.append(len(rgb)) or step(s, rgb, d))
    for block in pieces(frames(250), iter(lambda: 10, None)):
        encoder.push(block)
        kept.append(len(encoder._frames))
    encoder.finish()
    c = encoder.cfg
    assert sum(prepared) == 250
    assert max(kept) <= (c.clip - 1) * c.stride + 2 * c.every
    assert max(kept[12:]) <= max(kept[:12])


def test_an_abandoned_recording_leaves_nothing_behind():
    """A decoding error in one recording must not reach into the next."""
    encoder = Seeing(placement="centred")
    encoder.push(frames(30))
    np.testing.assert_array_equal(
        encode(encoder, frames(20)).values, encode(Seeing(placement="centred"), frames(20)).values
    )


def test_no_frames_give_no_rows():
    encoder = Seeing()
    assert encoder.push(FrameBlock([], np.empty((0, 2)))).values.shape == (0, 16)
    assert encoder.finish().values.shape == (0, 16)


@pytest.mark.parametrize("name", ["clip", "stride", "every"])
def test_counts_of_frames_are_at_least_one(name):
    with pytest.raises(UsageError, match=f"{name} = 0 frames"):
        Seeing(**{name: 0})


@pytest.mark.parametrize("name", NAMES)
def test_what_decides_a_clip_is_in_the_settings(name):
    cls = ENCODERS.get(name)
    base = cls(cls.Config()).settings()
    assert base["edges"] == "repeated"
    assert base["preprocess"]["size"] == (224 if name == "i3d" else 112)
    for options in ({"clip": 8}, {"stride": 2}, {"placement": "centred"}, {"every": 2}, {"crop_pct": 1.0}):
        assert cls(cls.Config(**options)).settings() != base
    assert cls(cls.Config(batch_size=1)).settings() == base


@pytest.mark.parametrize("name", NAMES)
def test_published_pickles_are_pointed_to_with_the_way_to_convert_them(name):
    cls = ENCODERS.get(name)
    with pytest.raises(WeightsNotFound, match="convert it once: python -c") as caught:
        cls(cls.Config()).signature()
    message = str(caught.value)
    assert "\n" not in message
    assert message.count(cls.published.pickle.rpartition("/")[2]) == 2
    assert "pass its folder" in message
    assert "random:0" in message
    with pytest.raises(WeightsNotFound, match="no published weights"):
        cls(cls.Config(size="micro")).signature()


@pytest.mark.parametrize("placement", ["causal", "centred"])
def test_clips_and_spectrograms_go_through_a_whole_run(media, manifest, tmp_path, placement):
    pts = 0.4 + np.arange(70) / 25  # more than one block of the decoder
    path = media(tmp_path / "a.mp4", pts, sound=np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32))
    micro = {"size": "micro", "weights": "random:0", "placement": placement}
    data = {"dataset": "manifest", "root": manifest(a={"video": path}), "cache": tmp_path / "cache"}
    data |= {
        "visual": ["i3d", "resnet18"],
        "audio": ["spectrogram"],
        "text": [],
        "i3d": {**micro, "every": 4, "clip": 8},
    }
    data |= {"resnet18": {"size": "micro", "weights": "random:0"}, "spectrogram": micro}
    report = run_extract(extract_recipe(data), quiet=True)
    assert (report.made, report.kept) == (3, 0)
    cache = FeatureCache(tmp_path / "cache")
    for name, frames_present in (("i3d", 70), ("resnet18", 70), ("spectrogram", 52)):
        aligned = cache.read(cache.resolve(name).key, "a")
        assert aligned.values.shape == (70, 128 if name == "i3d" else 64)
        assert abs(aligned.present.sum() - frames_present) <= 3 * (name == "spectrogram")  # sound ends at 2.5 s


@pytest.mark.parametrize("name", NAMES)
def test_block_sizes_do_not_matter_to_the_real_networks(name):
    cls = ENCODERS.get(name)
    encoder = cls(cls.Config(size="micro", weights="random:0", placement="centred", clip=8, every=3))
    encoder.load(CPU)
    rng = np.random.default_rng(0)
    spans = frames(19).spans
    block = FrameBlock([rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in spans], spans)
    whole, single = encode(encoder, block), encode(encoder, block, 1)
    np.testing.assert_array_equal(whole.spans, single.spans)
    np.testing.assert_allclose(whole.values, single.values, rtol=1e-4, atol=1e-5)
