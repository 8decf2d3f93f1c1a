"""Trained weights know what they were fed: fed otherwise, their features would be nothing that anyone trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cache.errors import DataError
from cache.fingerprint import canonical
from extract.blocks import FrameBlock
from extract.encoders import ENCODERS
from extract.encoders._trainable import TRAINED

CPU = torch.device("cpu")


def loaded(name, **options):
    cls = ENCODERS.get(name)
    made = cls(cls.Config(**options))
    made.load(CPU)
    return made


def keep(encoder, folder, metadata=None):
    """Its weights in a folder, as a training leaves them."""
    told = {TRAINED: canonical(encoder.input_settings())} if metadata is None else metadata
    save_file({k: t.contiguous() for k, t in encoder.net.state_dict().items()}, folder / "model.safetensors", told)
    return str(folder)


@pytest.mark.parametrize(
    ("name", "options", "others", "told"),
    [
        ("spectrogram", {"window_s": 0.3}, {}, "window_s = 0.3, not 1.07"),
        ("spectrogram", {}, {"placement": "centred"}, 'placement = "causal", not "centred"'),
        ("spectrogram", {"hop_s": 0.1}, {}, "hop_s = 0.1, not 0.04"),
        ("timm", {"crop_pct": 1.0}, {}, "crop_pct = 1.0, not null"),
        ("timm", {}, {"crop_pct": 0.8}, "crop_pct = null, not 0.8"),
    ],
)
def test_weights_trained_on_other_inputs_are_refused(name, options, others, told, tmp_path):
    model = {"model": "test_resnet"} if name == "timm" else {"size": "micro"}
    trained = loaded(name, **model, **options, weights="random:0")
    weights = keep(trained, tmp_path)
    assert loaded(name, **model, **options, weights=weights).weights_hash == trained.weights_hash
    with pytest.raises(DataError) as caught:
        loaded(name, **model, **others, weights=weights)
    assert f"the weights in {tmp_path / 'model.safetensors'} were trained with " in str(caught.value)
    assert told in str(caught.value)
    assert "extract with the options that they were trained with, as train-encoder printed them" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"), [("crop_pct", 0.5), ("size", 96), ("mean", (0.5, 0.5, 0.5)), ("interpolation", "bilinear")]
)
def test_weights_trained_on_other_pictures_are_refused(option, value, tmp_path):
    """The constants that belong to a model, which another version of a library may have changed."""
    weights = keep(loaded("resnet18", size="micro", weights="random:0"), tmp_path)
    cls = ENCODERS.get("resnet18")
    other = cls(cls.Config(size="micro", weights=weights))
    other.preprocess = replace(other.preprocess, **{option: value})
    with pytest.raises(DataError, match=rf"were trained with .*{option}"):
        other.load(CPU)


def test_what_changes_no_input_and_weights_of_others_are_taken(tmp_path):
    trained = loaded("resnet18", size="micro", weights="random:0")
    weights = keep(trained, tmp_path)
    loaded("resnet18", size="micro", weights=weights, precision="bf16", batch_size=3)
    for metadata in ({"format": "pt"}, {}):
        keep(trained, tmp_path, metadata)
        again = loaded("resnet18", size="micro", weights=weights)
        assert again.weights_hash == trained.weights_hash
    picture = [np.full((40, 50, 3), 99, np.uint8)]
    block = FrameBlock(picture, np.array([[0.0, 0.04]]))
    assert np.array_equal(trained.push(block).values, again.push(block).values)
