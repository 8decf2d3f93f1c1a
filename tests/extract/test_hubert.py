"""HuBERT streamed against HuBERT at once: rows, times and values."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cache.errors import DataError, UsageError
from extract.blocks import Waveform
from extract.encoders import ENCODERS
from extract.encoders._waveform import FoldedFirst, Geometry, Normalized, features, moments
from extract.encoders._windows import windows
from extract.spool import Spool

CPU = torch.device("cpu")
HUBERT = ENCODERS.get("hubert")
HOP, FIELD = 320, 400


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness changes: its statistics differ from chunk to chunk. There is an offset, too."""
    rng, n = np.random.default_rng(seed), round(seconds * 16_000)
    loud = 0.05 + 0.4 * np.sin(np.linspace(0, 9, n)) ** 2
    return (rng.standard_normal(n) * loud * 0.3 + 0.02).astype(np.float32)


def micro(**options):
    encoder = HUBERT(HUBERT.Config(size="micro", **{"weights": "random:0", **options}))
    encoder.load(CPU)
    return encoder


def push(encoder, samples, start=0.0):
    return encoder.push(Waveform(samples, 16_000, start))


def at_once(model, samples, *, layer=-1) -> np.ndarray:
    """What transformers gives for the whole file in one pass."""
    from transformers import Wav2Vec2FeatureExtractor

    inputs = Wav2Vec2FeatureExtractor(do_normalize=True)(samples, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        out = model(inputs.input_values, output_hidden_states=True)
    return (out.last_hidden_state if layer == -1 else out.hidden_states[layer])[0].numpy()


def test_geometry():
    assert Geometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)) == Geometry(HOP, FIELD)


@pytest.mark.parametrize("n", [400, 719, 720, 16_000, 160_000])
def test_rows_and_times_are_exact(n):
    track = push(micro(), sound(n / 16_000), start=0.7)
    rows = (n - FIELD) // HOP + 1
    assert len(track) == rows
    first = 0.7 + np.arange(rows) * 0.02
    np.testing.assert_allclose(track.spans, np.stack([first, first + 0.025], axis=1), atol=1e-9, rtol=0)
    assert track.spans[-1, 1] <= 0.7 + n / 16_000 + 1e-9


def test_short_sound_gives_one_row_and_none_gives_none():
    encoder = micro()
    track = push(encoder, sound(0.01), start=2.0)
    np.testing.assert_allclose(track.spans, [[2.0, 2.01]])
    assert np.isfinite(track.values).all()
    assert len(push(encoder, np.empty(0, np.float32))) == 0
    assert np.isfinite(push(encoder, np.zeros(16_000, np.float32)).values).all()


def test_another_rate_is_refused():
    with pytest.raises(DataError, match="44100 Hz, wants 16000 Hz"):
        micro().push(Waveform(sound(1), 44_100, 0.0))


def test_normalisation_is_the_feature_extractors():
    from transformers import Wav2Vec2FeatureExtractor

    x = sound(3)
    wanted = Wav2Vec2FeatureExtractor(do_normalize=True)(x, sampling_rate=16_000)["input_values"][0]
    np.testing.assert_allclose(Normalized(x)[:], wanted, atol=2e-6)


def test_first_moments_over_chunks_are_those_of_all_windows(monkeypatch):
    monkeypatch.setattr("extract.encoders._waveform.MOMENT_CHUNK", 100)
    x = sound(0.5)
    frames = np.stack([x[i : i + 10] for i in range(0, len(x) - 9, 5)]).astype(float)
    mean, cov = moments(x, 10, 5)
    np.testing.assert_allclose(mean, frames.mean(0))
    np.testing.assert_allclose(cov, np.cov(frames.T, bias=True))


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("chunk", [1, 37, 500])
def test_streamed_convolutions_equal_the_whole_file(norm, chunk, monkeypatch):
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(1)
    dims = [16, 16, 32, 32, 32, 32, 32]
    config = HubertConfig(
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        conv_dim=dims,
        feat_extract_norm=norm,
        conv_bias=True,
    )
    stack = HubertModel(config).eval().requires_grad_(False).feature_extractor
    for p in stack.parameters():
        p.add_(torch.randn_like(p) * 0.1)
    x = Normalized(sound({1: 2, 37: 8, 500: 25}[chunk]))
    first = FoldedFirst(stack.conv_layers[0]) if norm == "group" else None
    monkeypatch.setattr("extract.encoders._waveform.CHUNK_ROWS", chunk)
    with torch.inference_mode():
        wanted = stack(torch.from_numpy(x[:])[None])[0].T
        got = torch.cat(list(features(x, Geometry(HOP, FIELD), stack.conv_layers, first, CPU)))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [-1, 2, 1, 0])
def test_up_to_the_context_the_model_sees_the_file_at_once(layer):
    encoder, whole = micro(layer=layer), micro()
    x = sound(30.0)
    np.testing.assert_allclose(push(encoder, x).values, at_once(whole.net, x, layer=layer), atol=1e-4, rtol=1e-4)
    assert encoder.weights_hash == whole.weights_hash


def test_layers_that_are_not_there_are_refused():
    for layer in (3, -4):
        with pytest.raises(UsageError, match="hubert has 2 layers"):
            micro(layer=layer)


def test_longer_files_are_read_in_overlapping_windows():
    encoder = micro(context_s=4.0, overlap_s=1.0)
    x = sound(15)
    stack, got = encoder.net.feature_extractor.conv_layers, push(encoder, x).values
    with torch.inference_mode():
        conv = torch.cat(list(features(Normalized(x), Geometry(HOP, FIELD), stack, encoder.first, CPU)))
        for w in windows(len(conv), 199, 149):
            h = encoder.net.encoder(encoder.net.feature_projection(conv[None, w.start : w.stop])).last_hidden_state[0]
            np.testing.assert_allclose(got[w.first : w.last], h[w.first - w.start : w.last - w.start], atol=1e-5)


@pytest.mark.parametrize("total", [1, 9, 10, 11, 17, 103])
@pytest.mark.parametrize("stride", [3, 10])
def test_windows_cover_each_position_once_where_it_is_most_central(total, stride):
    cut = windows(total, 10, stride)
    assert [i for w in cut for i in range(w.first, w.last)] == list(range(total))
    assert {w.stop - w.start for w in cut} == {min(total, 10)}
    for w in cut:
        for i in range(w.first, w.last):
            off = [abs(i + 0.5 - (v.start + v.stop) / 2) for v in cut]
            assert abs(i + 0.5 - (w.start + w.stop) / 2) == min(off)


def test_impossible_windows_are_refused():
    with pytest.raises(UsageError, match="cannot overlap"):
        HUBERT(HUBERT.Config(context_s=5.0, overlap_s=5.0))
    with pytest.raises(UsageError, match="leave gaps"):
        windows(5, 3, 4)


@pytest.mark.slow
def test_twenty_minutes_do_not_drift():
    n = 20 * 60 * 16_000 + 123
    track = push(micro(), sound(n / 16_000), start=0.008)
    assert len(track) == (n - FIELD) // HOP + 1 == 60_000
    np.testing.assert_allclose(track.spans[-1], 0.008 + 59_999 * 0.02 + np.array([0, 0.025]), atol=1e-9)
    assert 0 <= 0.008 + n / 16_000 - track.spans[-1, 1] < 0.02
    assert np.isfinite(track.values).all()


def save(model, config, folder, prefix="", **more):
    state = {prefix + k: v.contiguous() for k, v in model.state_dict().items()}
    save_file({**state, **more}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "model_type": "hubert"}, default=str))


def test_older_tensor_names_heads_and_other_widths_are_read(tmp_path):
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, conv_dim=[16] * 7, intermediate_size=96,
        do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True,
    )  # fmt: skip
    torch.manual_seed(2)
    model = HubertModel(config).eval()
    save(model, config, tmp_path, "hubert.", **{"lm_head.weight": torch.zeros(2, 48)})
    encoder = HUBERT(HUBERT.Config(weights=str(tmp_path), layer=2))
    assert encoder.dim == 48
    encoder.load(CPU)
    x = sound(2)
    np.testing.assert_allclose(push(encoder, x).values, at_once(model, x, layer=2), atol=1e-5, rtol=1e-4)

    old = {"original0": "weight_g", "original1": "weight_v"}
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    for new, name in old.items():
        key = f"encoder.pos_conv_embed.conv.parametrizations.weight.{new}"
        state[f"encoder.pos_conv_embed.conv.{name}"] = state.pop(key)
    save_file(state, tmp_path / "model.safetensors")
    again = HUBERT(HUBERT.Config(weights=str(tmp_path / "model.safetensors"), layer=2))
    again.load(CPU)
    assert again.weights_hash == encoder.weights_hash


def test_another_kind_of_model_is_refused(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "wavlm"}')
    with pytest.raises(DataError, match="of a wavlm model, wanted hubert"):
        _ = HUBERT(HUBERT.Config(weights=str(tmp_path))).dim


@pytest.mark.slow
def test_published_size_equals_transformers_own_model(tmp_path):
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    config = HubertConfig()
    model = HubertModel(config).eval()
    save(model, config, tmp_path)
    encoder = HUBERT(HUBERT.Config(weights=str(tmp_path)))
    encoder.load(CPU)
    x = sound(12.34)
    got = push(encoder, x).values
    assert got.shape == ((len(x) - FIELD) // HOP + 1, 768)
    np.testing.assert_allclose(got, at_once(model, x), atol=1e-4, rtol=1e-4)


def test_convolutions_of_three_minutes_on_disk_equal_the_whole_file_in_memory(tmp_path):
    encoder, x, spool = micro(), sound(180.0), Spool(tmp_path)
    spool.append(x)
    stack = encoder.net.feature_extractor
    with torch.inference_mode():
        got = torch.cat(list(features(Normalized(spool), Geometry(HOP, FIELD), stack.conv_layers, encoder.first, CPU)))
        whole = torch.from_numpy((x - x.mean()) / np.sqrt(x.astype(float).var() + 1e-7).astype(np.float32))
        torch.testing.assert_close(got, stack(whole[None])[0].T, atol=1e-5, rtol=1e-5)
    assert np.array_equal(push(encoder, x).values, push(encoder, spool).values)
    spool.close()
