"""What holds for every encoder; a new one is tested by existing."""

import json
import logging
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields

import numpy as np
import pytest
import torch

from cache.errors import DataError, UsageError
from cache.records import MODALITIES, Track
from extract.blocks import FrameBlock, TimedText, Waveform
from extract.encoders import ENCODERS
from extract.encoders._precision import computing
from extract.encoders._tokens import seedless

CPU = torch.device("cpu")
NAMES = ENCODERS.names()
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "then", "it", "sleeps"]


#: What the encoders of any model are tried with: a name, or a folder that is written below.
MODELS = {"timm": "test_resnet"}


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory):
    """Folders of tiny models without weights, in the published format."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text, audio = (tmp_path_factory.mktemp(n) for n in ("text", "audio"))
    config = {"model_type": "bert", "vocab_size": 1024, "max_position_embeddings": 512, **shape}
    (text / "config.json").write_text(json.dumps(config))
    (text / "tokenizer.json").write_text(seedless().to_str())
    speech = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    config = {"model_type": "wavlm", "num_buckets": 16, "max_bucket_distance": 40, **shape, **speech}
    (audio / "config.json").write_text(json.dumps(config))
    (audio / "preprocessor_config.json").write_text('{"do_normalize": false, "sampling_rate": 16000}')
    MODELS.update({"hf-text": str(text), "hf-audio": str(audio)})


def make(name: str, **options: object):
    """The smallest variant of an encoder with random weights."""
    cls = ENCODERS.get(name)
    wanted = {"size": "micro", "weights": "random:0", "model": MODELS.get(name), **options}
    return cls(cls.Config(**{k: v for k, v in wanted.items() if k in {f.name for f in fields(cls.Config)}}))


def loaded(name: str, **options: object):
    encoder = make(name, **options)
    encoder.load(CPU)
    return encoder


def recording(encoder, seed: int) -> list:
    """Blocks of one recording, in the encoder's modality."""
    rng = np.random.default_rng(seed)
    if encoder.modality == "audio":
        return [Waveform(rng.standard_normal(2 * encoder.rate + 37).astype(np.float32) * 0.1, encoder.rate, 0.25)]
    if encoder.modality == "text":
        said = rng.choice(WORDS, 40)
        return [[TimedText(str(w), 0.5 * i, 0.5 * i + 0.4) for i, w in enumerate(said)]]
    times = 0.3 + np.arange(41) / 25
    spans = np.stack([times[:-1], times[1:]], axis=1)
    frames = [rng.integers(0, 256, (112, 112 + 16 * (i % 3 == 0), 3), dtype=np.uint8) for i in range(40)]
    return [FrameBlock(frames[i : i + 20], spans[i : i + 20]) for i in (0, 20)]


def encode(encoder, blocks: list) -> Track:
    encoder.begin()
    return Track.concat([*(encoder.push(b) for b in blocks), encoder.finish()], encoder.dim)


@pytest.fixture(scope="module")
def bench():
    """One loaded encoder a name, shared by the tests that only run it."""
    made: dict[str, object] = {}

    def get(name):
        if name not in made:
            made[name] = loaded(name)
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_the_declared_width_and_times_inside_the_recording(name, bench):
    encoder = bench(name)
    track = encode(encoder, recording(encoder, 1))
    assert encoder.modality in MODALITIES
    assert len(track) > 0
    assert track.values.shape[1] == make(name).dim == encoder.dim
    assert track.values.dtype == np.float32
    assert np.isfinite(track.values).all()
    assert (np.diff(track.spans[:, 0]) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_recordings_do_not_influence_each_other(name, bench):
    encoder = bench(name)
    alone = encode(encoder, recording(encoder, 1))
    other = encode(encoder, recording(encoder, 2))
    again = encode(encoder, recording(encoder, 1))
    np.testing.assert_array_equal(alone.values, again.values)
    np.testing.assert_array_equal(alone.spans, again.spans)
    assert not np.allclose(alone.values[:20], other.values[:20])


@pytest.mark.parametrize("name", NAMES)
def test_batch_size_changes_neither_values_nor_settings(name):
    one, many = (loaded(name, batch_size=n) for n in (1, 7))
    a, b = (encode(e, recording(e, 1)) for e in (one, many))
    np.testing.assert_allclose(a.values, b.values, atol=1e-5)
    assert one.settings() == many.settings()
    assert one.weights_hash == many.weights_hash


def cramped(encoder, most: int) -> None:
    """From here on the network has no memory for more than ``most`` items at once."""

    def refuse(module, args, kwargs):
        first = next(v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor))
        if len(first) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    for net in filter(None, (encoder.net, getattr(encoder.net, "encoder", None))):
        net.register_forward_pre_hook(refuse, with_kwargs=True)


@pytest.mark.parametrize("name", NAMES)
def test_where_device_memory_ends_batches_shrink_and_the_numbers_stay(name, caplog):
    plain, short = (loaded(name, batch_size=7) for _ in range(2))
    cramped(short, 2)
    for seed in (1, 2):
        a, b = (encode(e, recording(e, seed)) for e in (plain, short))
        np.testing.assert_allclose(a.values, b.values, atol=1e-5)
        np.testing.assert_array_equal(a.spans, b.spans)
    assert caplog.text.count("no memory for a batch of 7; going on with 3") == (short.fitting.size < 7)
    assert short.fitting.size in (1, 7)  # once found out it is kept


def test_a_single_item_that_is_too_large_is_one_error():
    encoder = loaded("swin", batch_size=4)
    cramped(encoder, 0)
    with pytest.raises(DataError, match=r"no memory for a single item: CUDA out of memory.*--device cpu"):
        encode(encoder, recording(encoder, 1))


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_signature_are_json_and_hold_what_changes_numbers(name):
    encoder = make(name)
    settings = encoder.settings()
    assert json.loads(json.dumps(settings)) is not None
    assert not settings.keys() & encoder.NO_EFFECT
    assert {f.name for f in fields(encoder.Config)} - encoder.NO_EFFECT - {"layers"} <= settings.keys()
    assert json.loads(json.dumps(encoder.signature())) == make(name).signature()
    if "precision" in settings:
        assert make(name, precision="bf16").settings() != settings


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_random_weights_and_the_global_generator_stays(name, bench, caplog):
    if "weights" not in {f.name for f in fields(ENCODERS.get(name).Config)}:
        pytest.skip("has no weights")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING, "affuse"):
        same, other = loaded(name), loaded(name, weights="random:1")
    assert torch.equal(before, torch.get_rng_state())
    assert [r.name for r in caplog.records] == ["affuse", "affuse"]
    assert same.weights_hash == bench(name).weights_hash != other.weights_hash
    assert len(same.weights_hash) == 64
    assert make(name, weights="random:1").signature() != make(name).signature()
    blocks = recording(same, 1)
    np.testing.assert_array_equal(encode(same, blocks).values, encode(bench(name), blocks).values)
    assert not np.allclose(encode(same, blocks).values, encode(other, blocks).values)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_close_and_comes_back_as_float32(name, bench):
    if "precision" not in {f.name for f in fields(ENCODERS.get(name).Config)}:
        pytest.skip("has one precision")
    half = loaded(name, precision="bf16")
    blocks = recording(half, 1)
    exact, rough = encode(bench(name), blocks).values, encode(half, blocks).values
    assert rough.dtype == np.float32
    assert 0 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.05
    assert half.weights_hash == bench(name).weights_hash


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_frozen(name, bench):
    net = getattr(bench(name), "net", None)
    if net is not None:
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())


def test_float32_arithmetic_is_set_for_the_pass_only(monkeypatch):
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [b.fp32_precision for b in backends]
    for precision, mode in (("tf32", "tf32"), ("float32", "ieee"), ("bf16", "ieee")):
        monkeypatch.setattr("torch.autocast", lambda *_: nullcontext())
        with computing(precision, torch.device("cuda")):
            assert [b.fp32_precision for b in backends] == [mode, mode]
            assert torch.is_inference_mode_enabled()
        assert [b.fp32_precision for b in backends] == before


def test_naming_planning_and_signing_import_no_torch():
    """A run that has nothing to do asks every encoder for these and must stay instant."""
    code = """
import json, sys
from extract.encoders import ENCODERS
for name in ENCODERS.names():
    cls = ENCODERS.get(name)
    known = cls.Config.__dataclass_fields__
    wanted = {"size": "micro", "weights": "random:0", "model": json.loads(sys.argv[1]).get(name)}
    encoder = cls(cls.Config(**{k: v for k, v in wanted.items() if k in known}))
    encoder.settings(), encoder.signature()
    if name != "timm":  # whose widths only timm knows
        encoder.dim
heavy = {"torch", "timm", "transformers", "torchvision", "torchaudio"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code, json.dumps(MODELS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


LAYERED = [n for n in NAMES if "layers" in {f.name for f in fields(ENCODERS.get(n).Config)}]


@pytest.mark.parametrize("name", LAYERED)
def test_several_layers_lie_side_by_side_in_the_order_asked_for(name):
    together = loaded(name, layers=(-1, 0, 1))
    blocks = recording(together, 1)
    values = encode(together, blocks).values
    assert together.dim == 3 * together.layer_dim == values.shape[1]
    for i, layer in enumerate((-1, 0, 1)):
        alone = encode(loaded(name, layer=layer), blocks).values
        np.testing.assert_allclose(values.reshape(len(values), 3, -1)[:, i], alone, atol=1e-6)
    one, single = loaded(name, layers=(1,)), loaded(name, layer=1)
    np.testing.assert_array_equal(encode(one, blocks).values, encode(single, blocks).values)
    assert one.weights_hash == together.weights_hash


@pytest.mark.parametrize("name", LAYERED)
def test_settings_say_which_layers_a_row_has_and_how_wide_each_is(name):
    several, plain = make(name, layers=(0, 2)).settings(), make(name).settings()
    assert (list(several["layers"]), several["layer_dim"]) == ([0, 2], make(name).dim)
    assert "layer" not in several
    assert plain["layer"] == -1
    assert not {"layers", "layer_dim"} & plain.keys()
    assert make(name, layers=(2, 0)).settings() != several


@pytest.mark.parametrize("name", LAYERED)
def test_layers_that_contradict_each_other_are_refused(name):
    with pytest.raises(UsageError, match=r"layer = 1 and layers = \[2\]; give one of them"):
        make(name, layer=1, layers=(2,))
    with pytest.raises(UsageError, match="name one twice"):
        make(name, layers=(1, 2, 1))
    with pytest.raises(UsageError, match=f"{name} has 2 layers, layer 3 was asked for"):
        loaded(name, layers=(1, 3))
