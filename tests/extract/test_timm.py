"""Any model of timm against timm's own model and transform, and what a run that has nothing to do may import."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config

from cache.errors import DataError, UnknownName, UsageError, WeightsNotFound
from cache.store import FeatureCache
from extract.blocks import FrameBlock
from extract.encoders import ENCODERS
from extract.finetune_recipe import make_encoder, train_encoder_recipe
from extract.recipe import extract_recipe
from extract.run import run_extract

CPU = torch.device("cpu")
TIMM = ENCODERS.get("timm")
TOP = Path(__file__).parents[2]
#: Small models of different kinds: with norms in the head, several classifiers, buffers, its own pooling.
NAMES = [
    "test_resnet",
    "test_vit2",
    "test_convnext2",
    "test_efficientnet_evos",
    "test_nfnet",
    "levit_128s",
    "repvit_m0_9",
    "mobilenetv3_small_050",
    "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
]


def frames(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    small = [Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)) for _ in sizes]
    return [np.asarray(i.resize((w, h), Image.Resampling.BICUBIC)) for i, (h, w) in zip(small, sizes, strict=True)]


def block(rgb):
    t = np.arange(len(rgb) + 1) / 25
    return FrameBlock(rgb, np.stack([t[:-1], t[1:]], axis=1))


def publish(folder, name, **about):
    """A random model as timm publishes it, classifier included."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": name, **about}))
    return model


def loaded(model, **options):
    made = TIMM(TIMM.Config(model=model, **options))
    made.load(CPU)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_published_format_equals_timms_own_model(name, tmp_path):
    model = publish(tmp_path, name)
    model.reset_classifier(0)
    encoder = loaded(name, weights=str(tmp_path))
    images = frames((112, 112), (90, 161))
    pixels = encoder.preprocess(images, CPU)
    with torch.inference_mode():
        wanted = model(pixels).numpy()
    got = encoder.push(block(images)).values
    assert got.shape == (2, encoder.dim) == (2, TIMM(TIMM.Config(model=name)).dim)
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=1e-3)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050", "mnasnet_small"])
def test_the_width_is_known_before_loading_and_is_that_of_the_rows(name):
    before, encoder = TIMM(TIMM.Config(model=name, weights="random:0")).dim, loaded(name, weights="random:0")
    assert encoder.push(block(frames((64, 64)))).values.shape == (1, before)
    assert before == encoder.dim


class Odd(torch.nn.Module):
    """Says that its rows are of 7 numbers; gives what it is told to."""

    pretrained_cfg, head_hidden_size, num_features = {"input_size": (3, 32, 32)}, 7, 7

    def __init__(self, gives):
        super().__init__()
        self.gives, self.weight = gives, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.gives(x.mean((1, 2, 3))[:, None] + self.weight)


@pytest.fixture
def odd(monkeypatch):
    """Has timm make a model that gives what a function makes of f32[B,1]."""

    def make(gives):
        monkeypatch.setattr(timm, "create_model", lambda *given, **more: Odd(gives))

    return make


def test_a_model_that_says_another_width_than_it_gives_is_taken_by_what_it_gives(odd):
    odd(lambda x: x.expand(-1, 5))
    encoder = loaded("test_resnet", weights="random:0")
    assert encoder.push(block(frames((40, 40)))).values.shape == (1, encoder.dim) == (1, 5)


def test_tokens_and_feature_maps_are_refused_before_anything_is_loaded(odd):
    with pytest.raises(DataError, match=r"timm:gemma4_vit_167m_enc gives 256 x 768 a picture, wanted one row"):
        loaded("gemma4_vit_167m_enc", weights="random:0")
    for gives, told in ((lambda x: x[..., None, None].expand(-1, 5, 2, 2), "5 x 2 x 2"), (lambda x: (x, x), "a tuple")):
        odd(gives)
        with pytest.raises(DataError, match=f"gives {told} a picture, wanted one row of features; take a model that"):
            loaded("test_resnet", weights="random:0")


SQUASH = {"crop_mode": "squash", "input_size": [3, 96, 96], "crop_pct": 0.9}


@pytest.mark.parametrize("about", [{}, SQUASH])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_preprocessing_is_the_models_own(name, about, tmp_path):
    publish(tmp_path, name, pretrained_cfg=about)
    encoder = loaded(name, weights=str(tmp_path))
    cfg = {**timm.get_pretrained_cfg(name).to_dict(), **about}
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=cfg))
    images = frames((112, 112), (320, 240), (90, 161))
    wanted = torch.stack([transform(Image.fromarray(i)) for i in images])
    off = (encoder.preprocess(images, CPU) - wanted).abs()
    assert off.max() < 2.01 / 255 / min(cfg["std"])
    assert (off > 1e-5).float().mean() < 0.05
    assert encoder.model_settings()["preprocess"].get("squash", False) is bool(about)


def test_the_crop_can_be_given():
    wide, own = (loaded("test_resnet", weights="random:0", crop_pct=c) for c in (1.0, None))
    assert wide.settings() != own.settings()
    assert (wide.preprocess.crop_pct, own.preprocess.crop_pct) == (1.0, 0.95)


def test_pictures_that_are_no_square_crop_are_refused(tmp_path):
    for about in ({"input_size": [3, 160, 96]}, {"crop_mode": "border"}):
        publish(tmp_path, "test_resnet", pretrained_cfg=about)
        with pytest.raises(DataError, match="take a model that wants a square crop"):
            loaded("test_resnet", weights=str(tmp_path))


def test_names_that_timm_has_not_are_answered_with_close_ones(tmp_path):
    for options in ({"weights": "random:0"}, {"weights": str(tmp_path)}):
        with pytest.raises(UnknownName, match=r"no model 'test_resnt'; did you mean test_resnet, ") as caught:
            loaded("test_resnt", **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownName, match=r"no weights 'foo' of test_resnet; there are: test_resnet\.r160_in1k"):
        loaded("test_resnet.foo", weights="random:0")


def test_weights_of_the_hub_are_named_with_their_tag(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"names no pretrained weights; name one: convnext_tiny\.in12k_ft_in1k, "):
        TIMM(TIMM.Config(model="convnext_tiny")).signature()
    with pytest.raises(WeightsNotFound, match=r"timm/convnext_tiny\.fb_in22k cannot be downloaded"):
        TIMM(TIMM.Config(model="convnext_tiny.fb_in22k")).signature()
    with pytest.raises(WeightsNotFound, match=r"set weights = hub:apple/mobileclip_s0_timm"):
        TIMM(TIMM.Config(model="fastvit_mci0.apple_mclip")).signature()
    home = tmp_path / "models--timm--test_resnet.r160_in1k"
    (home / "snapshots" / "abc").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    publish(home / "snapshots" / "abc", "test_resnet")
    encoder = loaded("test_resnet.r160_in1k")
    assert encoder.signature()[1] == "hub:timm/test_resnet.r160_in1k"
    assert len(encoder.weights_hash) == 64


def test_weights_of_another_model_are_refused(tmp_path):
    publish(tmp_path, "test_resnet")
    with pytest.raises(DataError, match=r"is of test_resnet, wanted test_vit; ask for timm:test_resnet"):
        loaded("test_vit", weights=str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(DataError, match="another model or size"):
        loaded("test_vit", weights=str(tmp_path))


ASKED = "faces=timm:test_resnet"


def run(root, cache):
    data = {"dataset": "manifest", "root": root, "cache": cache, "audio": [], "text": [], "visual": [ASKED]}
    return run_extract(extract_recipe({**data, "timm": {"weights": "random:0"}}), quiet=True)


AGAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from extract.recipe import extract_recipe
from extract.run import run_extract
data = {"dataset": "manifest", "root": sys.argv[2], "cache": sys.argv[3], "visual": [sys.argv[4]]}
data |= {"audio": [], "text": []}
result = run_extract(extract_recipe({**data, "timm": {"weights": "random:0"}}), quiet=True)
assert (result.made, result.kept, result.failures) == (0, 1, []), result
heavy = {"torch", "timm", "torchvision"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_through_a_run_and_once_more_without_torch(media, manifest, tmp_path):
    root = manifest(a={"video": media(tmp_path / "a.mp4", np.arange(12) / 25)})
    assert not run(root, tmp_path / "cache").failures
    cache = FeatureCache(tmp_path / "cache")
    (key,) = cache.stream_keys()
    about = cache.about(key)
    assert key.startswith("faces-")
    assert about["settings"]["encoder"] == "timm:test_resnet"
    assert about["settings"]["model"]["preprocess"]["size"] == 160
    assert cache.read(key, "a").values.shape == (12, about["dim"]) == (12, 96)
    args = [str(TOP), str(root), str(tmp_path / "cache"), ASKED]
    done = subprocess.run([sys.executable, "-c", AGAIN, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert cache.stream_keys() == [key]


def test_any_model_can_be_fitted_to_labels():
    given = {"encoder": "timm:test_resnet@crop_pct=1.0", "dataset": "demo"}
    encoder = make_encoder(train_encoder_recipe(given))
    assert (encoder.cfg.model, encoder.cfg.crop_pct, encoder.cfg.weights) == ("test_resnet", 1.0, "random:0")
    with pytest.raises(UsageError, match=r"these can: .*timm:NAME"):
        make_encoder(train_encoder_recipe({**given, "encoder": "hf-text:bert"}))
