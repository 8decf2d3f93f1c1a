"""Is a stream visual, audio or text? Told by the usual names of feature sets; else asked for, never assumed."""

import re

from cache.errors import UsageError
from cache.interop._layout import Source, Wants
from cache.records import MODALITIES, Modality

_USUAL: dict[Modality, str] = {
    "visual": "vision visual video face image rgb flow openface facet vggface facenet fau aus resnet senet manet "
    "emonet msceleb swin vit clip i3d r21d r2plus1d s3d r3d xception deit dino videomae densenet "
    "efficientnet gocaps timm",
    "audio": "audio acoustic sound speech covarep egemaps opensmile is09 is10 is13 eb10 mfcc lld wav2vec hubert wavlm "
    "whisper vggish deepspectrum boaw librosa panns data2vecaudio coavarep",
    "text": "text language bert roberta electra albert xlnet glove word words fasttext deberta gpt llama baichuan lert "
    "sentence transcript",
}
_KNOWN = {token: modality for modality, tokens in _USUAL.items() for token in tokens.split()}
NONE = "none"


def guess(name: str) -> Modality | None:
    """By the longest usual name inside it (``hubert`` holds ``bert``); short ones only as whole words."""
    plain, words = re.sub(r"[^a-z0-9]", "", name.lower()), re.split(r"[^a-z0-9]+", name.lower())
    found = [t for t in _KNOWN if (t in plain if len(t) > 4 or t == "bert" else t in words)]
    longest = {_KNOWN[t] for t in found if len(t) == max(map(len, found))}
    return longest.pop() if len(longest) == 1 else None


def modalities(streams: dict[str, Source], wants: Wants) -> dict[str, Modality]:
    """Modality by stream, without those to leave out. Raises UsageError listing all that must be told."""
    strange = [n for n in wants.modalities if n not in streams]
    if strange:
        raise UsageError(f"there is no stream {strange[0]!r}", hint=f"the streams are: {', '.join(streams) or 'none'}")
    wrong = {m for m in wants.modalities.values() if m not in (*MODALITIES, NONE)}
    if wrong:
        raise UsageError(f"{wrong.pop()!r} is no modality", hint=f"give {', '.join(MODALITIES)} or {NONE}")
    told = {n: wants.modalities.get(n) or source.modality or guess(n) for n, source in streams.items()}
    unknown = [n for n, m in told.items() if m is None]
    if unknown:
        raise UsageError(
            f"are these streams {', '.join(MODALITIES)}? {', '.join(unknown)}",
            hint=f"say it for each: --stream '{unknown[0]}=visual', or =none to leave it out",
        )
    return {n: m for n, m in told.items() if m in MODALITIES}  # type: ignore[misc]


def stream_name(name: str) -> str:
    """The source's name as a stream's: letters, digits and ``_.+-``, so that it is one plain folder."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", name).strip("._-") or "stream"
