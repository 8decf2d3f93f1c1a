"""A cache through one HDF5 file is the same cache, byte for byte; others read it with h5py alone; lies are refused."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from cache.errors import DataError, MissingData, UsageError
from cache.fingerprint import stream_key
from cache.interop import FORMATS
from cache.interop._layout import Wants, export_to
from cache.records import Aligned, Timeline
from cache.store import FeatureCache

HDF5 = FORMATS.get("hdf5")


@pytest.fixture
def file(full, tmp_path):
    export_to(HDF5, full, tmp_path / "out.h5")
    return tmp_path / "out.h5"


def test_a_round_trip_is_the_same_cache_byte_for_byte(run, full, file, tmp_path, tree):
    code, out, _ = run("cache", "import", "hdf5", file, "--cache", tmp_path / "back", "-q")
    assert code == 0
    assert "dropped: nothing" in out
    assert tree(tmp_path / "back") == tree(full.root)


def test_bfloat16_goes_through_float32_and_comes_back_byte_for_byte(bring, tmp_path, tree):
    full, rng = FeatureCache.create(tmp_path / "full", "toy"), np.random.default_rng(0)
    key = full.declare("face", "visual", 5, {"dtype": "bfloat16"}, {}).key
    full.timelines.write("a", Timeline(np.arange(90) / 25, 3.6), {"clock": "container"})
    rows = Aligned(rng.standard_normal((90, 5), np.float32), rng.random(90) > 0.3)
    full.write(key, "a", rows, {"rows": 90}, dtype="bfloat16")
    export_to(HDF5, full, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as f:
        np.testing.assert_array_equal(f[f"features/{key}/a/values"][...], full.read(key, "a").values)
    _, back = bring("hdf5", tmp_path / "out.h5", FeatureCache.create(tmp_path / "back", "toy"))
    assert tree(back.root) == tree(full.root)


def test_a_second_import_changes_nothing(bring, file, tree):
    _, cache = bring("hdf5", file)
    before = tree(cache.root)
    done, _ = bring("hdf5", file, cache)
    assert not done.made
    assert sum(done.kept.values()) == 11
    assert tree(cache.root) == before


def test_h5py_alone_reads_it(full, file, tmp_path):
    code = """
import h5py, json, sys
assert not any(m.split('.')[0] in ('cache', 'zarr') for m in sys.modules)
with h5py.File(sys.argv[1]) as f:
    for key, stream in f['features'].items():
        about = json.loads(stream['record'][()])
        for name, group in stream.items():
            if name != 'record':
                assert group['values'].chunks[0] <= 256 and group.attrs['recording']
                print(json.dumps([key, stream.attrs['modality'], about['settings'], group.attrs['recording'],
                    group['values'][()].astype(float).sum(), int(group['present'][()].sum())]))
    print(json.dumps(json.loads(f['labels/va/record'][()])['partitions']))
"""
    lines = subprocess.run(
        [sys.executable, "-I", "-c", code, str(file)], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    *streams, split = map(json.loads, lines)
    assert split == full.labels.partitions("va").of
    assert len(streams) == 11
    for key, modality, settings, recording, total, seen in streams:
        data = full.read(key, recording)
        assert (modality, settings) == (full.stream(key).modality, full.about(key)["settings"])
        assert np.isclose(total, data.values.astype(float).sum())
        assert seen == data.present.sum()


def first_group(f):
    stream = next(iter(f["features"].values()))
    return next(g for g in stream.values() if isinstance(g, h5py.Group))


def spoil_rows(f, tmp_path):
    group = first_group(f)
    rows = group["values"][:-1]
    del group["values"]
    group["values"] = rows


def spoil_numbers(f, tmp_path):
    first_group(f)["values"][:] = np.nan


def spoil_size(f, tmp_path):
    group = first_group(f)
    del group["values"]
    group.create_dataset("values", (2**40, 5), "f2", chunks=(256, 5))


def spoil_link(f, tmp_path):
    group = first_group(f)
    group.file.copy(group["values"], f, "elsewhere")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["values"] = group["values"][()]
    del group["values"]
    group["values"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "values")


def spoil_external(f, tmp_path):
    group = first_group(f)
    shape = group["values"].shape
    del group["values"]
    (tmp_path / "secret").write_bytes(bytes(shape[0] * shape[1] * 2))
    group.create_dataset("values", shape, "f2", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])


def spoil_soft_link(f, tmp_path):
    group = first_group(f)
    del group["values"]
    group["values"] = h5py.SoftLink("/timelines")


def spoil_virtual(f, tmp_path):
    group = first_group(f)
    shape = group["values"].shape
    del group["values"]
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["values"] = np.ones(shape, "f2")
    layout = h5py.VirtualLayout(shape, "f2")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "values", shape)
    group.create_virtual_dataset("values", layout)


def spoil_chunk(f, tmp_path):
    """A few rows, in a chunk of 2 GB that inflates from 2 MB."""
    group = first_group(f)
    shape = group["values"].shape
    del group["values"]
    group.create_dataset("values", shape, "f2", chunks=(1 << 28, 4), maxshape=(None, shape[1]), compression="gzip")


def spoil_filter(f, tmp_path):
    """One that HDF5 would look for as a plugin, which is code."""
    group = first_group(f)
    shape = group["values"].shape
    del group["values"]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk(shape)
    made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, b"values", h5py.h5t.IEEE_F16LE, space, made)


def spoil_text(f, tmp_path):
    group = first_group(f)
    del group["values"]
    group["values"] = "words"


def spoil_kind(f, tmp_path):
    group = first_group(f)
    del group["values"]
    group.create_group("values")


def spoil_record(f, tmp_path):
    group = first_group(f)
    del group["record"]
    group["record"] = "[" * 100_000


CAUSES = {
    spoil_size: "claims 10995116277760 bytes",
    spoil_link: "is missing, or a link",
    spoil_soft_link: "is missing, or a link",
    spoil_external: "lies in another file",
    spoil_virtual: "lies in another file",
    spoil_chunk: "claims 2147483648 bytes",
    spoil_filter: "compressed by filter 32015",
}
SPOILS = [spoil_rows, spoil_numbers, spoil_size, spoil_link, spoil_external, spoil_soft_link, spoil_virtual]
SPOILS += [spoil_chunk, spoil_filter, spoil_text, spoil_kind, spoil_record]


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_bad_recording_is_listed_and_the_others_come_in(run, file, tmp_path, spoil):
    with h5py.File(file, "r+") as f:
        recording = first_group(f).attrs["recording"]
        spoil(f, tmp_path)
    code, out, _ = run("cache", "import", "hdf5", file, "--cache", tmp_path / "back", "-q")
    assert code == 3
    assert f"failed: {recording}: " in out
    assert CAUSES.get(spoil, "") in out
    cache = FeatureCache(tmp_path / "back")
    assert sum(cache.has(k, recording) for k in cache.stream_keys()) <= 1
    assert sum(len(cache.recordings(k)) for k in cache.stream_keys()) >= 9


def test_a_key_that_is_not_that_of_its_settings_is_refused(bring, file):
    with h5py.File(file, "r+") as f:
        record = f[f"features/{next(iter(f['features']))}/record"]
        about = json.loads(record[()])
        record[()] = json.dumps(about | {"name": "../../out"})
    with pytest.raises(DataError, match="not the key"):
        bring("hdf5", file)


@pytest.mark.parametrize("name", ["..\\out", ".hidden", "a\nb", "\x1b[2J", "x" * 999])
def test_a_name_that_is_no_folder_is_refused_though_its_key_fits(bring, file, name):
    with h5py.File(file, "r+") as f:
        key = next(iter(f["features"]))
        about = json.loads(f[f"features/{key}/record"][()]) | {"name": name}
        del f[f"features/{key}/record"]
        f[f"features/{key}/record"] = json.dumps(about)
        f.move(f"features/{key}", f"features/{stream_key(name, about['settings'])}")
    with pytest.raises(DataError, match="is not the key of its settings"):
        bring("hdf5", file)


def test_what_is_no_such_file_is_said(tmp_path, full):
    with pytest.raises(MissingData):
        HDF5(tmp_path / "none.h5", Wants())
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DataError, match="no HDF5 file"):
        HDF5(tmp_path / "text.h5", Wants())
    with pytest.raises(UsageError, match="there already"):
        export_to(HDF5, full, tmp_path / "text.h5")


def test_without_h5py_it_says_what_to_install(run, monkeypatch, file, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    code, _, err = run("cache", "import", "hdf5", file, "--cache", tmp_path / "c")
    assert code == 2
    assert "affuse[interop]" in err


def no_partitions(f):
    record = json.loads(f["labels/va/record"][()])
    del f["labels/va/record"]
    f["labels/va/record"] = json.dumps({k: v for k, v in record.items() if k != "partitions"})


def no_id(f):
    group = next(iter(f["timelines"].values()))
    del group["record"]
    group["record"] = "{}"


def huge_record(f):
    del f["record"]
    f.create_dataset("record", (), "S2000000000")


def linked_top(f):
    f.move("features", "elsewhere")
    f["features"] = h5py.SoftLink("/elsewhere")


def settings_not_json(f):
    stream = next(iter(f["features"].values()))
    about = json.loads(stream["record"][()])
    del stream["record"]
    stream["record"] = json.dumps(about | {"settings": {"a": float("nan")}})


@pytest.mark.parametrize("spoil", [no_partitions, no_id, huge_record, linked_top, settings_not_json])
def test_a_file_that_is_no_such_export_is_one_line(run, file, tmp_path, spoil):
    with h5py.File(file, "r+") as f:
        spoil(f)
    code, _, err = run("cache", "import", "hdf5", file, "--cache", tmp_path / "back")
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "back").exists()


HOSTILE = [
    "../../../out",
    "/etc/out",
    "..",
    ".",
    "a\0b",
    "a\nb",
    "x" * 5000,
    "Case",
    "case",
    "[/b] [red]",
    "zarr.json",
    "c",
    "\x1b[2J",
]


def test_any_id_stays_inside_and_comes_back(run, tmp_path, tree):
    cache = FeatureCache.create(tmp_path / "odd")
    spec = cache.declare("s", "visual", 2, {"encoder": "s"}, {})
    for i, recording in enumerate(HOSTILE):
        cache.timelines.write(recording, Timeline(np.arange(3) / 25, 0.12), {"clock": "container"})
        cache.write(spec.key, recording, Aligned(np.full((3, 2), i, np.float32), np.ones(3, bool)))
    assert run("cache", "export", "hdf5", tmp_path / "o.h5", "--cache", cache.root)[0] == 0
    before = {p.name for p in tmp_path.iterdir()}
    code, out, _ = run("cache", "import", "hdf5", tmp_path / "o.h5", "--cache", tmp_path / "back", "-q")
    assert code == 0, out
    assert {p.name for p in tmp_path.iterdir()} == before | {"back"}
    assert tree(tmp_path / "back") == tree(cache.root)
    for i, recording in enumerate(HOSTILE):
        assert (FeatureCache(tmp_path / "back").read(spec.key, recording).values == i).all()


def test_what_an_import_says_of_a_hostile_id_is_plain_text(run, file, tmp_path):
    with h5py.File(file, "r+") as f:
        group = first_group(f)
        stream = group.parent
        place = f["timelines"][group.name.rsplit("/", 1)[1]]
        record = json.loads(place["record"][()])
        del place["record"], group["values"]
        place["record"] = json.dumps(record | {"recording": "[/b] [link=x] \x1b[2J"})
        assert stream.name
    code, out, _ = run("cache", "import", "hdf5", file, "--cache", tmp_path / "back", "-q")
    assert code == 3
    assert "failed: [/b] [link=x]" in out
    assert "\x1b" not in out
