"""What a user asks of an import, from the words of the command line."""

from pathlib import Path

from cache.align import POLICIES
from cache.errors import UsageError
from cache.interop._layout import Wants

_DTYPES = ("float16", "float32")


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
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"--columns {text!r}", hint="give numbers from 0: --columns 0,1") from error
