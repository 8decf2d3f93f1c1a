"""I3D from 2-d weights: torchvision's GoogLeNet on pictures against the inflated network on clips of one picture."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import conv3d, pad
from torchvision.models import GoogLeNet

from cache.errors import DataError
from extract.blocks import FrameBlock
from extract.encoders import ENCODERS
from extract.encoders._inception import last_block
from extract.encoders._inflate import UNITS

CPU = torch.device("cpu")
I3D = ENCODERS.get("i3d")


@pytest.fixture(scope="module")
def flat():
    """A random GoogLeNet of full size whose activations neither die nor explode, classifiers included."""
    torch.manual_seed(0)
    model = GoogLeNet(init_weights=False).eval()
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            if isinstance(m, torch.nn.BatchNorm2d):
                for t in (m.weight, m.bias, m.running_mean, m.running_var):
                    t.copy_(torch.rand_like(t) * 0.5 + 0.5)
    return model


@pytest.fixture(scope="module")
def i3d(flat, tmp_path_factory):
    path = tmp_path_factory.mktemp("flat") / "googlenet.safetensors"
    save_file(flat.state_dict(), path)
    encoder = I3D(I3D.Config(weights=str(path)))
    encoder.load(CPU)
    return encoder


def picture(size=64, seed=1):
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_full_size_weights_load_and_give_rows(i3d):
    assert len(i3d.weights_hash) == 64
    assert i3d.dim == 1024
    rgb = [np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8) for i in range(2)]
    encoder = I3D(I3D.Config(weights=i3d.cfg.weights, clip=4, every=2))
    encoder.load(CPU)
    encoder.push(FrameBlock(rgb, np.array([[0, 0.04], [0.04, 0.08]])))
    assert np.isfinite(encoder.finish().values).all()


@pytest.mark.parametrize("unit", ["conv1", "conv2", "conv3", "inception3a.branch3.1", "inception5b.branch4.1"])
def test_each_layer_on_a_still_clip_equals_the_2d_layer(unit, flat, i3d):
    """All kernels add up to the picture's along time; away from the clip's edges the layer gives the picture's."""
    two = flat.get_submodule(unit)
    three = i3d.net
    for part in UNITS[unit].split("."):
        three = three[part]
    kernel = three["conv3d"].weight
    torch.testing.assert_close(kernel.sum(2), two.conv.weight, atol=1e-6, rtol=1e-5)
    assert (kernel == kernel[:, :, :1]).all()
    x = torch.randn(2, kernel.shape[1], 9, 9, generator=torch.Generator().manual_seed(2))
    still = x[:, :, None].expand(-1, -1, kernel.shape[2], -1, -1)
    around = two.conv.padding[0]
    got = conv3d(still, kernel, stride=two.conv.stride[0], padding=(0, around, around))[:, :, 0]
    torch.testing.assert_close(three["bn"](got[:, :, None])[:, :, 0], two.bn(two.conv(x)), atol=1e-4, rtol=1e-4)


def test_all_layers_are_mapped_one_to_one(flat, i3d):
    convs = {n for n, m in flat.named_modules() if isinstance(m, torch.nn.Conv2d) and not n.startswith("aux")}
    assert {n.removesuffix(".conv") for n in convs} == UNITS.keys()
    assert len(set(UNITS.values())) == len(UNITS)
    eps = {m.eps for net in (flat, i3d.net) for m in net.modules() if "BatchNorm" in type(m).__name__}
    assert eps == {0.001}


def test_the_middle_of_a_long_still_clip_equals_the_picture(flat, i3d):
    """The whole network, the stem padded as TensorFlow does in both, far from the zeros before and after the clip."""
    x = picture()
    with torch.inference_mode():
        stem = flat.conv1
        h = torch.relu(stem.bn(torch.nn.functional.conv2d(pad(x, (2, 3, 2, 3)), stem.conv.weight, stride=2)))
        for name in ("maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3", "inception4a"):
            h = getattr(flat, name)(h)
        for name in (
            "inception4b",
            "inception4c",
            "inception4d",
            "inception4e",
            "maxpool4",
            "inception5a",
            "inception5b",
        ):
            h = getattr(flat, name)(h)
        blocks = last_block(i3d.net, x[:, :, None].expand(-1, -1, 128, -1, -1))  # (1, 1024, 16, 2, 2)
    torch.testing.assert_close(blocks[:, :, 8], h, atol=1e-3 * float(h.abs().max()), rtol=1e-3)
    assert not torch.allclose(blocks[:, :, 0], h, rtol=0.05)  # zeros stand before the clip


def test_pictures_are_scaled_as_torchvisions_weights_want_them(flat, monkeypatch):
    """``transform_input`` undoes torchvision's normalisation and gives what I3D's preprocessing gives at once."""
    rgb = np.random.default_rng(3).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    pixels = I3D(I3D.Config(crop_pct=1.0)).preprocess([rgb], CPU)
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    monkeypatch.setattr(flat, "transform_input", True)
    theirs = flat._transform_input(((torch.from_numpy(rgb).permute(2, 0, 1) / 255 - mean) / std)[None])
    torch.testing.assert_close(pixels, theirs, atol=1e-5, rtol=1e-5)


def test_missing_2d_tensors_are_named(flat, tmp_path):
    state = flat.state_dict()
    state.pop("inception4c.branch2.1.bn.running_var")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"lacks 1 tensors \(Mixed_4d\.b1b\.bn\.running_var\)"):
        I3D(I3D.Config(weights=str(tmp_path))).load(CPU)
