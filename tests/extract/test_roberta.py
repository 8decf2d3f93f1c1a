"""RoBERTa rows: which tokens they average, when they hold, and transformers' own numbers."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from cache.errors import UsageError, WeightsNotFound
from extract.blocks import TimedText
from extract.encoders import ENCODERS
from extract.encoders._tokens import seedless, tokenize
from extract.encoders._windows import windows

CPU = torch.device("cpu")
ROBERTA = ENCODERS.get("roberta")
SAID = ["Well", "I never", "", "expected café\u2014naïve", "to", "find", "  you  ", "here !", "🙂"]


def units(texts):
    return [TimedText(t, 0.5 * i, 0.5 * i + 0.3) for i, t in enumerate(texts)]


def micro(**options):
    encoder = ROBERTA(ROBERTA.Config(size="micro", **{"weights": "random:0", **options}))
    encoder.load(CPU)
    return encoder


def trained_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer in the published form, with merges, trained on a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(SAID)] * 3 + ["expected to find you here"] * 5, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    tokenizer.enable_truncation(16)  # a published tokenizer.json may say so; a transcript is never cut
    return tokenizer


def publish(folder, **options):
    """A random model as it is published: language-model head and pooler included, names prefixed."""
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(3)
    config = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, **options
    )
    model = RobertaModel(config).eval()
    state = {f"roberta.{k}": v.contiguous() for k, v in model.state_dict().items()}
    save_file({**state, "lm_head.bias": torch.zeros(5)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    trained_tokenizer().save(str(folder / "tokenizer.json"))
    return model


def by_hand(model, tokenizer, texts) -> dict[int, np.ndarray]:
    """Rows from transformers' model directly: the whole text at once, tokens averaged by the unit they overlap."""
    said = {i: t.strip() for i, t in enumerate(texts) if t.strip()}
    encoding = tokenizer.encode(" ".join(said.values()), add_special_tokens=False)
    with torch.inference_mode():
        hidden = model(input_ids=torch.tensor([[0, *encoding.ids, 2]])).last_hidden_state[0, 1:-1].numpy()
    rows, at = {}, 0
    for i, text in said.items():
        inside = [j for j, (a, b) in enumerate(encoding.offsets) if a < at + len(text) and b > at]
        rows[i] = hidden[inside].mean(0)
        at += len(text) + 1
    return rows


def check_against_transformers(folder, encoder, model):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    track, wanted = encoder.push(units(SAID)), by_hand(model, tokenizer, SAID)
    np.testing.assert_allclose(track.values, np.stack(list(wanted.values())), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(track.spans[:, 0], [0.5 * i for i in wanted])


def test_published_format_equals_transformers_own_model(tmp_path):
    small = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    model = publish(tmp_path, **small)
    encoder = ROBERTA(ROBERTA.Config(weights=str(tmp_path)))
    assert encoder.dim == 48
    encoder.load(CPU)
    check_against_transformers(tmp_path, encoder, model)


@pytest.mark.slow
def test_published_size_equals_transformers_own_model(tmp_path):
    model = publish(tmp_path)
    encoder = ROBERTA(ROBERTA.Config(weights=str(tmp_path)))
    assert encoder.dim == 768
    encoder.load(CPU)
    check_against_transformers(tmp_path, encoder, model)


def test_vocabulary_and_merges_serve_as_the_tokenizer(tmp_path):
    publish(tmp_path, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=96)
    encoder = ROBERTA(ROBERTA.Config(weights=str(tmp_path)))
    encoder.load(CPU)
    Tokenizer.from_file(str(tmp_path / "tokenizer.json")).model.save(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    again = ROBERTA(ROBERTA.Config(weights=str(tmp_path)))
    again.load(CPU)
    np.testing.assert_allclose(again.push(units(SAID)).values, encoder.push(units(SAID)).values, atol=1e-6)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(WeightsNotFound, match=r"put tokenizer\.json"):
        again.load(CPU)


def test_the_tokenizer_is_part_of_the_identity(tmp_path):
    publish(tmp_path, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=96)
    encoder = ROBERTA(ROBERTA.Config(weights=str(tmp_path)))
    encoder.load(CPU)
    before = encoder.weights_hash
    (tmp_path / "tokenizer.json").write_text(seedless().to_str())
    encoder.load(CPU)
    assert encoder.weights_hash != before


def test_a_row_holds_during_its_unit_and_empty_units_have_none():
    track = micro().push(units(SAID))
    said = [i for i, t in enumerate(SAID) if t.strip()]
    np.testing.assert_allclose(track.spans, [[0.5 * i, 0.5 * i + 0.3] for i in said])
    assert len(micro().push([])) == len(micro().push(units(["", " "]))) == 0


def test_tokens_belong_to_the_unit_they_were_written_in():
    tokenizer, said = seedless(), [t.strip() for t in SAID if t.strip()]
    tokenizer.decoder = decoders.ByteLevel()
    tokens = tokenize(tokenizer, said)
    for i, text in enumerate(said):
        assert tokenizer.decode(tokens.ids[tokens.unit == i].tolist()).split() == text.replace(" !", "!").split()
    assert tokenizer.decode(tokens.ids.tolist()) == " ".join(said)
    assert (tokens.unit == -1).any()  # the space before "!", kept in the text but in no mean


def test_long_texts_are_read_in_windows_without_padding():
    encoder = micro(context_tokens=32, stride_tokens=16)
    texts = ["alpha", "beta", "gamma", "delta"] * 20
    tokens = tokenize(encoder.tokenizer, texts)
    hidden = np.empty((len(tokens.ids), 96), np.float32)
    for w in windows(len(tokens.ids), 32, 16):
        with torch.inference_mode():
            h = encoder.net(input_ids=torch.tensor([[0, *tokens.ids[w.start : w.stop], 2]])).last_hidden_state[0, 1:-1]
        hidden[w.first : w.last] = h[w.first - w.start : w.last - w.start]
    wanted = np.stack([hidden[tokens.unit == i].mean(0) for i in range(len(texts))])
    np.testing.assert_allclose(encoder.push(units(texts)).values, wanted, atol=1e-5)


def test_no_transcript_is_too_long_and_windows_that_are_say_so():
    assert len(micro().push(units(["word"] * 2000))) == 2000
    with pytest.raises(UsageError, match="these weights take 510"):
        micro(context_tokens=511)
    with pytest.raises(UsageError, match="leave gaps"):
        ROBERTA(ROBERTA.Config(stride_tokens=600))


def test_layers():
    x = units(SAID)
    last, first = micro(), micro(layer=1)
    assert last.weights_hash == first.weights_hash
    assert not np.allclose(last.push(x).values, first.push(x).values)
    np.testing.assert_array_equal(micro(layer=2).push(x).values, last.push(x).values)


def test_random_features_tell_words_apart():
    """40 words, each with a random value: ridge on 30 random sequences reads the value off the rows of 10 others."""
    rng, encoder = np.random.default_rng(0), micro()
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = sorted({"".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(45)})[:40]
    value = rng.standard_normal(40)
    said = rng.integers(0, 40, (40, 30))
    rows = np.stack([encoder.push(units([words[i] for i in s])).values for s in said]).astype(float)
    train, test = rows[:30].reshape(-1, 96), rows[30:].reshape(-1, 96)
    mean, std = train.mean(0), train.std(0)
    z, y = (train - mean) / std, value[said[:30]].ravel()
    w = np.linalg.solve(z.T @ z + np.eye(96), z.T @ (y - y.mean()))
    assert np.corrcoef(((test - mean) / std) @ w, value[said[30:]].ravel())[0, 1] > 0.9
