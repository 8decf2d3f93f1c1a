"""What a user should know of a recording's clock and pictures, in the words of both ``extract`` and ``doctor``."""

from typing import Any

import numpy as np

from cache.records import Timeline
from extract.media import looks_cut

_LONG_S = 10.0  # a picture that stays longer is more likely a broken time than a pause


def remarks(info: dict[str, Any], timeline: Timeline) -> dict[str, str]:
    """Text by check. info: what was recorded with the timeline."""
    longest = float(np.diff(timeline.edges).max())
    claimed = info.get("claimed_s", 0.0)
    told = {
        "damaged-media": _counted(info, "damaged_packets", "damaged packets were skipped"),
        "damaged-frames": _counted(info, "damaged_frames", "pictures are damaged and were filled in by the decoder"),
        "frame-times": _counted(
            info, "repaired_times", f"frame times did not increase and were moved, by up to {info.get('moved_s', 0)} s"
        ),
        "cut-off": f"its header says {claimed:.1f} s, its pictures end at {timeline.end:.1f} s: is the file cut off?"
        if looks_cut(claimed, timeline.end)
        else "",
        "long-frame": f"one picture stays for {longest:.0f} s: is that time right?" if longest > _LONG_S else "",
        "nominal-clock": f"no video: its frames are nominal, {info['fps']:g} a second over its {info['over']}"
        if info.get("clock") == "nominal"
        else "",
    }
    return {check: text for check, text in told.items() if text}


def _counted(info: dict[str, Any], key: str, what: str) -> str:
    return f"{info[key]} {what}" if info.get(key) else ""
