"""Encoder models of text, saved as they are published, against transformers' own model and tokenizer."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from cache.errors import DataError, UsageError, WeightsNotFound
from extract.blocks import TimedText
from extract.encoders import ENCODERS
from extract.encoders._tokens import closing, tokenize

CPU = torch.device("cpu")
HF = ENCODERS.get("hf-text")
SAID = ["Well", "I never", "", "expected café\u2014naïve", "to", "find", "  you  ", "here !", "🙂", "WELL"]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
SHAPE |= {"vocab_size": 300, "max_position_embeddings": 130, "pad_token_id": 1}
DEBERTA = {
    "relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16,
    "share_att_key": True, "norm_rel_ebd": "layer_norm", "max_relative_positions": -1, "type_vocab_size": 0,
    "max_position_embeddings": 128,
}  # fmt: skip
#: Model with a head as it is published, its config's options, and the tokenizer that such models have.
FAMILIES = {
    "bert": ("BertForPreTraining", {"max_position_embeddings": 128}, "words"),
    "roberta": ("RobertaForMaskedLM", {}, "bytes"),
    "xlm-roberta": ("XLMRobertaForMaskedLM", {}, "pieces"),
    "deberta-v2": ("DebertaV2ForMaskedLM", DEBERTA, "pieces"),
    "electra": ("ElectraForPreTraining", {"embedding_size": 16, "max_position_embeddings": 128}, "words"),
    "distilbert": (
        "DistilBertForMaskedLM",
        {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 128},
        "words",
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        {"max_position_embeddings": 128, "cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2},
        "bytes",
    ),
    "albert": ("AlbertForMaskedLM", {"embedding_size": 16, "max_position_embeddings": 128}, "pieces"),
    "megatron-bert": ("MegatronBertForMaskedLM", {"max_position_embeddings": 128}, "words"),
    "xlm-roberta-xl": ("XLMRobertaXLForMaskedLM", {}, "pieces"),
    "mpnet": ("MPNetForMaskedLM", {}, "words"),
}
FIRST, LAST = "<s>", "</s>"


def tokenizer(kind) -> Tokenizer:
    """Trained on a few words, in one of the three usual forms, with special tokens around a text."""
    special = [FIRST, "<pad>", LAST, "<unk>", "<mask>"]
    options = {"vocab_size": 300, "special_tokens": special, "show_progress": False}
    if kind == "words":
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.decoder, trainer = decoders.WordPiece(), trainers.WordPieceTrainer(**options)
    elif kind == "pieces":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(**options, unk_token="<unk>")
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(**options, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([" ".join(SAID)] * 3 + ["expected to find you here"] * 5, trainer)
    made.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}", special_tokens=[(FIRST, 0), (LAST, 2)]
    )
    if kind == "bytes":
        trimmed = processors.ByteLevel(trim_offsets=True)
        made.post_processor = processors.Sequence([trimmed, made.post_processor])
    made.enable_truncation(16)  # a published tokenizer.json may say so; a transcript is never cut
    return made


def publish(folder, name):
    """A random model in the published format, head included; returns the part that gives features."""
    head, options, kind = FAMILIES[name]
    cls = getattr(transformers, head)
    torch.manual_seed(7)
    model = cls(cls.config_class(**{**SHAPE, **options})).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    model.save_pretrained(folder)
    tokenizer(kind).save(str(folder / "tokenizer.json"))
    return getattr(model, model.base_model_prefix)


def units(texts):
    return [TimedText(t, 0.5 * i, 0.5 * i + 0.3) for i, t in enumerate(texts)]


def encoder(folder, **options):
    made = HF(HF.Config(**{"model": str(folder), "context_tokens": 100, "stride_tokens": 50, **options}))
    made.load(CPU)
    return made


def by_hand(model, folder, texts, layer):
    """Rows from transformers' model directly: the whole text at once, tokens averaged by the unit they overlap."""
    said = [t.strip() for t in texts if t.strip()]
    read = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    whole = " ".join(said)
    given = read(whole, return_offsets_mapping=True, return_tensors="pt")
    offsets = given.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        out = model(input_ids=given["input_ids"], output_hidden_states=True)
    hidden = (out.last_hidden_state if layer == -1 else out.hidden_states[layer])[0].numpy()
    rows, at = [], 0
    for text in said:
        inside = [j for j, (a, b) in enumerate(offsets) if whole[a:b].strip() and at < b <= at + len(text)]
        rows.append(hidden[inside].mean(0))
        at += len(text) + 1
    return np.stack(rows)


@pytest.mark.parametrize("name", FAMILIES)
def test_published_format_equals_transformers_own_model(name, tmp_path):
    model = publish(tmp_path, name)
    made = encoder(tmp_path, layers=(0, 2, -1))
    assert made.dim == 3 * 32
    track = made.push(units(SAID))
    wanted = np.concatenate([by_hand(model, tmp_path, SAID, n) for n in (0, 2, -1)], axis=1)
    np.testing.assert_allclose(track.values, wanted, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(track.spans[:, 0], [0.5 * i for i, t in enumerate(SAID) if t.strip()])
    middle = encoder(tmp_path, layer=2)
    np.testing.assert_allclose(middle.push(units(SAID)).values, wanted[:, 32:64], atol=1e-4, rtol=1e-4)
    assert middle.weights_hash == made.weights_hash


@pytest.mark.parametrize(("name", "left"), [("bert", 1), ("roberta", 1), ("megatron-bert", 3), ("xlm-roberta-xl", 3)])
def test_layers_above_the_wanted_are_dropped_only_where_nothing_comes_after_them(name, left, tmp_path):
    """A norm behind the layers would change the state that the last one left gives."""
    model = publish(tmp_path, name)
    made = encoder(tmp_path, layer=1)
    assert len(made.net.encoder.layer) == left
    wanted = by_hand(model, tmp_path, SAID, 1)
    np.testing.assert_allclose(made.push(units(SAID)).values, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["words", "pieces", "bytes"])
def test_tokens_belong_to_the_unit_they_were_written_in(kind):
    made, said = tokenizer(kind), [t.strip() for t in SAID[:4] if t.strip()]
    made.no_truncation()
    assert closing(made) == ([0], [2])
    tokens = tokenize(made, said)
    for i, text in enumerate(said):
        told = made.decode(tokens.ids[tokens.unit == i].tolist(), skip_special_tokens=False)
        letters = text.lower().replace("é", "e").replace("ï", "i") if kind == "words" else text
        assert told.replace(" ", "") == letters.replace(" ", "")
    spaces = tokenize(made, ["a", "b"]).unit
    assert set(spaces.tolist()) <= {-1, 0, 1}


def test_a_space_of_its_own_is_in_no_units_mean():
    made = tokenizer("pieces")
    tokens = tokenize(made, ["find", "🙂", "you"])
    bare = [made.id_to_token(i) for i in tokens.ids[tokens.unit == -1]]
    assert bare == ["▁", "▁"]  # the one that the tokenizer puts in front of the text is the first unit's
    assert [made.id_to_token(i) for i in tokens.ids].count("▁") == 3


def test_roberta_by_its_own_name_and_as_any_model_gives_the_same(tmp_path):
    publish(tmp_path, "roberta")
    cls = ENCODERS.get("roberta")
    roberta = cls(cls.Config(weights=str(tmp_path), context_tokens=100, stride_tokens=50))
    roberta.load(CPU)
    np.testing.assert_allclose(encoder(tmp_path).push(units(SAID)).values, roberta.push(units(SAID)).values, atol=1e-6)


def test_windows_longer_than_the_model_are_refused(tmp_path):
    for name in ("bert", "xlm-roberta"):  # 128 positions, and 130 of which two are the padding's
        publish(tmp_path, name)
        with pytest.raises(UsageError, match="context_tokens = 510, these weights take 126"):
            encoder(tmp_path, context_tokens=510)
        long = encoder(tmp_path, context_tokens=126, stride_tokens=63).push(units(["find"] * 300))
        assert len(long) == 300
        assert np.isfinite(long.values).all()


@pytest.mark.parametrize("kind", ["gpt2", "t5", "bart", "llama", "wavlm", "vit"])
def test_what_is_no_encoder_of_text_is_refused(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "hidden_size": 32}))
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    tokenizer("words").save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="encoder"):
        encoder(tmp_path)


def test_a_decoder_made_of_an_encoder_is_refused(tmp_path):
    publish(tmp_path, "bert")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "is_decoder": True}))
    with pytest.raises(DataError, match="wanted an encoder"):
        encoder(tmp_path)


def test_without_a_fast_tokenizer_one_line_says_how_to_make_it(tmp_path):
    publish(tmp_path, "deberta-v2")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WeightsNotFound, match=r"no tokenizer\.json .*AutoTokenizer.*save_pretrained") as caught:
        encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_tokenizer_and_the_architecture_are_part_of_the_identity(tmp_path):
    publish(tmp_path, "bert")
    before = encoder(tmp_path)
    tokenizer("bytes").save(str(tmp_path / "tokenizer.json"))
    other = encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    assert len({before.weights_hash, other.weights_hash, encoder(tmp_path).weights_hash}) == 3


def test_missing_tensors_are_named(tmp_path):
    publish(tmp_path, "bert")
    state = load_file(tmp_path / "model.safetensors")
    state.pop("bert.encoder.layer.1.output.dense.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"lacks 1 tensors \(encoder\.layer\.1\.output\.dense\.weight\)"):
        encoder(tmp_path)
