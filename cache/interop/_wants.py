"""What a user asks of an import, in the words of the command line; and whether a stream is visual, audio or text.

The last is told by the usual names of feature sets; else it is asked for, never assumed.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from cache.align import POLICIES
from cache.errors import UsageError
from cache.records import MODALITIES, Modality

NONE = "none"
_DTYPES = ("float16", "float32")
_USUAL: dict[Modality, str] = {
    "visual": "vision visual video face image rgb flow openface facet vggface facenet fau aus resnet senet manet "
    "emonet msceleb swin vit clip i3d r21d r2plus1d s3d r3d xception deit dino videomae densenet efficientnet timm",
    "audio": "audio acoustic sound speech covarep egemaps opensmile is09 is10 is13 eb10 mfcc lld wav2vec hubert wavlm "
    "whisper vggish deepspectrum boaw librosa panns data2vecaudio coavarep",
    "text": "text language bert roberta electra albert xlnet glove word words fasttext deberta gpt llama baichuan lert "
    "sentence transcript",
}
_KNOWN = {token: modality for modality, tokens in _USUAL.items() for token in tokens.split()}


@dataclass(frozen=True)
class Wants:
    """How to import. modalities: by the source's stream name, ``none`` to leave it out; guessed where not given.

    fps: of nominal frames; None is the source's own rate, else 25. label_range: lowest and highest label, mapped to
    [-1, 1]. columns: which of the source's label columns are valence and arousal. labels: where labels are, where
    the layout has none. protocol: under which name the labels are kept.
    """

    modalities: dict[str, str] = field(default_factory=dict)
    fps: float | None = None
    align: str = "overlap"
    dtype: str = "float32"
    label_range: tuple[float, float] | None = None
    columns: tuple[int, ...] = ()
    labels: Path | None = None
    protocol: str = "va"

    @property
    def middle(self) -> float:
        """Of the labels' range: what stands for an arousal that the source lacks, 0 once it is mapped."""
        return sum(self.label_range) / 2 if self.label_range else 0.0


def wants(
    streams: list[str],
    labels: Path | None,
    columns: str | None,
    label_range: str | None,
    protocol: str,
    fps: float | None,
    align: str,
    dtype: str,
) -> Wants:
    """Raises UsageError for an option that does not say what it should."""
    modalities = {}
    for text in streams:
        name, _, modality = text.rpartition("=")
        if not name:
            raise UsageError(f"--stream {text!r} names no modality", hint="give e.g. --stream vggface=visual")
        modalities[name] = modality.strip()
    if align not in POLICIES:
        raise UsageError(f"unknown align policy {align!r}", hint=f"give {', '.join(POLICIES)}")
    if dtype not in _DTYPES:
        raise UsageError(f"--dtype {dtype!r}", hint=f"give {' or '.join(_DTYPES)}")
    if fps is not None and not 0.01 <= fps <= 1000:
        raise UsageError(f"--fps {fps:g}", hint="give frames a second, 0.01 to 1000")
    if not protocol:
        raise UsageError("--protocol is empty", hint="give a name, e.g. va")
    return Wants(modalities, fps, align, dtype, _range(label_range), _columns(columns), labels, protocol)


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--label-range {text!r}", hint="give lowest and highest: --label-range -3,3") from error
    if not -1e6 < low < high < 1e6:
        raise UsageError(f"--label-range {text!r} is empty or endless", hint="give lowest and highest: -3,3")
    return low, high


def _columns(text: str | None) -> tuple[int, ...]:
    try:
        given = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"--columns {text!r}", hint="give numbers from 0: --columns 0,1") from error
    if len(given) > 2 or min(given, default=0) < 0:
        raise UsageError(f"--columns {text!r}", hint="give one for valence, or two from 0: --columns 0,1")
    return given


def guess(name: str) -> Modality | None:
    """By the longest usual name inside it (``hubert`` holds ``bert``); short ones only as whole words."""
    plain, words = re.sub(r"[^a-z0-9]", "", name.lower()), re.split(r"[^a-z0-9]+", name.lower())
    found = [t for t in _KNOWN if (t in plain if len(t) > 4 or t == "bert" else t in words)]
    longest = {_KNOWN[t] for t in found if len(t) == max(map(len, found))}
    return longest.pop() if len(longest) == 1 else None


def modalities(streams: dict[str, Modality | None], given: dict[str, str]) -> dict[str, Modality]:
    """Modality by stream, without those to leave out; streams: what the layout says of each.

    Raises UsageError listing all that must be told.
    """
    strange = [n for n in given if n not in streams]
    if strange:
        raise UsageError(f"there is no stream {strange[0]!r}", hint=f"the streams are: {', '.join(streams) or 'none'}")
    wrong = [m for m in given.values() if m not in (*MODALITIES, NONE)]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is no modality", hint=f"give {', '.join(MODALITIES)} or {NONE}")
    told = {n: given.get(n) or said or guess(n) for n, said in streams.items()}
    unknown = [n for n, m in told.items() if m is None]
    if unknown:
        raise UsageError(
            f"are these streams {', '.join(MODALITIES)}? {', '.join(unknown)}",
            hint=f"say it for each: --stream '{unknown[0]}=visual', or =none to leave it out",
        )
    return {n: m for n, m in told.items() if m in MODALITIES}  # type: ignore[misc]


def stream_name(name: str) -> str:
    """The source's name as a stream's: letters, digits and ``_.+-``, so that it is one plain folder."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", name).strip("._-")[:100] or "stream"
