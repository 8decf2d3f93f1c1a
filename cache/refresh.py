"""What is changed in the files of a mirror when it is brought up to date: which are believed, which go, which come.

Names are relative to the cache, ``there`` is the listing of its URL (names with tags), ``known`` what the mark says,
``here`` the bytes of the files in the mirror, ``drafts`` what was fetched, not yet in its place.
"""

import contextlib
import filecmp
import json
import os
import re
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

LOCAL = re.compile(r"\.|stats(/|$)")  # what has no counterpart at the URL
ON_DEMAND = re.compile(r"(features/[^/]+/[^/]+/)values/c/")
_LABELS = re.compile(r"(labels/[^/]+)/[^/]+/")


def change(root: Path, gone: Collection[str], drafts: Mapping[str, Path]) -> None:
    """Remove files, and put those that differ in their places; only while the mark is held.

    Commit records go first and come last, that of a protocol when anything of its labels changes: nothing is seen half.
    """
    gone = {name for name in gone if (root / name).is_file()}
    new = {name: draft for name, draft in drafts.items() if not same_bytes(draft, root / name)}
    tops = {f"{found[1]}/zarr.json" for n in (*gone, *new) if (found := _LABELS.match(n))} - {*gone, *new}
    spare = {n: (root / n).read_bytes() for n in tops if (root / n).is_file()}
    for name in sorted({*gone, *filter(is_record, new), *spare}, key=lambda n: (not is_record(n), n.count("/"))):
        (root / name).unlink(missing_ok=True)
    for name in sorted(new, key=lambda n: (is_record(n), -n.count("/"))):
        put_file(new[name], root / name)
    for name, data in spare.items():
        draft = (root / name).with_suffix(".draft")
        draft.write_bytes(data)
        put_file(draft, root / name)
    for folder in {parent for n in gone for parent in (root / n).parents if root in parent.parents}:
        with contextlib.suppress(OSError):
            os.removedirs(folder)


def put_file(draft: Path, path: Path) -> None:
    """Put a draft in its place, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(draft, path)


def is_record(name: str) -> bool:
    """Whether that is the metadata of a group or array inside the cache."""
    return name.endswith("/zarr.json")


def tag_size(tag: str) -> int:
    """Bytes of a file with that tag; -1 where it does not say."""
    size = tag.partition(":")[0]
    return int(size) if size.isdecimal() else -1


def tells(name: str, tag: str, known: Mapping[str, str]) -> bool:
    """Whether the mark knows a file's content by that tag, which has to tell contents apart."""
    return known.get(name) == tag and not tag.endswith(":")


def holds(name: str, tag: str, known: Mapping[str, str], here: Mapping[str, int]) -> bool:
    """Whether a file is here as it is at the URL. here: bytes of files, since the power may have failed."""
    return tells(name, tag, known) and here.get(name) == tag_size(tag)


def stale(name: str, tag: str, known: Mapping[str, str], here: Mapping[str, int]) -> bool:
    """Whether a file, if it is here, is not as it is at the URL; it may have come since ``here`` was looked at."""
    return not tells(name, tag, known) or here.get(name, tag_size(tag)) != tag_size(tag)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether the second file is there and like the first."""
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def sizes_here(root: Path) -> dict[str, int]:
    """Bytes of the files of a mirror that have a counterpart at the URL, as far as they stay while we look."""
    found = {}
    for folder, folders, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        folders[:] = [f for f in folders if not LOCAL.match((inside / f).as_posix())]
        for name in (inside / f for f in files if not LOCAL.match((inside / f).as_posix())):
            with contextlib.suppress(FileNotFoundError):
                found[name.as_posix()] = (root / name).stat().st_size
    return found


def by_record(there: Mapping[str, str], drafts: Mapping[str, Path]) -> dict[str, str]:
    """Of values at a store that tells nothing but their size: tags by their commit record, which is fetched anew."""
    tags = {}
    for name, tag in there.items():
        if tag.endswith(":") and (found := ON_DEMAND.match(name)):
            record = drafts.get(f"{found[1]}zarr.json")
            tags[name] = f"{tag}{zlib.crc32(record.read_bytes()) if record else 'none'}"
    return tags


def half_listed(root: Path, there: Collection[str], drafts: Mapping[str, Path]) -> set[str]:
    """Commit records whose arrays are not listed yet, since a listing takes time: they are looked at next time."""
    found = set()
    for name in [n for n in there if is_record(n) and n.count("/") > 1]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            arrays = json.loads(drafts.get(name, root / name).read_bytes())["attributes"]["affuse"].get("arrays", {})
            if any(f"{name.removesuffix('zarr.json')}{a}/zarr.json" not in there for a in arrays):
                found.add(name)
    return found
