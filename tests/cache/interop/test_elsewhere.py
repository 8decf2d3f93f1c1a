"""A cache and its exports, opened by a script that imports none of our code: zarr, xarray, h5py, pickle."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from cache.errors import DataError
from cache.interop import FORMATS
from cache.interop._layout import export_to
from cache.interop._pickle import read_pickle

SCRIPT = '''
import csv, io, json, pathlib, pickle, sys
import h5py, numpy as np, xarray, zarr

cache, h5, csd, muse, plain = map(pathlib.Path, sys.argv[1:])
found = {"zarr": {}, "xarray": {}, "h5py": {}, "csd": {}, "muse": {}}

group = zarr.open_group(cache, mode="r")
for key, stream in group["features"].groups():
    about = stream.attrs["affuse"]
    for folder, recording in stream.groups():
        name = recording.attrs["affuse"]["recording"]
        values, present = recording["values"], recording["present"]
        assert values.metadata.dimension_names == ("frame", "feature") and values.shape[1] == about["dim"]
        total = float(values[:].astype("f8").sum()), int(present[:].sum()), str(values.dtype)
        found["zarr"][about["name"] + " " + name] = total
        at = f"features/{key}/{folder}"
        with xarray.open_zarr(cache, group=at, consolidated=False) as data:
            total = float(data["values"].astype("f8").sum()), int(data["present"].sum()), str(data["values"].dtype)
            assert data["values"].dims == ("frame", "feature") and data["values"].notnull().all()
            found["xarray"][about["name"] + " " + name] = total

with h5py.File(h5) as f:
    for stream in f["features"].values():
        for group in (g for g in stream.values() if isinstance(g, h5py.Group)):
            values = group["values"]
            assert values.chunks[0] <= 256
            total = float(values[()].astype("f8").sum()), int(group["present"][()].sum()), str(values.dtype)
            found["h5py"][stream.attrs["name"] + " " + json.loads(group["record"][()])["recording"]] = total

for path in csd.glob("*.csd"):
    with h5py.File(path) as f:
        root = f[list(f)[0]]
        name = json.loads(root["metadata"]["root name"][0])
        for entry in root["data"].values():
            assert entry["intervals"].shape == (len(entry["features"]), 2)
            total = float(entry["features"][()].astype("f8").sum()), len(entry["features"])
            found["csd"][name + " " + entry.attrs["recording"]] = total

with open(muse / "metadata/partition.csv", encoding="utf-8", newline="") as file:
    ids = {row["Id"]: row["recording"] for row in csv.DictReader(file)}
for path in (muse / "feature_segments").glob("*/*.csv"):
    rows = np.genfromtxt(path, delimiter=",", skip_header=1)[:, 2:]
    seen = np.isfinite(rows).all(axis=1)
    found["muse"][path.parent.name + " " + ids[path.stem]] = float(rows[seen].sum()), int(seen.sum())


class Arrays(pickle.Unpickler):
    """Arrays only: what a careful reader elsewhere does."""

    def find_class(self, module, name):
        if (module.replace("numpy.core", "numpy._core"), name) in {
            ("numpy._core.multiarray", "_reconstruct"), ("numpy._core.numeric", "_frombuffer"),
            ("numpy", "ndarray"), ("numpy", "dtype"),
        }:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


found["pickle"] = float(Arrays(io.BytesIO(plain.read_bytes())).load()["train"]["audio"].sum())
ours = {"cache", "extract", "fuse", "cli"} & {m.split(".")[0] for m in sys.modules}
assert not ours, ours
print(json.dumps(found))
'''


def test_a_script_without_our_code_reads_all_of_it(full, tmp_path):
    for form in ("hdf5", "csd", "muse"):
        export_to(FORMATS.get(form), full, tmp_path / form)
    audio = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"train": {"id": ["a", "b"], "audio": audio}}))
    parts = [full.root, *(tmp_path / f for f in ("hdf5", "csd", "muse", "plain.pkl"))]
    out = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", SCRIPT, *map(str, parts)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    wanted = {}
    for key in full.stream_keys():
        for recording in full.recordings(key):
            data, dtype = full.read(key, recording), full.about(key)["settings"]["dtype"]
            total = [float(data.values.astype(np.float64).sum()), int(data.present.sum()), dtype]
            wanted[f"{full.stream(key).name} {recording}"] = total
    assert len(wanted) == 11
    for tool in ("zarr", "xarray", "h5py"):
        assert found[tool].keys() == wanted.keys()
        for name, (total, seen, dtype) in wanted.items():
            assert found[tool][name][1:] == [seen, dtype]
            assert found[tool][name][0] == pytest.approx(total, abs=1e-6)
    for tool in ("csd", "muse"):
        rows = {n: v for n, v in found[tool].items() if not n.startswith("VA Labels")}
        assert rows.keys() == wanted.keys()
        for name, (total, seen, _) in wanted.items():
            assert rows[name][1] == seen
            assert rows[name][0] == pytest.approx(total, abs=1e-4)
    assert found["pickle"] == audio.sum() == read_pickle(tmp_path / "plain.pkl")["train"]["audio"].sum()


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_that_reader_and_ours_refuse_the_same_file(tmp_path):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"train": {"audio": Runs()}}))
    start = SCRIPT.index("class Arrays")
    reader = SCRIPT[start : SCRIPT.index("found[", start)]
    code = f"import io, pickle, sys\n{reader}\nArrays(open(sys.argv[1], 'rb')).load()"
    out = subprocess.run([sys.executable, "-I", "-c", code, "bad.pkl"], cwd=tmp_path, capture_output=True, text=True)
    assert "system" in out.stderr
    with pytest.raises(DataError, match=r"it names (posix|nt)\.system"):
        read_pickle(tmp_path / "bad.pkl")
    assert not (tmp_path / "ran").exists()
