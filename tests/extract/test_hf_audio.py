"""Models of wav2vec 2.0's shape, saved as they are published, against what transformers gives for the whole file."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cache.errors import DataError, UsageError, WeightsNotFound
from extract.blocks import Waveform
from extract.encoders import ENCODERS

CPU = torch.device("cpu")
HF = ENCODERS.get("hf-audio")
SHAPE = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
SOUND = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
QUANTIZED = {"codevector_dim": 16, "proj_codevector_dim": 16, "num_codevectors_per_group": 8}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
BIAS = {"num_buckets": 32, "max_bucket_distance": 60}
#: Model with a head as it is published, and its config's options.
FAMILIES = {
    "wav2vec2": ("Wav2Vec2ForPreTraining", QUANTIZED),
    "wav2vec2-large": ("Wav2Vec2ForCTC", LARGE),
    "wav2vec2-adapter": ("Wav2Vec2ForCTC", {**LARGE, "add_adapter": True, "num_adapter_layers": 1}),
    "hubert": ("HubertModel", {}),
    "hubert-large": ("HubertForCTC", LARGE),
    "wavlm": ("WavLMModel", BIAS),
    "wavlm-large": ("WavLMForSequenceClassification", {**LARGE, **BIAS}),
    "data2vec-audio": ("Data2VecAudioForCTC", {"conv_pos_kernel_size": 5}),
    "unispeech-sat": ("UniSpeechSatModel", {}),
}


def publish(folder, name, *, normalize=True):
    """A random model in the published format; returns the part that gives features."""
    head, options = FAMILIES[name]
    cls = getattr(transformers, head)
    torch.manual_seed(7)
    model = cls(cls.config_class(**{**SHAPE, **SOUND, **options})).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.02)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalize, "sampling_rate": 16_000}))
    return getattr(model, model.base_model_prefix, model)


def sound(seconds=2.3, seed=0):
    rng, n = np.random.default_rng(seed), round(seconds * 16_000)
    return (rng.standard_normal(n) * 0.1 * np.linspace(0.2, 2, n) + 0.03).astype(np.float32)


def at_once(model, samples, normalize):
    from transformers import Wav2Vec2FeatureExtractor

    read = Wav2Vec2FeatureExtractor(do_normalize=normalize)
    x = read(samples, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        features = model.feature_extractor(x).transpose(1, 2)
        projected = model.feature_projection(features)
        projected = projected[0] if isinstance(projected, tuple) else projected
        last = model.encoder(projected).last_hidden_state[0]
        return last.numpy(), model(x, output_hidden_states=True)


def encoder(folder, **options):
    made = HF(HF.Config(model=str(folder), **options))
    made.load(CPU)
    return made


@pytest.mark.parametrize("name", FAMILIES)
def test_published_format_equals_transformers_own_model(name, tmp_path):
    normalize = name != "wavlm"
    model, x = publish(tmp_path, name, normalize=normalize), sound()
    made = encoder(tmp_path, layers=(0, 1, 2, -1))
    assert made.dim == 4 * 48
    assert made.settings()["normalize"] is normalize
    track = made.push(Waveform(x, 16_000, 0.5))
    last, out = at_once(model, x, normalize)
    assert len(track) == len(last) == (len(x) - 400) // 320 + 1
    states = [*(out.hidden_states[n][0].numpy() for n in (0, 1, 2)), last]
    np.testing.assert_allclose(track.values, np.concatenate(states, axis=1), atol=1e-4, rtol=1e-4)
    if "adapter" not in name:
        np.testing.assert_array_equal(last, out.last_hidden_state[0].numpy())


def test_hubert_by_its_own_name_and_as_any_model_gives_the_same(tmp_path):
    publish(tmp_path, "hubert")
    hubert = ENCODERS.get("hubert")(ENCODERS.get("hubert").Config(weights=str(tmp_path)))
    hubert.load(CPU)
    x = Waveform(sound(), 16_000, 0.0)
    np.testing.assert_array_equal(encoder(tmp_path).push(x).values, hubert.push(x).values)


def test_older_names_of_tensors_and_half_precision_files_are_read(tmp_path):
    publish(tmp_path, "wavlm")
    before = encoder(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    key = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
    state["encoder.pos_conv_embed.conv.weight_g"] = state.pop(f"{key}0")
    state["encoder.pos_conv_embed.conv.weight_v"] = state.pop(f"{key}1")
    state = {f"wavlm.{k}": v for k, v in state.items()} | {"lm_head.weight": torch.zeros(3, 48)}
    save_file(state, tmp_path / "model.safetensors")
    assert encoder(tmp_path).weights_hash == before.weights_hash
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    save_file({k: v.half() for k, v in state.items()}, tmp_path / "model.safetensors")
    half = encoder(tmp_path)
    assert {p.dtype for p in half.net.parameters()} == {torch.float32}
    np.testing.assert_allclose(
        half.push(Waveform(sound(), 16_000, 0.0)).values, before.push(Waveform(sound(), 16_000, 0.0)).values, atol=0.05
    )


def test_normalisation_is_the_models_own_unless_it_is_given(tmp_path):
    publish(tmp_path, "wavlm", normalize=False)
    x = Waveform(sound(), 16_000, 0.0)
    own, told, other = (encoder(tmp_path, normalize=n) for n in (None, False, True))
    assert own.settings() == told.settings() != other.settings()
    np.testing.assert_array_equal(own.push(x).values, told.push(x).values)
    assert not np.allclose(own.push(x).values, other.push(x).values, atol=1e-3)
    (tmp_path / "preprocessor_config.json").unlink()
    assert encoder(tmp_path, normalize=False).settings() == told.settings()
    with pytest.raises(UsageError, match=r"does not say whether it wants normalised sound.*set normalize"):
        HF(HF.Config(model=str(tmp_path))).settings()
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 8000}')
    with pytest.raises(DataError, match="8000 Hz"):
        HF(HF.Config(model=str(tmp_path))).settings()


def test_other_kinds_of_models_and_missing_files_are_refused(tmp_path):
    publish(tmp_path, "wavlm")
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "whisper"}')
    with pytest.raises(DataError, match=r"of a whisper model; hf-audio takes data2vec-audio, hubert"):
        _ = HF(HF.Config(model=str(tmp_path))).dim
    config.write_text("[]")
    with pytest.raises(DataError, match="no table"):
        _ = HF(HF.Config(model=str(tmp_path))).dim
    config.unlink()
    with pytest.raises(WeightsNotFound, match=r"no config\.json beside the hf-audio weights"):
        HF(HF.Config(model=str(tmp_path))).signature()
    with pytest.raises(WeightsNotFound, match="no folder"):
        HF(HF.Config(model="./not/there", weights="random:0")).signature()
    with pytest.raises(UsageError, match="name no repository"):
        HF(HF.Config(model="a/b/c")).signature()


def test_copies_are_one_stream_and_options_that_change_numbers_are_not(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        publish(tmp_path / name, "wavlm")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    (tmp_path / "two" / "config.json").write_text(json.dumps({**config, "layerdrop": 0.7, "architectures": ["X"]}))
    one, two = (encoder(tmp_path / n) for n in ("one", "two"))
    assert (one.settings(), one.weights_hash) == (two.settings(), two.weights_hash)
    (tmp_path / "two" / "config.json").write_text(json.dumps({**config, "max_bucket_distance": 61}))
    assert encoder(tmp_path / "two").weights_hash != one.weights_hash
