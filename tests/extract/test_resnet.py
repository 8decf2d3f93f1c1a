"""ResNet features against timm's own models, and the encoder of frames that they share with Swin."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cache.errors import DataError
from extract.blocks import FrameBlock
from extract.encoders import ENCODERS

CPU = torch.device("cpu")


def block(count, seed=0):
    rng = np.random.default_rng(seed)
    sides = [(112, 112), (96, 130)]
    t = np.arange(count + 1) / 25
    rgb = [rng.integers(0, 256, (*sides[i % 2], 3), dtype=np.uint8) for i in range(count)]
    return FrameBlock(rgb, np.stack([t[:-1], t[1:]], axis=1))


def loaded(name, **options):
    encoder = ENCODERS.get(name)(ENCODERS.get(name).Config(**options))
    encoder.load(CPU)
    return encoder


def randomized(model, seed=0):
    """Every tensor drawn, the statistics of the norms included, so that no part can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_var", "running_mean")) or "bn" in name or tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5)
    return model.eval()


@pytest.mark.parametrize(("name", "dim", "micro"), [("resnet18", 512, 64), ("resnet50", 2048, 256)])
def test_width_is_known_before_loading(name, dim, micro):
    cls = ENCODERS.get(name)
    assert cls(cls.Config()).dim == dim
    assert cls(cls.Config(size="micro")).dim == micro


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_preprocessing_belongs_to_the_model(name):
    import timm
    from timm.data import resolve_data_config

    ours = loaded(name, size="micro", weights="random:0").settings()["preprocess"]
    cls = ENCODERS.get(name)
    theirs = resolve_data_config(timm.get_pretrained_cfg(f"{name}.a1_in1k").to_dict())
    assert cls(cls.Config()).preprocess.size == theirs["input_size"][-1]
    assert {k: ours[k] for k in ("crop_pct", "mean", "std", "interpolation")} == {
        k: theirs[k] for k in ("crop_pct", "mean", "std", "interpolation")
    }


def test_weights_of_another_depth_are_refused(tmp_path):
    state = loaded("resnet18", size="micro", weights="random:0").net.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="another model or size"):
        loaded("resnet50", size="micro", weights=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_published_size_equals_timms_own_model(name, tmp_path):
    """A random model saved as timm publishes it, classifier included, read through the real loading path."""
    import timm

    torch.manual_seed(0)
    model = randomized(timm.create_model(name, num_classes=1000))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = loaded(name, weights=str(tmp_path))
    b = block(5)
    with torch.inference_mode():
        pixels = encoder.preprocess(b.rgb, CPU)
        wanted = model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()
    got = encoder.push(b)
    assert got.values.shape == (5, encoder.dim)
    np.testing.assert_array_equal(got.spans, b.spans)
    np.testing.assert_allclose(got.values, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
