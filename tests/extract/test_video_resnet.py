"""R3D and R(2+1)D features against torchvision's own models."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from extract.blocks import FrameBlock
from extract.encoders import ENCODERS

CPU = torch.device("cpu")
THEIRS = {"r3d": "r3d_18", "r2plus1d": "r2plus1d_18"}


def video(count, height=96, width=128, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(count + 1) / 25
    rgb = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]
    return FrameBlock(rgb, np.stack([t[:-1], t[1:]], axis=1))


def loaded(name, **options):
    encoder = ENCODERS.get(name)(ENCODERS.get(name).Config(**options))
    encoder.load(CPU)
    return encoder


def published(name, path):
    """torchvision's model with every tensor drawn, saved as its conversion to safetensors gives it."""
    from torchvision.models import video as zoo

    torch.manual_seed(0)
    model = getattr(zoo, THEIRS[name])(weights=None).eval()
    for key, tensor in model.state_dict().items():
        if "running" in key or tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape) * 0.5 + 0.5)
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path / "model.safetensors")
    model.fc = torch.nn.Identity()
    return model


@pytest.mark.parametrize("name", list(THEIRS))
def test_width_is_known_before_loading(name):
    cls = ENCODERS.get(name)
    assert (cls(cls.Config()).dim, cls(cls.Config(size="micro")).dim) == (512, 64)


@pytest.mark.parametrize("name", list(THEIRS))
def test_constants_are_torchvisions(name):
    from torchvision.models import video as zoo

    weights = {"r3d": zoo.R3D_18_Weights, "r2plus1d": zoo.R2Plus1D_18_Weights}[name].DEFAULT
    theirs, cls = weights.transforms(), ENCODERS.get(name)
    ours = cls(cls.Config()).preprocess
    assert [ours.size] * 2 == theirs.crop_size
    assert (ours.mean, ours.std) == (tuple(theirs.mean), tuple(theirs.std))
    assert ours.interpolation == theirs.interpolation.value
    assert ours.size / ours.crop_pct == theirs.resize_size[0]
    assert weights.url == cls.published.pickle


@pytest.mark.parametrize("name", list(THEIRS))
def test_a_picture_of_4_to_3_is_prepared_as_torchvision_does(name):
    """Up to the pixel of width that torchvision's 128 x 171 rounds up, and antialiasing, which it leaves out."""
    from torchvision.models.video import R3D_18_Weights

    y, x = np.mgrid[:96, :128]
    smooth = np.stack([y * 2, x, (x + y)], axis=-1).astype(np.uint8)
    cls = ENCODERS.get(name)
    ours = cls(cls.Config()).preprocess([smooth], CPU)[0]  # (3, 112, 112)
    theirs = R3D_18_Weights.DEFAULT.transforms()(torch.from_numpy(smooth).permute(2, 0, 1)[None])[:, 0]
    assert (ours - theirs).abs().max() < 2.01 / 255 / 0.21


@pytest.mark.slow
@pytest.mark.parametrize("name", list(THEIRS))
def test_published_size_equals_torchvisions_own_model(name, tmp_path):
    """A random model in torchvision's layout, classifier included, read through the real loading path."""
    model, block = published(name, tmp_path), video(18)
    encoder = loaded(name, weights=str(tmp_path), every=17)
    track = encoder.push(block)
    assert len(track) == 1
    rows = np.concatenate([track.values, encoder.finish().values])  # clips that end at frames 0 and 17
    pixels = encoder.preprocess(block.rgb, CPU)  # (18, 3, 112, 112)
    clips = torch.stack([pixels[[0] * 16], pixels[2:18]]).transpose(1, 2)
    with torch.inference_mode():
        wanted = model(clips).numpy()
    assert rows.shape == (2, 512)
    np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.slow
def test_weights_of_the_other_are_refused(tmp_path):
    from cache.errors import DataError

    published("r3d", tmp_path)
    with pytest.raises(DataError, match="another model or size"):
        loaded("r2plus1d", weights=str(tmp_path))
