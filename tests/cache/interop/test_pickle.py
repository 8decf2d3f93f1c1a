"""Plain pickles are read with every protocol; those that would run something, or claim more than they hold, are not."""

import collections
import os
import pickle
import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cache.errors import DataError
from cache.interop._pickle import read_pickle

PLAIN = {
    "id": ["a$_$1", "b"],
    "vision": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">f8"),
    "flags": np.array([True, False]),
    "words": np.array(["so", "good"]),
    "objects": np.array(["text", None, 3, np.float32(1.5)], dtype=object),
    "scalar": np.float64(0.25),
    "ordered": collections.OrderedDict(x=1),
    "nested": [(1, 2.5), {"k": b"bytes"}, None, True],
}


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and all(map(same, a.ravel().tolist(), b.ravel().tolist()))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_numpy_and_python_write_is_read(tmp_path, protocol):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(PLAIN, protocol))
    assert same(PLAIN, read_pickle(tmp_path / "p.pkl"))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@settings(max_examples=40, deadline=None)
@given(
    array=arrays.arrays(st.sampled_from(["f4", "<f8", ">i4", "u1", "?"]), arrays.array_shapes(min_dims=0, max_dims=4))
)
def test_any_array_comes_back(tmp_path_factory, protocol, array):
    path = tmp_path_factory.mktemp("p") / "a.pkl"
    path.write_bytes(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(read_pickle(path), array)


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def calls(function, *args):
    return pickle.dumps({"train": Calls(function, *args)})


def named(module, name, args=b")", build=b""):
    """A pickle that calls a name that need not exist here."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + args + b"R" + build + b"."


def object_array_of(payload):
    made = np.empty(1, object)
    made[0] = payload
    return made


RECONSTRUCTED = b"(cnumpy\nndarray\n(K\x00tC\x01bt"
HOSTILE = {
    "os.system": calls(os.system, "touch ran"),
    "eval": calls(eval, "__import__('os').system('touch ran')"),
    "exec": calls(exec, "open('ran', 'w')"),
    "open": calls(open, "ran", "w"),
    "getattr": named("builtins", "getattr", b"X\x02\x00\x00\x00osX\x01\x00\x00\x00a\x86"),
    "in an object array": pickle.dumps(object_array_of(Calls(os.system, "touch ran"))),
    "as a dict's key": pickle.dumps({Calls(os.system, "touch ran"): 1}),
    "numpy.load": named("numpy", "load", b"X\x03\x00\x00\x00ran\x85"),
    "numpy's fromfile": named("numpy", "fromfile", b"X\x03\x00\x00\x00ran\x85"),
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93\x8c\x09touch ran\x85R.",
    "a subclass": named("numpy", "memmap", b"X\x03\x00\x00\x00ran\x85"),
    "_reconstruct without bytes": named("numpy.core.multiarray", "_reconstruct", RECONSTRUCTED),
    "object pointers from bytes": named(
        "numpy.core.multiarray",
        "_reconstruct",
        RECONSTRUCTED,
        b"(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R\x89C\x08\x41\x41\x41\x41\x41\x41\x41\x41tb",
    ),
    "an array longer than its bytes": named(
        "numpy.core.multiarray",
        "_reconstruct",
        RECONSTRUCTED,
        b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R\x89C\x08\x00\x00\x00\x00\x00\x00\x00\x00tb",
    ),
    "records": pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "O")])),
    "dates": pickle.dumps(np.zeros(2, "M8[s]")),
    "a class": pickle.dumps(pytest.raises),
    "a set": pickle.dumps({1, 2}),
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pwhatever\n.",
    "INST": b"(S'touch ran'\nios\nsystem\n.",
    "a bytes object of 4 GB": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 32) + b"x.",
    "a bytearray of 2 GB": b"\x80\x05\x96" + struct.pack("<Q", 1 << 31) + b"x.",
    "a string of 2 GB": b"\x80\x02X" + struct.pack("<I", 1 << 31) + b"x.",
    "a memo of 2 GB": b"\x80\x02Nr" + struct.pack("<I", 1 << 31) + b".",
    "a frame beyond the end": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "lists without end": b"\x80\x02]" + b"q\x00h\x00a.",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "nothing": b"",
    "half of one": pickle.dumps(PLAIN)[:200],
    "no pickle": b"PK\x03\x04 something else",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_and_nothing_of_it_is_run(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pkl").write_bytes(HOSTILE[what])
    before = set(sys.modules)
    with pytest.raises(DataError, match=r"refused as a pickle of plain values"):
        read_pickle(tmp_path / "bad.pkl")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pkl"]
    assert set(sys.modules) == before


CAUSES = {
    "INST": "it uses INST",
    "an extension code": "it uses EXT1",
    "a persistent id": "it uses PERSID",
    "os.system": "it names posix.system",
    "a bytes object of 4 GB": "more than the file has",
    "a bytearray of 2 GB": "more than the file has",
    "a string of 2 GB": "more than the file has",
    "a memo of 2 GB": "it remembers a value number",
    "object pointers from bytes": "objects that are no list",
}


@pytest.mark.parametrize("what", CAUSES)
def test_it_is_refused_for_what_it_is_before_memory_is_taken(tmp_path, what):
    (tmp_path / "bad.pkl").write_bytes(HOSTILE[what])
    with pytest.raises(DataError, match=CAUSES[what]):
        read_pickle(tmp_path / "bad.pkl")


def test_the_hostile_ones_would_run_elsewhere(tmp_path, monkeypatch):
    """So that the test above can fail."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["os.system"])
    assert (tmp_path / "ran").exists()
