"""Text units to tokens: fast tokenizers, which know which characters, and so which unit, a token came from."""

import string
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, WeightsNotFound

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
SPACE = "Ġ"  # how byte-level BPE writes a space


@dataclass(frozen=True)
class Tokens:
    """Token ids i64[N] without the special ones, and the unit each belongs to, i64[N], -1 for bare spaces."""

    ids: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]


def tokenize(tokenizer: "Tokenizer", texts: Sequence[str]) -> Tokens:
    """The texts joined by spaces, tokenized as one; a token belongs to the unit that holds its last character."""
    starts, at = [], 0
    for text in texts:
        starts.append(at)
        at += len(text) + 1
    text = " ".join(texts)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    stops = [stop if text[start:stop].strip() else 0 for start, stop in encoding.offsets]  # 0: a space's own token
    unit = [bisect_right(starts, stop - 1) - 1 for stop in stops]
    return Tokens(np.array(encoding.ids, np.int64), np.array(unit, np.int64))


def closing(tokenizer: "Tokenizer") -> tuple[list[int], list[int]]:
    """Ids of the special tokens that the tokenizer puts before and behind a text."""
    special = tokenizer.encode("a")
    inside = [i for i, mask in enumerate(special.special_tokens_mask) if not mask]
    first, last = (inside[0], inside[-1] + 1) if inside else (len(special.ids), len(special.ids))
    return special.ids[:first], special.ids[last:]


def seedless() -> "Tokenizer":
    """A tokenizer that needs no download: all bytes, and pairs of lower-case letters (after a space, too).

    With single bytes alone a word's mean would be its bag of letters; pairs tell words apart for a linear probe.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters, alphabet = string.ascii_lowercase, sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in (SPACE, *letters) for b in letters]
    vocab = {t: i for i, t in enumerate((*SPECIAL, *alphabet, *(a + b for a, b in merges), MASK))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def read_tokenizer(files: Mapping[str, Path], name: str) -> tuple["Tokenizer", str]:
    """The tokenizer beside the weights (tokenizer.json, or vocab.json and merges.txt) and the text that defines it.

    Raises WeightsNotFound where there is none, DataError where it cannot be read.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = next((n for n in (("tokenizer.json",), ("vocab.json", "merges.txt")) if set(n) <= files.keys()), None)
    if names is None:
        raise WeightsNotFound(
            f"there is no tokenizer beside the {name} weights",
            hint="put tokenizer.json (or vocab.json and merges.txt) into their folder",
        )
    texts = [files[n].read_text(encoding="utf-8") for n in names]
    try:
        if len(names) == 1:
            tokenizer = Tokenizer.from_str(texts[0])
        else:
            tokenizer = Tokenizer(models.BPE.from_file(*(str(files[n]) for n in names)))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    except Exception as error:  # all that the tokenizers library raises on a bad file
        raise DataError(f"{files[names[0]]} is no tokenizer ({error})", hint="download it again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, "".join(texts)
