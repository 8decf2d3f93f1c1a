"""Recognised words: a tiny Whisper in the published format says a script at known times, through the real code."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, pre_tokenizers

from cache.care.verify import verify
from cache.errors import ConfigError, DataError, UsageError, WeightsNotFound
from cache.store import FeatureCache
from extract.again import Again, run_again
from extract.asr import RATE, Recogniser, windows
from extract.blocks import Waveform
from extract.heard import heard
from extract.recipe import extract_recipe
from extract.run import run_extract
from extract.transcripts import read_transcript
from extract.words import Word, segment
from fuse.feeding.streams import describe

CPU = torch.device("cpu")
PTS = np.arange(125) / 25
MICRO = {"size": "micro", "weights": "random:0"}

END = "<|endoftext|>"
START, TASK, NO_TIMES = "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"
LANGUAGES = ("<|en|>", "<|de|>", "<|zh|>")
SPECIAL = (START, *LANGUAGES, "<|translate|>", TASK, "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", NO_TIMES)
WINDOW_S, STEP_S, LENGTH = 2, 0.02, 48  # seconds of a window, of an encoder's row; tokens of a text
FRAMES_A_TOKEN = 4
SCRIPT = ("<|0.00|>", "Ġh", "i", "Ġt", "h", "e", "r", "e", "!", "<|1.60|>", END)
SAID = ("hi", "there!")


def publish(folder, script=SCRIPT, seed=0, sure=True):
    """A multilingual Whisper whose windows are 2 s long; without a script its numbers are random.

    One that is not sure gives the script low probabilities, and a high one to there being no speech.
    """
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (*SPECIAL, END)}
    about = {"pad_token_id": ids[END], "bos_token_id": ids[END], "eos_token_id": ids[END]}
    about |= {"decoder_start_token_id": ids[START]}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_layers": 2, "encoder_layers": 1}
    sizes = {"max_source_positions": round(WINDOW_S / STEP_S), "max_target_positions": LENGTH, "d_model": 96}
    torch.manual_seed(seed)
    config = WhisperConfig(vocab_size=len(tokenizer), encoder_ffn_dim=32, decoder_ffn_dim=32, **sizes, **heads, **about)
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
        if script:
            _teach(model.model, [tokenizer.convert_tokens_to_ids(token) for token in script], 2.0 if sure else 0.1)
            model.model.decoder.embed_tokens.weight[ids["<|nospeech|>"], 48] = 0.0 if sure else 2.0
    model.generation_config = GenerationConfig.from_dict(
        {
            "alignment_heads": [[1, 0], [1, 1]],
            "no_timestamps_token_id": ids[NO_TIMES],
            "lang_to_id": {name: ids[name] for name in LANGUAGES},
            "task_to_id": {"transcribe": ids[TASK], "translate": ids["<|translate|>"]},
            "is_multilingual": True,
            "max_initial_timestamp_index": 50,
            "max_length": LENGTH,
            "begin_suppress_tokens": [ids[END]],
            "suppress_tokens": [],
            **about,
        }
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=WINDOW_S).save_pretrained(folder)
    return folder


def _tokenizer():
    """All bytes, and letters after a space; the special tokens and the times behind them, as Whisper has them."""
    from transformers import WhisperTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("Ġ" + c for c in letters), END]
    made = WhisperTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[("Ġ", c) for c in letters])
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    times = [f"<|{i * STEP_S:.2f}|>" for i in range(round(WINDOW_S / STEP_S) + 1)]
    made.add_tokens([AddedToken(t, special=False) for t in times])
    return made


def _teach(model, script, strength):
    """Numbers that say the script behind the three first tokens; token n of a text looks at row 4 n of the window."""
    encoder, decoder, dim = model.encoder, model.decoder, model.config.d_model
    for layer in (*encoder.layers, *decoder.layers):
        for block in (layer.self_attn.out_proj, layer.fc2):
            block.weight.zero_()
            block.bias.zero_()
        for norm in (m for m in layer.modules() if isinstance(m, torch.nn.LayerNorm)):
            norm.weight.fill_(1)
            norm.bias.zero_()
    for layer in decoder.layers:
        look = layer.encoder_attn
        for linear in (look.out_proj, look.v_proj, look.q_proj, look.k_proj):
            linear.weight.zero_()
            if linear.bias is not None:
                linear.bias.zero_()
        look.q_proj.weight[:, :48] = look.k_proj.weight[:, :48] = torch.eye(dim)[:, :48] * 3
        look.q_proj.weight[48:, :48] = look.k_proj.weight[48:, :48] = torch.eye(48) * 3  # so that both heads look alike
    for norm in (encoder.layer_norm, decoder.layer_norm):
        norm.weight.fill_(1)
        norm.bias.zero_()
    for conv in (encoder.conv1, encoder.conv2):
        conv.weight.mul_(0.01)
        conv.bias.zero_()
    rows = torch.arange(model.config.max_source_positions)
    encoder.embed_positions.weight.zero_()
    encoder.embed_positions.weight[:, :48] = _place(rows)
    decoder.embed_positions.weight.zero_()
    decoder.embed_positions.weight[:, :48] = _place(torch.arange(LENGTH) * FRAMES_A_TOKEN)
    decoder.embed_positions.weight[:, 48:] = torch.eye(LENGTH) * 6
    decoder.embed_tokens.weight.zero_()
    for n, token in enumerate(script):
        decoder.embed_tokens.weight[token, 48 + 2 + n] = strength  # what comes behind place n + 2 of a text


def _place(rows):
    """[N] -> [N,48]: near rows look alike."""
    waves = torch.exp(torch.linspace(-1, -4, 24))
    angles = rows[:, None] * waves
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def generation(folder, **changed):
    """Change a published Whisper's generation_config.json; None removes an entry."""
    path = folder / "generation_config.json"
    given = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({k: v for k, v in given.items() if v is not None}))


@pytest.fixture(scope="session")
def whisper(tmp_path_factory):
    """The folder of the Whisper that says ``SCRIPT`` in every window."""
    return publish(tmp_path_factory.mktemp("whisper") / "tiny")


def noise(seconds, seed=0):
    return (np.random.default_rng(seed).normal(size=round(seconds * RATE)) * 0.1).astype(np.float32)


def loaded(folder, language=""):
    recogniser = Recogniser(str(folder), language)
    recogniser.load(CPU)
    return recogniser


def words_of(segments):
    return [w for s in segments for w in s["words"]]


def run(root, cache, model="", **more):
    data = {"dataset": "manifest", "root": root, "cache": cache, "visual": [], "audio": [], "roberta": MICRO}
    return run_extract(extract_recipe({**data, "recogniser": str(model), **more}), quiet=True)


def rows(cache, recording, name="roberta"):
    store = FeatureCache(cache)
    return store.read(store.resolve(name).key, recording)


def kept(cache):
    return sorted(p for p in (cache / "transcripts").glob("*/*.json") if p.name != "zarr.json")


@pytest.fixture
def loads(monkeypatch):
    """Which recognisers were loaded, and which sound was heard."""
    done, load, segments = [], Recogniser.load, Recogniser.segments

    def counted_load(self, device):
        done.append("load")
        load(self, device)

    def counted_segments(self, sound):
        done.append("hear")
        yield from segments(self, sound)

    monkeypatch.setattr(Recogniser, "load", counted_load)
    monkeypatch.setattr(Recogniser, "segments", counted_segments)
    return done


# -- hearing ----------------------------------------------------------------------------------------------------------


def test_words_and_times_are_those_of_transformers_own_pipeline(whisper):
    from transformers import pipeline

    sound = noise(WINDOW_S)
    made = words_of(loaded(whisper, "en").segments(Waveform(sound, RATE, 0.0)))
    theirs = pipeline("automatic-speech-recognition", model=str(whisper), device="cpu")
    options = {"num_beams": 1, "max_new_tokens": None, "language": "en"}
    wanted = theirs(sound, return_timestamps="word", generate_kwargs=options)["chunks"]
    assert [w["word"] for w in made] == [w["text"] for w in wanted] == [" hi", " there!"]
    np.testing.assert_allclose([(w["start"], w["end"]) for w in made], [w["timestamp"] for w in wanted])


def test_what_is_said_without_spaces_is_cut_into_characters(whisper):
    made = words_of(loaded(whisper, "zh").segments(Waveform(noise(WINDOW_S), RATE, 0.0)))
    assert [w["word"].strip() for w in made] == ["h", "i", "t", "h", "e", "r", "e!"]


def test_long_sound_is_heard_in_windows_on_its_own_clock(whisper):
    said = words_of(loaded(whisper).segments(Waveform(noise(9.3), RATE, 100.0)))
    assert [w["word"].strip() for w in said] == [*SAID] * (len(said) // 2)
    assert 5 <= len(said) // 2 <= 7  # windows of 1.33 to 2 s
    times = np.array([(w["start"], w["end"]) for w in said])
    assert (np.diff(times.reshape(-1)) >= 0).all()
    assert times[0, 0] == 100.0
    assert 107.3 < times[-1, 1] <= 109.3


def test_words_end_with_the_sound(whisper):
    (said,) = loaded(whisper).segments(Waveform(noise(0.3), RATE, 5.0))
    assert said["end"] <= 5.3
    assert not [*loaded(whisper).segments(Waveform(noise(0.05), RATE, 5.0))]


def test_windows_are_read_one_at_a_time_and_cut_where_it_is_quiet():
    sound = noise(95)
    sound[27 * RATE : 28 * RATE] *= 0.01
    asked = []

    class OnDisk:
        def __len__(self):
            return len(sound)

        def __getitem__(self, some):
            asked.append(some.stop - some.start)
            return sound[some]

    cut = [*windows(Waveform(OnDisk(), RATE, 0.0), 30 * RATE)]
    assert max(asked) == 30 * RATE
    assert len(asked) == len(cut)
    assert 27 * RATE < cut[1][0] < 28 * RATE
    np.testing.assert_array_equal(np.concatenate([samples for _, samples in cut]), sound)
    assert all(20 * RATE <= len(samples) <= 30 * RATE for _, samples in cut[:-1])


def test_a_language_that_is_not_given_is_that_of_the_first_window_with_words(whisper, monkeypatch):
    recogniser, asked = loaded(whisper), []
    heard_once = Recogniser._heard

    def told(self, samples, language):
        asked.append(language)
        made, language = heard_once(self, samples, language)
        return ([] if len(asked) == 1 else made), language

    monkeypatch.setattr(Recogniser, "_heard", told)
    assert [*recogniser.segments(Waveform(noise(6), RATE, 0.0))]
    assert asked[:2] == ["", ""]
    assert set(asked[2:]) < set(LANGUAGES)


def test_a_model_of_english_alone(tmp_path):
    folder = publish(tmp_path / "en")
    generation(folder, is_multilingual=False, lang_to_id=None, task_to_id=None)
    made = words_of(loaded(folder).segments(Waveform(noise(2), RATE, 0.0)))
    assert made[-1]["word"] == " there!"  # its script begins where language and task would end
    with pytest.raises(UsageError, match="knows one language"):
        loaded(folder, "en")


@pytest.mark.parametrize("seed", range(3))
def test_what_a_random_model_babbles_has_times_in_order(tmp_path, seed):
    recogniser = loaded(publish(tmp_path / "random", script=(), seed=seed))
    times = np.array([(w["start"], w["end"]) for w in words_of(recogniser.segments(Waveform(noise(7), RATE, 1.0)))])
    assert (np.diff(times.reshape(-1)) >= 0).all()
    assert not times.size or (times.min() >= 1.0 and times.max() <= 8.0)


def test_words_without_a_time_of_their_own_join_their_neighbours(caplog):
    said = [Word(" a", 1, 1), Word(" b", 1, 2), Word(" c", 1.5, 2), Word(" d", 1.8, 9), Word("!", 9, 9)]
    made = segment(said, 0.5, 3.0)
    assert made["words"] == [
        {"word": " a b", "start": 1, "end": 2},
        {"word": " c d!", "start": 2, "end": 3.0},
    ]
    assert made["text"] == " a b c d!"
    assert segment([Word(" a", 5, 6)], 0.0, 3.0) is None
    assert "' a' was recognised at 0.000 s, but has no time" in caplog.text
    assert segment([], 0.0, 3.0) is None


# -- what is refused --------------------------------------------------------------------------------------------------


def test_models_without_word_times_and_strange_languages_are_refused(whisper, tmp_path):
    with pytest.raises(UsageError, match=r"knows no language 'xx'.*it knows de, en, zh"):
        loaded(whisper, "xx")
    folder = shutil.copytree(whisper, tmp_path / "old")
    generation(folder, alignment_heads=None)
    with pytest.raises(DataError, match="no alignment_heads"):
        loaded(folder)
    (folder / "generation_config.json").unlink()
    with pytest.raises(WeightsNotFound, match=r"no generation_config\.json beside"):
        Recogniser(str(folder)).signature()
    other = shutil.copytree(whisper, tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(DataError, match="bert model, wanted whisper"):
        loaded(other)
    (other / "tokenizer.json").unlink()
    with pytest.raises(WeightsNotFound, match=r"no tokenizer\.json"):
        loaded(other)


def test_models_that_are_nowhere_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for model in ("openai/whisper-small", str(tmp_path / "nowhere")):
        with pytest.raises(WeightsNotFound, match=r"--recogniser \./DIR") as caught:
            Recogniser(model).signature()
        assert "random" not in str(caught.value)


def test_a_model_in_the_hubs_cache_is_found_by_its_id(whisper, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    home = tmp_path / "hub" / "models--openai--whisper-small"
    shutil.copytree(whisper, home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    absent = home / ".no_exist" / "abc"
    absent.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):
        (absent / name).touch()
    recogniser = loaded("openai/whisper-small")
    assert recogniser.settings()["recogniser"] == "whisper:openai/whisper-small"
    assert recogniser.weights_hash == loaded(whisper).weights_hash


def test_wrong_recipes_say_what_is_right(tmp_path):
    given = {"dataset": "manifest", "root": tmp_path, "cache": tmp_path / "cache"}
    with pytest.raises(ConfigError, match="no stream of text"):
        extract_recipe({**given, "text": [], "recogniser": "openai/whisper-small"})
    with pytest.raises(ConfigError, match="nothing is recognised"):
        extract_recipe({**given, "language": "en"})


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0.0, 1.5])
def test_recognised_words_lie_where_the_sound_is(whisper, media, manifest, tmp_path, late):
    path = media(tmp_path / "a.mkv", PTS, sound=noise(2.9), sound_start=late)
    cache = tmp_path / "cache"
    result = run(manifest(a={"video": path}), cache, whisper)
    assert not result.failures
    assert any("1 of 1 recordings have no transcript: their words are those that" in n for n in result.notes)
    units = read_transcript(kept(cache)[0])
    assert [u.text for u in units[:2]] == [*SAID]
    assert units[0].start == pytest.approx(late, abs=0.03)
    assert all(late - 0.03 <= u.start < u.end <= late + 3.0 for u in units)
    present = rows(cache, "a").present
    spoken = np.zeros(len(PTS), bool)
    for u in units:
        spoken |= (u.end > PTS) & (u.start < PTS + 0.04)
    np.testing.assert_array_equal(present, spoken)
    store = FeatureCache(cache)
    source = store.commit_record(store.resolve("roberta").key, "a")["source"]
    assert source == {"kind": "recognised", "name": "a.mkv", "bytes": path.stat().st_size}


def test_a_second_run_and_a_second_encoder_hear_nothing_again(whisper, media, manifest, tmp_path, loads):
    root = manifest(a={"video": media(tmp_path / "a.mkv", PTS, sound=noise(4))})
    assert run(root, tmp_path / "cache", whisper).made == 1
    assert loads == ["load", "hear"]
    again = run(root, tmp_path / "cache", whisper)
    assert (again.made, again.kept) == (0, 1)
    other = run(root, tmp_path / "cache", whisper, text=["roberta", "early=roberta@layer=1"])
    assert (other.made, other.kept) == (1, 1)
    assert loads == ["load", "hear"]
    assert (rows(tmp_path / "cache", "a", "early").present == rows(tmp_path / "cache", "a").present).all()


def test_new_media_is_heard_by_the_recogniser_of_the_run(whisper, media, manifest, tmp_path):
    path = media(tmp_path / "a.mkv", PTS, sound=noise(2.9))
    run(manifest(a={"video": path}), tmp_path / "cache", whisper)
    store = FeatureCache(tmp_path / "cache")
    records = describe(store, [store.resolve("roberta")])
    new = run_again([path], records, Again(tmp_path / "new", device="cpu"), quiet=True)
    assert new.keys["roberta"] in records
    got = FeatureCache(new.cache).read(new.keys["roberta"], new.recordings["a"])
    np.testing.assert_array_equal(got.values, rows(tmp_path / "cache", "a").values)


def test_words_that_are_half_written_or_of_other_sound_are_heard_again(whisper, media, manifest, tmp_path, loads):
    root, cache = manifest(a={"video": media(tmp_path / "a.mkv", PTS, sound=noise(4))}), tmp_path / "cache"
    run(root, cache, whisper)
    path = kept(cache)[0]
    whole = path.read_bytes()
    for n, spoilt in enumerate((whole[: len(whole) // 2], whole.replace(b"a.mkv", b"b.mkv"))):
        path.write_bytes(spoilt)
        run(root, cache, whisper, text=[f"x{n}=roberta@layer={n}"])
        assert path.read_bytes() == whole
    assert loads.count("hear") == 3


def test_damaged_words_are_named_and_heard_again(whisper, media, manifest, tmp_path, loads):
    video = media(tmp_path / "a.mkv", np.arange(50) / 25, sound=noise(2), rate=RATE)
    root, cache = manifest(a={"video": video}, b={"video": video}), tmp_path / "cache"
    run(root, cache, whisper)
    whole = [path.read_bytes() for path in kept(cache)]
    damaged = bytearray(whole[0])
    damaged[damaged.index(b"segments") + 30] ^= 1
    kept(cache)[0].write_bytes(damaged)
    [damage] = verify(cache).damages
    assert damage.part == str(kept(cache)[0].relative_to(cache))
    assert damage.recording == "a"
    (cache / "damaged.csv").write_text(
        "part,recording,cause\n../transcripts/w/a.json,a,lie\n" + f"{damage.part},a,true\n"
    )
    outside = tmp_path / "transcripts" / "w" / "a.json"
    outside.parent.mkdir(parents=True)
    outside.write_text("{}")
    shutil.rmtree(cache / "features" / FeatureCache(cache).resolve("roberta").key / "a")
    run(root, cache, whisper)
    assert [path.read_bytes() for path in kept(cache)] == whole
    assert outside.exists()
    assert verify(cache, deep=True).damages == []


def test_the_damaged_record_of_a_recogniser_is_written_anew(whisper, media, manifest, tmp_path, loads):
    root, cache = manifest(a={"video": media(tmp_path / "a.mkv", PTS, sound=noise(4))}), tmp_path / "cache"
    run(root, cache, whisper)
    (record,) = cache.glob("transcripts/*/zarr.json")
    whole = record.read_bytes()
    record.write_bytes(whole.replace(b"weights", b"weightz"))
    assert [d.part for d in verify(cache).damages] == [str(record.parent.relative_to(cache))]
    run(root, cache, whisper, text=["other=roberta@layer=1"])
    assert record.read_bytes() == whole
    assert loads == ["load", "hear", "load"], "the words are kept"
    assert verify(cache, deep=True).damages == []


def test_a_users_transcript_wins(whisper, media, manifest, tmp_path, loads):
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nwell\n")
    row = {"video": media(tmp_path / "a.mkv", PTS, sound=noise(4)), "transcript": tmp_path / "a.srt"}
    run(manifest(a=row), tmp_path / "with", whisper)
    run(manifest(a=row), tmp_path / "without")
    assert "hear" not in loads
    assert not kept(tmp_path / "with")
    for name in ("values", "present"):
        np.testing.assert_array_equal(
            getattr(rows(tmp_path / "with", "a"), name), getattr(rows(tmp_path / "without", "a"), name)
        )


def test_a_transcript_that_comes_later_takes_the_place_of_recognised_words(whisper, media, manifest, tmp_path):
    video = media(tmp_path / "a.mkv", PTS, sound=noise(4))
    other = {"video": media(tmp_path / "b.mkv", PTS, sound=noise(4))}
    cache = tmp_path / "cache"
    run(manifest(a={"video": video}, b=other), cache, whisper)
    (tmp_path / "a.srt").write_text("1\n00:00:04,000 --> 00:00:04,200\nwell\n")
    result = run(manifest(a={"video": video, "transcript": tmp_path / "a.srt"}, b=other), cache, whisper)
    assert not result.failures
    assert (result.made, result.kept) == (1, 1)
    assert "a has a transcript now: its rows of recognised words gave way" in result.notes
    assert np.flatnonzero(rows(cache, "a").present).tolist() == list(range(100, 105))
    assert not run(manifest(a={"video": video, "transcript": tmp_path / "a.srt"}, b=other), cache, whisper).made


def test_the_fingerprint_has_the_recogniser_only_where_it_is_asked_for(whisper, media, manifest, tmp_path):
    root, cache = manifest(a={"video": media(tmp_path / "a.mkv", PTS, sound=noise(1))}), tmp_path / "cache"
    louder = publish(tmp_path / "louder" / "tiny", seed=1)
    copied = shutil.copytree(whisper, tmp_path / "copy" / "tiny")
    (plain,) = run(root, cache).streams
    assert "recogniser" not in FeatureCache(cache).about(plain)["settings"]
    asked = [({"model": m, "language": g}) for m, g in ((whisper, ""), (whisper, "en"), (louder, ""), (copied, ""))]
    keys = [run(root, cache, **a).streams[0] for a in asked]
    assert len({plain, *keys}) == 4
    assert keys[3] == keys[0]
    hears = FeatureCache(cache).about(keys[1])["settings"]["recogniser"]
    assert {k: hears[k] for k in ("recogniser", "language", "version")} == {
        "recogniser": "whisper:tiny",
        "language": "en",
        "version": 1,
    }


def test_weights_that_changed_unseen_are_told(whisper, tmp_path):
    folder = shutil.copytree(whisper, tmp_path / "tiny")
    cache = FeatureCache.create(tmp_path / "cache", "manifest")
    heard(cache, Recogniser(str(folder)), "cpu")
    path = folder / "model.safetensors"
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    words = heard(cache, Recogniser(str(folder)), "cpu")
    with pytest.raises(DataError, match="changed without changing their files"):
        words._ready()


def test_nothing_said_and_no_sound_leave_the_rows_absent(media, manifest, tmp_path, caplog):
    unsure = publish(tmp_path / "unsure", sure=False)
    root = manifest(
        mute={"video": media(tmp_path / "mute.mkv", PTS)},
        quiet={"video": media(tmp_path / "quiet.mkv", PTS, sound=np.zeros(3 * RATE, np.float32))},
    )
    result = run(root, tmp_path / "cache", unsure)
    assert not result.failures
    assert not rows(tmp_path / "cache", "quiet").present.any()
    assert not rows(tmp_path / "cache", "mute").present.any()
    assert any("absent throughout in 2 of 2 recordings" in n for n in result.notes)
    assert "quiet: no words were recognised in quiet.mkv" in caplog.text


def test_sound_that_cannot_be_heard_costs_its_text_alone(whisper, light_encoders, media, manifest, tmp_path):
    (tmp_path / "bad.wav").write_text("not sound")
    good = {"video": media(tmp_path / "b.mkv", PTS, sound=noise(2))}
    row = {"video": media(tmp_path / "a.mkv", PTS), "audio": tmp_path / "bad.wav"}
    text = ["roberta", "early=roberta@layer=1"]
    result = run(manifest(a=row, b=good), tmp_path / "cache", whisper, visual=["brightness"], text=text)
    assert [(f.recording, f.stage) for f in result.failures] == [("a", "recognise")]
    assert "give the recording a transcript" in result.failures[0].hint or "bad.wav" in result.failures[0].cause
    assert rows(tmp_path / "cache", "a", "brightness").present.all()
    assert rows(tmp_path / "cache", "b").present.any()


def test_a_recording_past_its_deadline_is_given_up(whisper, media, manifest, tmp_path):
    root = manifest(a={"video": media(tmp_path / "a.mkv", PTS, sound=noise(2))})
    (failure,) = run(root, tmp_path / "cache", whisper, deadline_s=-1.0).failures
    assert (failure.stage, "its deadline has passed" in failure.cause) == ("media", True)
    assert not kept(tmp_path / "cache")
