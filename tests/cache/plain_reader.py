"""A reader of caches, written from cache/FORMAT.md alone: numpy and the standard library, none of our code, no zarr."""

import json
from pathlib import Path

import numpy as np


def record(folder: Path) -> dict:
    return json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"]["affuse"]


def array(folder: Path) -> np.ndarray:
    about = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    shape, chunk = about["shape"], about["chunk_grid"]["configuration"]["chunk_shape"]
    out = np.empty(shape, np.dtype(about["data_type"]).newbyteorder("<"))
    for number in range(-(-shape[0] // chunk[0])):
        rows = out[number * chunk[0] : (number + 1) * chunk[0]]
        file = folder.joinpath("c", str(number), *["0"] * (len(shape) - 1))
        rows[...] = np.frombuffer(file.read_bytes(), out.dtype, rows.size).reshape(rows.shape)
    if about["attributes"].get("dtype") == "bfloat16":
        return (out.astype(np.uint32) << 16).view(np.float32)
    return out


def recordings(group: Path) -> dict[str, dict]:
    """By id: the commit record of every recording of a group, and over it its arrays."""
    found = [(folder.parent, record(folder.parent)) for folder in group.glob("*/zarr.json")]
    return {about["recording"]: about | {name: array(f / name) for name in about["arrays"]} for f, about in found}
