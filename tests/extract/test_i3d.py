"""I3D against a forward pass written here once more, from the published table of layers, by names of tensors alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cache.errors import DataError, WeightsNotFound
from extract.blocks import FrameBlock
from extract.encoders import ENCODERS

CPU = torch.device("cpu")
I3D = ENCODERS.get("i3d")
MIXED = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def published(narrow=1, seed=0):
    """Random tensors as pytorch-i3d publishes them, the classifier included; norms without step counters."""
    g, state = torch.Generator().manual_seed(seed), {}

    def unit(name, inside, width, kernel):
        state[f"{name}.conv3d.weight"] = (
            torch.randn(width, inside, kernel, kernel, kernel, generator=g) * (2 / (inside * kernel**3)) ** 0.5
        )
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.bn.{part}"] = torch.rand(width, generator=g) * 0.5 + 0.5

    unit("Conv3d_1a_7x7", 3, 64 // narrow, 7)
    unit("Conv3d_2b_1x1", 64 // narrow, 64 // narrow, 1)
    unit("Conv3d_2c_3x3", 64 // narrow, 192 // narrow, 3)
    for name, widths in MIXED.items():
        inside, b0, b1a, b1b, b2a, b2b, b3b = (w // narrow for w in widths)
        for branch, i, o, k in (
            *(("b0", inside, b0, 1), ("b1a", inside, b1a, 1), ("b1b", b1a, b1b, 3)),
            *(("b2a", inside, b2a, 1), ("b2b", b2a, b2b, 3), ("b3b", inside, b3b, 1)),
        ):
            unit(f"Mixed_{name}.{branch}", i, o, k)
    state["logits.conv3d.weight"] = torch.zeros(400, 1024 // narrow, 1, 1, 1)
    state["logits.conv3d.bias"] = torch.zeros(400)
    return state


def padded(x, kernel, stride):
    """TensorFlow's SAME, dimension by dimension."""
    for dim in (2, 3, 4):
        n, k, s = x.shape[dim], kernel[dim - 2], stride[dim - 2]
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads = [0] * 6
        pads[2 * (4 - dim)], pads[2 * (4 - dim) + 1] = total // 2, total - total // 2
        x = torch.nn.functional.pad(x, pads)
    return x


def reference(state, x):
    """x: f32[B,3,T,H,W] -> f32[B,C,t,h,w]."""

    def unit(name, x, stride=1):
        weight = state[f"{name}.conv3d.weight"]
        x = torch.nn.functional.conv3d(padded(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
        mean, var, gamma, beta = (state[f"{name}.bn.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return torch.nn.functional.relu(torch.nn.functional.batch_norm(x, mean, var, gamma, beta, False, 0.0, 0.001))

    def pool(x, kernel, stride):
        return torch.nn.functional.max_pool3d(padded(x, kernel, stride), kernel, stride)

    x = pool(unit("Conv3d_1a_7x7", x, 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    for name in MIXED:
        if name in ("4b", "5b"):
            x = pool(x, *(((3, 3, 3),) if name == "4b" else ((2, 2, 2),)), (2, 2, 2))
        m = f"Mixed_{name}."
        one, two = (unit(f"{m}{b}b", unit(f"{m}{b}a", x)) for b in ("b1", "b2"))
        x = torch.cat([unit(m + "b0", x), one, two, unit(m + "b3b", pool(x, (3, 3, 3), (1, 1, 1)))], 1)
    return x


def video(count, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(count + 1) / 25
    rgb = [rng.integers(0, 256, (80, 100, 3), dtype=np.uint8) for _ in range(count)]
    return FrameBlock(rgb, np.stack([t[:-1], t[1:]], axis=1))


def compared(tmp_path, size, narrow, clip):
    state = published(narrow)
    save_file(state, tmp_path / "rgb_imagenet.safetensors")
    encoder = I3D(I3D.Config(size=size, weights=str(tmp_path), clip=clip, every=clip - 1))
    encoder.load(CPU)
    block = video(clip)
    rows = np.concatenate([encoder.push(block).values, encoder.finish().values])  # clips that end first and last
    pixels = encoder.preprocess(block.rgb, CPU)  # (clip, 3, S, S)
    clips = torch.stack([pixels[[0] * clip], pixels]).transpose(1, 2)
    with torch.inference_mode():
        return rows, reference(state, clips)


@pytest.mark.parametrize("clip", [16, 8, 5, 2])
def test_equals_the_paper_written_once_more(tmp_path, clip):
    rows, last = compared(tmp_path, "micro", 8, clip)
    wanted = last.mean((2, 3, 4)).numpy()
    assert rows.shape == (2, 128)
    np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.slow
def test_published_size_equals_the_paper_and_its_own_pooling(tmp_path):
    rows, last = compared(tmp_path, "base", 1, 16)
    wanted = torch.nn.functional.avg_pool3d(last, (2, 7, 7), stride=1).flatten(1).numpy()
    assert rows.shape == (2, 1024)
    np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_pixels_are_scaled_to_minus_one_to_one():
    encoder = I3D(I3D.Config())
    black, white = (encoder.preprocess([np.full((300, 400, 3), v, np.uint8)], CPU) for v in (0, 255))
    assert black.shape == (1, 3, 224, 224)
    assert (black == -1).all()
    assert (white == 1).all()


def test_all_tensors_but_the_classifier_must_be_there(tmp_path):
    state = published(8)
    save_file(state, tmp_path / "model.safetensors")
    encoder = I3D(I3D.Config(size="micro", weights=str(tmp_path)))
    encoder.load(CPU)
    assert {k for k in encoder.net.state_dict() if "num_batches" not in k} == {k for k in state if "logits" not in k}
    del state["Mixed_4c.b2b.bn.running_var"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"lacks 1 tensors \(Mixed_4c\.b2b\.bn\.running_var\)"):
        I3D(I3D.Config(size="micro", weights=str(tmp_path))).load(CPU)


def test_the_published_pickle_loads_once_it_is_converted_as_the_error_says(tmp_path):
    """The pickle is of a torch so old that its files are no archives."""
    torch.save(published(8), tmp_path / "rgb_imagenet.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsNotFound, match="convert it once") as caught:
        I3D(I3D.Config()).find()
    command = json.loads(str(caught.value).split("python -c ")[1].split(" then ")[0].rstrip(";"))
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    encoder = I3D(I3D.Config(size="micro", weights=str(tmp_path)))
    encoder.load(CPU)
    assert len(encoder.weights_hash) == 64
