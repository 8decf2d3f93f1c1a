"""Swin features against timm's own model and transform."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cache.errors import DataError
from extract.blocks import FrameBlock
from extract.encoders import ENCODERS
from extract.encoders._pixels import Preprocess

CPU = torch.device("cpu")
SWIN = ENCODERS.get("swin")
SIZES = ((112, 112), (320, 240), (90, 161), (248, 300))


def frames(*sizes, seed=0):
    """Smooth random images with some noise."""
    rng = np.random.default_rng(seed)
    out = []
    for h, w in sizes:
        small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize(
            (w, h), Image.Resampling.BICUBIC
        )
        out.append(np.clip(np.asarray(small).astype(int) + rng.integers(-9, 10, (h, w, 3)), 0, 255).astype(np.uint8))
    return out


def block(rgb):
    t = np.arange(len(rgb) + 1) / 25
    return FrameBlock(rgb, np.stack([t[:-1], t[1:]], axis=1))


def micro(**options):
    encoder = SWIN(SWIN.Config(size="micro", weights="random:0", **options))
    encoder.load(CPU)
    return encoder


@pytest.mark.parametrize("floats", [False, True])
def test_preprocessing_equals_timms_evaluation_transform(floats, monkeypatch):
    """Up to two levels of 255 in 1 % of the bytes, where torch and PIL round differently; on every device."""
    from timm.data import create_transform

    transform = create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.9)
    images = frames(*SIZES)
    wanted = torch.stack([transform(Image.fromarray(i)) for i in images])
    if floats:
        monkeypatch.setattr(Preprocess, "_resize", lambda self, x: self._resize_as_floats(x, size_of(x)))
    off = (Preprocess(224, 0.9)(images, CPU) - wanted).abs()
    assert off.max() < 2.01 / 255 / 0.224
    assert (off > 1e-6).float().mean() < 0.01


def size_of(images, short=248):
    h, w = images.shape[2:]
    return (short, int(short * w / h)) if h <= w else (int(short * h / w), short)


def test_rows_hold_as_long_as_their_frames():
    b = block(frames(*SIZES))
    track = micro().push(b)
    np.testing.assert_array_equal(track.spans, b.spans)


def test_sizes_in_a_block_do_not_matter():
    encoder, images = micro(), frames(*SIZES, *SIZES)
    together = encoder.push(block(images)).values
    alone = np.concatenate([encoder.push(block([i])).values for i in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_an_empty_block_gives_no_rows():
    assert micro().push(FrameBlock([], np.empty((0, 2)))).values.shape == (0, 64)


def test_crop_and_preprocessing_are_settings():
    assert micro().settings()["preprocess"]["size"] == 56
    assert micro(crop_pct=1.0).settings() != micro().settings()
    images = frames((112, 112))
    assert not np.allclose(micro(crop_pct=1.0).push(block(images)).values, micro().push(block(images)).values)


def test_weights_of_another_size_are_refused(tmp_path):
    save_file(micro().net.state_dict(), tmp_path / "model.safetensors")
    again = SWIN(SWIN.Config(size="micro", weights=str(tmp_path)))
    again.load(CPU)
    assert again.weights_hash == micro().weights_hash
    with pytest.raises(DataError, match="another model or size") as caught:
        SWIN(SWIN.Config(weights=str(tmp_path))).load(CPU)
    assert "\n" not in str(caught.value)


def test_a_linear_probe_reads_a_drawn_face_from_random_micro_features():
    """Mouth curvature, skin tone and eye size of drawn faces: ridge on half of the frames, tested on the other."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, (600, 3))
    y, x = np.mgrid[:112, :112] / 112 - 0.5
    images = []
    for curve, tone, eye in truth:
        image = np.full((112, 112, 3), 60.0) + rng.normal(0, 6, (112, 112, 3))
        image[(x**2 + y**2) < 0.16] = np.array([190, 150, 120]) * (1 + 0.2 * tone)
        for side in (-0.15, 0.15):
            image[(x - side) ** 2 + (y + 0.12) ** 2 < (0.045 + 0.02 * eye) ** 2] = 20
        mouth = np.abs(y - (0.2 + curve * (0.04 - 2 * x**2))) < 0.025
        image[mouth & (np.abs(x) < 0.2)] = (150, 30, 40)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    z = micro().push(block(images)).values.astype(float)
    z = np.c_[(z - z.mean(0)) / z.std(0), np.ones(len(z))]
    w = np.linalg.solve(z[:300].T @ z[:300] + np.eye(z.shape[1]), z[:300].T @ truth[:300])
    r = [np.corrcoef(z[300:] @ w[:, i], truth[300:, i])[0, 1] for i in range(3)]
    assert min(r) > 0.8, r


@pytest.mark.slow
def test_published_size_equals_timms_own_model(tmp_path):
    """A random model saved as timm publishes it, classifier included, read through the real loading path."""
    import timm
    from timm.data import create_transform, resolve_data_config

    torch.manual_seed(0)
    model = timm.create_model("swin_base_patch4_window7_224", num_classes=1000).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = SWIN(SWIN.Config(weights=str(tmp_path)))
    encoder.load(CPU)
    images = frames(*SIZES[:3])
    transform = create_transform(**resolve_data_config({}, model=model))
    with torch.inference_mode():
        wanted = model.forward_head(
            model.forward_features(torch.stack([transform(Image.fromarray(i)) for i in images])), pre_logits=True
        )
        exact = model.forward_head(model.forward_features(encoder.preprocess(images, CPU)), pre_logits=True)
    got = encoder.push(block(images)).values
    assert got.shape == (3, 1024)
    np.testing.assert_allclose(got, exact.numpy(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(got, wanted.numpy(), atol=5e-3)  # timm resizes with PIL


def test_config_is_a_value():
    assert replace(SWIN.Config(), batch_size=2) != SWIN.Config()
    assert SWIN(SWIN.Config(batch_size=2)).settings() == SWIN(SWIN.Config()).settings()
