"""A cache at an fsspec URL (object storage): a local mirror fetches what is read and uploads what is committed.

Readers and writers work on the mirror as on any cache; nothing else in the program knows of URLs. Metadata, masks,
times and labels are brought up to date when the cache is opened; feature values are fetched when a stream is read, and
kept as long as there is room (``cache.room``). There is no rename on object storage: a group's arrays go up first and
its commit record last, so it is there whole or not at all. Statistics are derived and stay local.

What changes here is noted in the mark under one lock with the change itself, after the URL has it. So a refresh, which
lists first and changes files later, can leave alone what was committed meanwhile; and whoever is killed anywhere leaves
a file that the mark does not know, or knows under an older tag: the next refresh fetches it.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cache.errors import CacheError
from cache.far import Far
from cache.mark import Mark, owner, scratch
from cache.refresh import (
    LOCAL,
    ON_DEMAND,
    by_record,
    change,
    half_listed,
    holds,
    is_record,
    put_file,
    same_bytes,
    sizes_here,
    stale,
    tag_size,
    tells,
)
from cache.room import make_room, mirror_bytes, used

log = logging.getLogger("affuse")
_opened: set[Path] = set()  # mirrors of this process: one that lost its mark must not pass for a cache of its own


def is_url(where: Path | str) -> bool:
    """Whether that is the address of a cache elsewhere, such as s3://bucket/cache, and no folder."""
    return "://" in str(where)


def mirror(url: str) -> Path:
    """The local mirror of a cache, brought up to date.

    It lies below ``$AFFUSE_MIRRORS``, by default ``~/.cache/affuse``. Raises CacheError where it cannot be reached, or
    the mirror not be kept.
    """
    mirror_bytes()  # a setting that is wrong is told before anything begins
    remote = Remote(url.rstrip("/"), _place(url))
    with keeping(remote):
        remote.root.mkdir(parents=True, exist_ok=True)
    remote.refresh()
    _opened.add(remote.root)
    return remote.root


@contextlib.contextmanager
def fresh_mirror(url: str) -> Iterator[Path]:
    """Another mirror, for a while, in which nothing is believed that was fetched earlier; all else is left alone."""
    place = _place(url)
    remote = Remote(url.rstrip("/"), place)
    with contextlib.ExitStack() as stack:
        with keeping(remote):
            place.parent.mkdir(parents=True, exist_ok=True)
            fresh = stack.enter_context(scratch(place.parent, f"{place.name}.fresh-"))
        Remote(remote.url, fresh).refresh()
        yield fresh


def _place(url: str) -> Path:
    url = url.rstrip("/")
    top = Path(os.environ.get("AFFUSE_MIRRORS") or Path.home() / ".cache" / "affuse")
    name = re.sub(r"[^\w.-]+", "-", url.partition("://")[2]).strip("-.")
    return top / f"{name[-80:]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def local_root(where: Path | str) -> Path:
    """The folder that stands for a cache here: its mirror where ``where`` is a URL."""
    return mirror(str(where)) if is_url(where) else Path(where)


def remote_of(root: Path) -> "Remote | None":
    """Where a mirror comes from; None for any other folder. Raises CacheError where its mark is damaged."""
    about = owner(root)
    return Remote(about["url"], root) if about else None


def remote_behind(path: Path) -> "Remote | None":
    """Where the mirror that a path lies in comes from; None for a path in no mirror."""
    return next((found for root in path.parents if (found := remote_of(root))), None)


def remote_to_write(root: Path, path: Path) -> "Remote | None":
    """Where a change of that path has to go as well; None where nowhere.

    Raises CacheError where that is not known any more, or the folder is but a copy of a mirror.
    """
    if LOCAL.match(path.relative_to(root).as_posix()):
        return None
    about = owner(root)
    if about is None and root in _opened:
        raise CacheError(f"the mirror at {root} was removed while it was in use", hint="run the same command again")
    if about and about.get("root") != os.path.realpath(root):
        raise CacheError(
            f"{root} is a copy of a mirror of {about['url']}: it is not written, and neither is what it came from",
            hint=f"give --cache {about['url']}, or make the copy a cache of its own: fill it with cache convert",
        )
    return Remote(about["url"], root) if about else None


@dataclass(frozen=True)
class Remote:
    """One cache elsewhere (url) and its mirror here (root)."""

    url: str
    root: Path

    @property
    def far(self) -> Far:
        """The files there."""
        return Far(self.url)

    @property
    def mark(self) -> Mark:
        """What is known here of them."""
        return Mark(self.root)

    def refresh(self) -> None:
        """Fetch what is new or changed at the URL, but for feature values; forget what is gone."""
        with keeping(self), self.mark.refreshing():
            here = sizes_here(self.root)  # before the listing: what is committed from now on is not in question
            with self.mark.held():
                upto, known = self.mark.size(), self.mark.tags
            there = {name: tag for name, tag in self.far.tags().items() if not LOCAL.match(name)}
            wanted = [n for n, tag in there.items() if not ON_DEMAND.match(n) and not holds(n, tag, known, here)]
            with _fetched(self, {name: there[name] for name in wanted}) as drafts:
                there |= by_record(there, drafts)
                with self.mark.held():
                    ours = self.mark.since(upto)
                    gone = {n for n in here if n not in there} | half_listed(self.root, there, drafts)
                    gone |= {n for n, tag in there.items() if ON_DEMAND.match(n) and stale(n, tag, known, here)}
                    change(self.root, gone - set(ours), {n: d for n, d in drafts.items() if n not in {*ours, *gone}})
                    self.mark.write(self.url, there | ours)

    def look(self, groups: Iterable[Path]) -> None:
        """Fetch groups that another machine has committed since the last refresh, but for feature values."""
        for group in groups:
            name = self._name(group)
            there = {} if (group / "zarr.json").is_file() else self.far.tags(name)
            if f"{name}/zarr.json" not in there:
                continue
            with _fetched(self, {n: tag for n, tag in there.items() if not ON_DEMAND.match(n)}) as drafts:
                there |= by_record(there, drafts)
                if not half_listed(self.root, there, drafts):
                    with self.mark.held():
                        change(self.root, (), drafts)
                        self.mark.note(there)

    def fetch_values(self, folder: str = "features/") -> None:
        """Fetch the feature values below a folder that are not here yet."""
        used(self.root, folder, self.mark.tags)
        wanted = [n for n in self.mark.tags if n.startswith(folder) and not (self.root / n).is_file()]
        if wanted:
            log.info("%d files of %s are fetched from %s", len(wanted), folder.strip("/"), self.url)
        self._download(wanted)

    def fetch(self, path: Path) -> bool:
        """Fetch one file of the mirror; False where it is not at the URL."""
        used(self.root, self._name(path), {})
        self._download([self._name(path)])
        return path.is_file()

    def fetch_anew(self, part: Path) -> None:
        """Fetch a file, or all files of a group, whatever is here of them: its damage may be that of the URL alone."""
        name = self._name(part)
        self._download([n for n in self.mark.tags if n == name or n.startswith(f"{name}/")], anew=True)

    def size(self, path: Path) -> int:
        """Bytes of a file at the URL. Raises FileNotFoundError where it was not there when last looked."""
        tag = self.mark.tags.get(self._name(path))
        if tag is None:
            raise FileNotFoundError(f"{path} is not at {self.url} either")
        return tag_size(tag)

    def sizes(self, folder: Path) -> dict[Path, int]:
        """Bytes of the files at the URL that stand below a folder, as far as known here."""
        name = self._name(folder)
        below = "" if name == "." else f"{name}/"
        return {self.root / n: tag_size(tag) for n, tag in self.mark.tags.items() if n == name or n.startswith(below)}

    @contextlib.contextmanager
    def uploading(self, folder: Path, target: Path, *, replace: bool) -> Iterator[None]:
        """Upload a finished folder to where ``target`` is; in the block it is put there in the mirror."""
        tags = self._send(folder, self._name(target), replace)
        with self.mark.held():
            yield
            self.mark.note(tags)
            make_room(self.root, self.mark.tags)

    @contextlib.contextmanager
    def uploading_file(self, path: Path, data: bytes) -> Iterator[None]:
        """Upload one small file; in the block it is put into the mirror."""
        name = self._name(path)
        self.far.put_bytes(name, data)
        tag = self.far.tag(name)
        with self.mark.held():
            yield
            self.mark.note({name: tag if tag_size(tag) == len(data) else ""})

    @contextlib.contextmanager
    def removing(self, path: Path) -> Iterator[None]:
        """Remove a file or a folder at the URL, the commit record first; in the block it is removed from the mirror."""
        name = self._name(path)
        found = sorted(self.far.tags(name), key=lambda n: n != f"{name}/zarr.json")
        self.far.remove(found)
        with self.mark.held():
            yield
            self.mark.note(dict.fromkeys(found, ""))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _send(self, folder: Path, inside: str, replace: bool) -> dict[str, str]:
        """Upload what of a folder the URL has not got, its own ``zarr.json`` last; nothing where the first one stays.

        Returns the tags of what is there now; empty ones of what was removed, or is not what the folder has.
        """
        record, there, known = f"{inside}/zarr.json", self.far.tags(inside), self.mark.tags
        files = {f"{inside}/{p.relative_to(folder).as_posix()}": p for p in folder.rglob("*") if p.is_file()}
        if not replace and all(n in there for n in files if is_record(n)):
            return dict.fromkeys({*files, *there}, "")  # ours is not what the URL has
        same = {n for n, p in files.items() if same_bytes(p, self.root / n) and tells(n, there.get(n, ""), known)}
        gone = [n for n in there if n not in files]
        sent = {n: p for n, p in sorted(files.items()) if n not in same and n != record}
        if sent or gone:
            self.far.remove([record, *gone] if record in there else gone)
            same.discard(record)
        self.far.put(sent)
        self.far.put({record: files[record]} if record not in same else {})
        now = self.far.tags(inside)
        tags = {n: now[n] if tag_size(now.get(n, "")) == p.stat().st_size else "" for n, p in files.items()}
        return dict.fromkeys(gone, "") | tags

    def _download(self, names: Collection[str], *, anew: bool = False) -> None:
        """Fetch files to their places, where they are not by then, and the URL has not got others meanwhile."""
        before = self.mark.tags
        if not names:
            return
        with self.mark.held():
            make_room(self.root, self.mark.tags, names)
        with _fetched(self, {name: before.get(name, "") for name in names}) as drafts, self.mark.held():
            now = self.mark.tags
            for name, draft in drafts.items():
                if now.get(name) == before.get(name) and (anew or not (self.root / name).exists()):
                    put_file(draft, self.root / name)


@contextlib.contextmanager
def _fetched(remote: Remote, tags: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """Files of the URL in a folder of their own, by name; what is gone by now is left out.

    tags: what they were when last looked. Raises CacheError where one comes cut short.
    """
    with keeping(remote), scratch(remote.root, ".fetched-") as folder:
        drafts = {name: folder / str(i) for i, name in enumerate(tags)}
        remote.far.get(drafts)
        for name in [n for n, draft in drafts.items() if draft.is_file() and not _fits(draft, tags[n])]:
            drafts[name].unlink()
            remote.far.get({name: drafts[name]})
            if drafts[name].is_file() and not _fits(drafts[name], remote.far.tag(name)):
                raise CacheError(
                    f"{remote.url}/{name} comes cut short: {drafts[name].stat().st_size} bytes, again and again",
                    hint="run the same command again; if it goes on, see what stands between here and there",
                )
        yield {name: draft for name, draft in drafts.items() if draft.is_file()}


def _fits(draft: Path, tag: str) -> bool:
    return tag_size(tag) in (-1, draft.stat().st_size)


@contextlib.contextmanager
def keeping(remote: Remote) -> Iterator[None]:
    """Says in one line that a mirror cannot be kept on this disk, where that is what an OSError means."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"cannot keep a mirror of {remote.url} at {remote.root}: {error.strerror or error}",
            hint="make room or make it writable, or name another folder: AFFUSE_MIRRORS=DIR",
        ) from error


def age_s(remote: Remote, folder: Path) -> float:
    """Seconds since anything below a folder of a mirror was last written at its URL; 0 where the store cannot tell."""
    return remote.far.age_s(folder.relative_to(remote.root).as_posix())
