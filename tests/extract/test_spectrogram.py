"""Spectrogram features against torchaudio's transforms and timm's ResNet, used directly on windows cut by hand."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cache.errors import DataError, UsageError, WeightsNotFound
from extract.blocks import Waveform
from extract.encoders import ENCODERS

CPU = torch.device("cpu")
SPECTROGRAM = ENCODERS.get("spectrogram")
RATE = 44_100


def loaded(**options):
    encoder = SPECTROGRAM(SPECTROGRAM.Config(**{"size": "micro", "weights": "random:0", **options}))
    encoder.load(CPU)
    return encoder


def sound(count, seed=0, start=0.0):
    rng = np.random.default_rng(seed)
    loud = np.exp(np.cumsum(rng.normal(0, 0.003, count)))
    return Waveform((0.05 * loud * rng.standard_normal(count)).clip(-1, 1).astype(np.float32), RATE, start)


def wanted(samples, begin, net, columns=107):
    """The row of the window of 1.07 s that begins at a sample, silence around the sound."""
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    around = 4 * RATE
    long = np.pad(samples, around)[around + begin :][: columns * 441]
    mel = MelSpectrogram(sample_rate=RATE, n_fft=1024, win_length=882, hop_length=441, n_mels=64)
    picture = AmplitudeToDB("power", 80)(mel(torch.from_numpy(long)[None])[:, :, :columns])
    with torch.inference_mode():
        return net((picture[None] + 14.8) / 19.895)[0].numpy()  # (1, 1, 64, columns) -> (D,)


@pytest.mark.parametrize("placement", ["causal", "centred"])
@pytest.mark.parametrize("seconds", [0.01, 0.5, 3.21])
def test_rows_equal_torchaudio_on_windows_cut_by_hand(placement, seconds):
    encoder, wave = loaded(placement=placement, batch_size=7), sound(round(seconds * RATE), start=1.5)
    track = encoder.push(wave)
    hop, size = 1764, 47_187
    assert len(track) == -(-len(wave.samples) // hop)
    for row in {0, 1, 2, len(track) // 2, len(track) - 1} & set(range(len(track))):
        begin = row * hop + (hop - size if placement == "causal" else (hop - size) // 2)
        np.testing.assert_allclose(track.values[row], wanted(wave.samples, begin, encoder.net), rtol=1e-3, atol=1e-5)


def test_spans_are_the_hops_and_end_with_the_sound():
    wave = sound(10_000, start=2.0)
    track = loaded().push(wave)
    edges = 2.0 + np.r_[np.arange(0, 10_000, 1764), 10_000] / RATE
    np.testing.assert_allclose(track.spans, np.stack([edges[:-1], edges[1:]], axis=1), atol=1e-12)


def test_hops_of_no_whole_number_of_samples_do_not_drift():
    encoder = loaded(hop_s=1 / 30.3, batch_size=64)
    encoder._embed = lambda samples, starts: np.zeros((len(starts), encoder.dim), np.float32)
    track = encoder.push(Waveform(np.zeros(600 * RATE, np.float32), RATE, 0.0))
    np.testing.assert_allclose(track.spans[:, 0], np.arange(len(track)) / 30.3, atol=1e-4)
    assert track.spans[-1, 1] == 600


def test_causal_rows_see_nothing_ahead():
    encoder, wave = loaded(), sound(2 * RATE)
    cut = Waveform(wave.samples[: 25 * 1764], RATE, 0.0)
    np.testing.assert_allclose(encoder.push(wave).values[:25], encoder.push(cut).values, rtol=1e-4, atol=1e-5)


def test_windows_are_independent_of_what_else_is_in_the_batch():
    """80 dB below the loudest of its own window, not of the batch."""
    encoder, wave = loaded(batch_size=64), sound(3 * RATE)
    quiet = Waveform(np.r_[wave.samples * 1e-5, np.ones(RATE, np.float32)], RATE, 0.0)
    alone = loaded(batch_size=1)
    np.testing.assert_allclose(encoder.push(quiet).values, alone.push(quiet).values, rtol=1e-3, atol=1e-5)


def test_nothing_and_the_wrong_rate():
    assert loaded().push(Waveform(np.empty(0, np.float32), RATE, 0.0)).values.shape == (0, 64)
    with pytest.raises(DataError, match="16000 Hz, wants 44100 Hz"):
        loaded().push(Waveform(np.zeros(9, np.float32), 16_000, 0.0))
    for option in ({"hop_s": 0.0}, {"window_s": 0.01}):
        with pytest.raises(UsageError, match=f"spectrogram {next(iter(option))} ="):
            SPECTROGRAM(SPECTROGRAM.Config(**option))


def test_constants_are_in_the_settings_and_weights_are_not_published():
    encoder = SPECTROGRAM(SPECTROGRAM.Config())
    assert encoder.dim == 512
    assert encoder.settings()["mel"]["hop_length"] == 441
    with pytest.raises(WeightsNotFound, match="no published weights") as caught:
        encoder.signature()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_published_layouts_are_read_and_give_the_librarys_own_numbers(library, tmp_path):
    torch.manual_seed(0)
    if library == "timm":
        import timm

        model = timm.create_model("resnet18", in_chans=1, num_classes=2)
    else:
        import torchvision

        model = torchvision.models.resnet18(num_classes=2)
        model.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    for key, tensor in model.state_dict().items():
        if "running" in key or tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape) * 0.5 + 0.5)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    model.eval().fc = torch.nn.Identity()
    encoder, wave = loaded(size="base", weights=str(tmp_path)), sound(RATE // 3)
    track = encoder.push(wave)
    for row in (0, len(track) - 1):
        np.testing.assert_allclose(
            track.values[row], wanted(wave.samples, (row + 1) * 1764 - 47_187, model), rtol=1e-3, atol=1e-4
        )
