"""Words of recordings without a transcript, as Whisper hears them: each with its start and end in seconds.

Model: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023
(https://arxiv.org/abs/2212.04356), any size of it, as built by transformers (Apache-2.0); weights: OpenAI
(Apache-2.0). The times of words are its cross-attention's, by dynamic time warping (``alignment_heads`` of the model's
``generation_config.json``). Sound is heard in windows of 30 s, cut where it is quietest (after Bain et al., "WhisperX",
Interspeech 2023, https://arxiv.org/abs/2303.00747), so memory does not grow with a recording's length. Decoding is
greedy: equal sound gives equal words. A window without speech by Whisper's own two thresholds gives none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.errors import DataError, UsageError, WeightsNotFound
from extract.blocks import Samples, Waveform
from extract.encoders._architecture import architecture, read_json
from extract.encoders._precision import computing
from extract.encoders._published import CONFIG, FILE, Found, Published
from extract.encoders._tensors import fill, seeded, tensor_hash
from extract.encoders._weights import find
from extract.naming import Asked, is_path
from extract.words import Word, segment

if TYPE_CHECKING:
    import torch

RATE = 16_000
GENERATION, PREPROCESSOR = "generation_config.json", "preprocessor_config.json"
TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")
_SHORTEST = RATE // 10  # samples; less is no word, and nothing that a spectrogram could be made of
_QUIET = RATE // 10  # samples of a stretch whose loudness tells where to cut
_SILENT = {"temperature": 0.0, "logprob_threshold": -1.0, "no_speech_threshold": 0.6}  # the paper's, section 4.5
_GREEDY = {"num_beams": 1, "condition_on_prev_tokens": False, **_SILENT}


class Recogniser:
    """One Whisper. model: a hub id, or a folder (``/``, ``.`` or ``~`` in front). language: ``en``; "" detects it."""

    version = 1

    def __init__(self, model: str, language: str = "") -> None:
        self.model, self.language = model, language
        self.weights_hash = ""
        self.published = Published(
            "recogniser", (model,), (CONFIG, GENERATION, PREPROCESSOR), maybe=(*TOKENIZER, "tokenizer_config.json")
        )
        self.device: torch.device | None = None
        self.net: Any = None
        self._tokenizer: Any = None
        self._spectrogram: Any = None

    def settings(self) -> dict[str, Any]:
        """What decides the words, but for the weights' hash: for the fingerprint of streams of text."""
        name = Asked("whisper", self.model).made_by
        return {"recogniser": name, "version": self.version, "language": self.language}

    def signature(self) -> list[Any]:
        """Cheap identity of the weights. Raises WeightsNotFound where they cannot be had."""
        return self.find().signature()

    def find(self) -> Found:
        """Weights and the files beside. Raises WeightsNotFound where one lacks."""
        whole = "give a folder that holds Whisper as it is published: --recogniser ./DIR"
        try:
            found = find(self.model if is_path(self.model) else f"hub:{self.model}", self.published)
        except WeightsNotFound as error:  # what else encoders take as weights is not for words
            raise WeightsNotFound(error.message, hint=error.hint if "convert" in error.hint else whole) from None
        lacking = [n for n in self.published.beside if n not in found.files]
        if lacking or not {"tokenizer.json", "vocab.json"} & found.files.keys():
            told = f"there is no {', '.join(lacking) or 'tokenizer.json'} beside the recogniser's weights {found.spec}"
            raise WeightsNotFound(told, hint=whole)
        return found

    def load(self, device: "torch.device") -> None:
        """Build, fill, hash, freeze and move. Raises WeightsNotFound, DataError, or UsageError for the language."""
        import torch
        from transformers import AutoModelForSpeechSeq2Seq, GenerationConfig, WhisperConfig, WhisperTokenizer
        from transformers import WhisperFeatureExtractor as Spectrogram

        found = self.find()
        config = WhisperConfig.from_dict(architecture(found.files[CONFIG], "whisper", {}))
        self._check(read_json(found.files[GENERATION]), found)
        build = AutoModelForSpeechSeq2Seq.from_config
        self.net = seeded(lambda: build(config, dtype=torch.float32, attn_implementation="eager"), 0)
        fill(self.net, found.files[FILE], (), _tied)
        texts = [p.read_text(encoding="utf-8") for n, p in sorted(found.files.items()) if n != FILE]
        self.weights_hash = tensor_hash(self.net.state_dict(), *texts)
        folder = found.files[CONFIG].parent
        self.net.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        self._tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
        self._spectrogram = Spectrogram.from_pretrained(folder, local_files_only=True)
        self.device = device
        self.net.requires_grad_(False).eval().to(device)

    def _check(self, given: dict[str, Any], found: Found) -> None:
        for name, what in (("alignment_heads", "words"), ("no_timestamps_token_id", "segments")):
            if name not in given:
                told = f"{found.files[GENERATION]} has no {name}, without which {what} have no times"
                raise DataError(told, hint="take that file from openai/whisper-* of the same size")
        languages = [token.strip("<|>") for token in given.get("lang_to_id", {})]
        if self.language and not (given.get("is_multilingual", True) and languages):
            raise UsageError(f"{self.model} knows one language", hint="leave out --language")
        if self.language and self.language not in languages:
            told = f"{self.model} knows no language {self.language!r}"
            raise UsageError(told, hint=f"it knows {', '.join(sorted(languages))}")

    def segments(self, sound: Waveform) -> Iterator[dict[str, Any]]:
        """Segments in whisper's JSON layout, on the sound's own clock, as they are heard.

        A language that is not given is that of the first window in which something is said.
        """
        language, before = f"<|{self.language}|>" if self.language else "", sound.start
        for at, samples in windows(sound, self._spectrogram.n_samples):
            start = sound.start + at / sound.rate
            end = start + len(samples) / sound.rate
            heard, detected = self._heard(samples, language)
            for words in heard:
                made = segment([Word(w.text, start + w.start, start + w.end) for w in words], before, end)
                if made is not None:
                    before = made["end"]
                    yield made
            language = language or (detected if heard else "")

    def _heard(self, samples: Samples, language: str) -> tuple[list[list[Word]], str]:
        """The words of one window, a list a segment, and their language, as tokens are written: ``<|en|>``.

        The pipeline of transformers would pad a short window to 30 s, and go on to hear words behind its end.
        """
        options = self.net.generation_config
        given = self._spectrogram(
            samples,
            sampling_rate=RATE,
            padding=False,
            truncation=False,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self.device)
        with computing("float32", self.device), _errors_only():
            told = {}
            if getattr(options, "is_multilingual", True) and getattr(options, "lang_to_id", None):
                language = language or self._language(given["input_features"])
                told = {"language": language, "task": "transcribe"}
            flags = {"return_timestamps": True, "return_token_timestamps": True, "return_segments": True}
            out = self.net.generate(**given, **flags, **told, **_GREEDY)
            first = options.lang_to_id[language] if told else options.decoder_start_token_id
            return [self._words(s, first) for s in out["segments"][0]], language

    def _language(self, spectrogram: "torch.Tensor") -> str:
        import torch

        short = self._spectrogram.nb_max_frames - spectrogram.shape[-1]
        whole = torch.nn.functional.pad(spectrogram, (0, short))
        token = int(self.net.detect_language(whole)[0])
        return next(name for name, i in self.net.generation_config.lang_to_id.items() if i == token)

    def _words(self, said: dict[str, Any], first: int) -> list[Word]:
        """Tokens of a segment to words, as transformers' own pipeline does. first: a special token, of the language."""
        import torch

        tokens = torch.cat([torch.tensor([first]), said["tokens"].cpu()])
        times = torch.cat([said["start"].reshape(1).cpu().float(), said["token_timestamps"].cpu().float()])
        output = {"tokens": tokens[None], "token_timestamps": times[None]}
        step = self._spectrogram.chunk_length / self.net.config.max_source_positions
        _, made = self._tokenizer._decode_asr(
            [output], return_timestamps="word", return_language=None, time_precision=step
        )
        return [Word(w["text"], *w["timestamp"]) for w in made["chunks"]]


def windows(sound: Waveform, longest: int) -> Iterator[tuple[int, Samples]]:
    """(place of the first sample, samples) of windows up to ``longest`` samples that make up the sound.

    A window ends in the middle of the quietest tenth of a second of its last third; the last one with the sound.
    """
    at = 0
    while at < len(sound.samples):
        samples = sound.samples[at : at + longest]
        if at + longest < len(sound.samples):
            tail = samples[len(samples) - longest // 3 :]
            power = np.square(tail[: len(tail) // _QUIET * _QUIET], dtype=np.float64).reshape(-1, _QUIET).sum(1)
            samples = samples[: len(samples) - len(tail) + int(power.argmin()) * _QUIET + _QUIET // 2]
        if len(samples) >= _SHORTEST:
            yield at, samples
        at += len(samples)


@contextmanager
def _errors_only() -> Iterator[None]:
    """Without what transformers has to say of its own calls, and of sound that ends inside of a word."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _tied(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """With the output's weights, which are the embedding's and published once."""
    return {"proj_out.weight": state["model.decoder.embed_tokens.weight"], **state}
