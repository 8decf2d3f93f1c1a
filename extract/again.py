"""Streams of a finished run, made again for new media: the same encoders, options and weights, or no stream at all.

A stream's record in a cache says all that decides its numbers (``settings``) and how its encoder was asked for
(``origin``). What is made here has to come out with the settings of the record, so with its key.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import DataError, UsageError, WeightsNotFound
from cache.fingerprint import stream_key
from cache.recipe import build, merge
from cache.records import FACE_BOX, Annotation, Partitions, Recording
from extract.asr import Recogniser
from extract.datasets import Dataset
from extract.encoders import ENCODERS
from extract.faces import FaceCrops, Mode, face_crops
from extract.loose import loose_recordings
from extract.recipe import ExtractRecipe
from extract.run import ExtractResult, run_prepared
from extract.streams import Wanted, settings_of, want_boxes

NAME = "media"  # of the corpus that caches of new media hold


@dataclass(frozen=True)
class Record:
    """What a run keeps of a stream. sources: what it was made from, e.g. ``frames`` or ``crops``; of sight alone."""

    name: str
    modality: str
    dim: int
    settings: dict[str, Any]
    origin: dict[str, Any]
    sources: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The stream's key."""
        return stream_key(self.name, self.settings)


@dataclass(frozen=True)
class Again:
    """How streams are to be made again.

    options: of an encoder, by the stream's name, over those that it was made with (``weights`` that have moved,
    ``batch_size``). faces: crop the faces of raw video for a run that was trained on crops of its corpus.
    """

    cache: Path | str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    faces: Mode = "none"
    face_weights: str = ""
    recogniser: str = ""
    device: str = "auto"
    fps: float | None = None


class Loose(Dataset):
    """Recordings of no corpus: without labels, in no partition."""

    def __init__(self, recordings: list[Recording]) -> None:
        super().__init__(Path())
        self._recordings = recordings

    def recordings(self) -> list[Recording]:
        """As they were given."""
        return self._recordings

    def annotation(self, recording: Recording) -> Annotation | None:
        """None."""
        return None

    def partitions(self) -> Partitions:
        """None are known."""
        return Partitions()


@dataclass(frozen=True)
class Fresh:
    """New media with a run's streams, all by name. recordings: their ids in the cache; films: those with a picture.

    keys: of the streams, by theirs; the run's own, but of visual ones where ``Again.faces`` asked for crops. failures:
    why a recording lacks a stream.
    """

    cache: str
    recordings: dict[str, str]
    films: dict[str, Path]
    keys: dict[str, str]
    made: int
    kept: int
    notes: list[str]
    failures: dict[str, str]


def run_again(
    media: list[Path], declared: Mapping[str, Any], how: Again, transcript: Path | None = None, *, quiet: bool = False
) -> Fresh:
    """Make a run's streams of new media in a cache of their own, as far as they are not there.

    declared: the cache's records of the streams, by key, as the run has kept them. Raises DataError naming every
    setting that comes out otherwise, WeightsNotFound where weights are not where they were, UsageError for imported
    streams: no media is decoded then. What is wrong with a single file is in ``failures``.
    """
    records = [_record(key, about) for key, about in declared.items()]
    unknown = sorted(set(how.options) - {r.name for r in records})
    if unknown:
        told = f"options for {', '.join(unknown)} are given; the run's streams are"
        raise UsageError(f"{told} {', '.join(r.name for r in records)}")
    by_name = loose_recordings(media, transcript)
    recordings = [*by_name.values()]
    wanted = [want_again(record, recordings, how) for record in records]
    recipe = ExtractRecipe(NAME, Path(), how.cache, visual=(), audio=(), text=(), device=how.device, fps=how.fps)
    results = [run_prepared(recipe, (Loose(recordings), recordings, group), quiet=quiet) for group in _alike(wanted)]
    names = {r.id: name for name, r in by_name.items()}
    failed = {names[f.recording]: str(replace(f, recording=names[f.recording])) for r in results for f in r.failures}
    return Fresh(
        cache=results[0].cache,
        recordings={name: r.id for name, r in by_name.items() if name not in failed},
        films={name: r.video for name, r in by_name.items() if r.video},
        keys={w.name: stream_key(w.name, w.expected) for w in wanted},
        made=sum(r.made for r in results),
        kept=sum(r.kept for r in results),
        notes=[*_notes(results, names), *_not_crops(records, by_name, how)],
        failures=failed,
    )


def _record(key: str, about: Mapping[str, Any]) -> Record:
    """Raises DataError where a record is not what its key says."""
    record = build(Record, about, where=key)
    if record.key != key:
        raise DataError(f"the run's record of stream {key} has other settings: those of {record.key}")
    return record


def _notes(results: list[ExtractResult], names: Mapping[str, str]) -> list[str]:
    notes = [*dict.fromkeys(n for r in results for n in r.notes)]
    for id, name in names.items():
        notes = [n.replace(id, name) for n in notes]
    return notes


def _not_crops(records: list[Record], recordings: Mapping[str, Recording], how: Again) -> list[str]:
    """A warning where a run knows faces alone and is shown whole frames: no key tells them apart."""
    knows = [r.key for r in records if r.sources == ("crops",)]
    whole = [name for name, r in recordings.items() if r.video and not r.crops]
    if not knows or not whole:
        return []
    if how.faces != "none":
        return [f"faces were cropped here; {', '.join(knows)} was trained on its corpus's own crops: they may differ"]
    told = f"{', '.join(knows)} was trained on face crops, and here whole frames were used of {', '.join(whole[:5])}"
    return [f"{told}: crop their faces with --faces tracked, or give folders of crops"]


def want_again(record: Record, recordings: list[Recording], how: Again) -> Wanted:
    """The encoder of a stream as it was asked for, under what has to come out."""
    settings, origin = record.settings, record.origin
    made_by = str(settings.get("encoder", "imported"))
    how_made = {"imported": "imported", "pca": "projected from another stream"}.get(made_by.partition(":")[0], "")
    how_made = how_made or ("converted" if "converted" in settings else "")
    if how_made:
        hint = "bring such features of the new media into a cache and predict from there: --cache DIR --partition NAME"
        raise UsageError(f"stream {record.key} was {how_made}: no encoder here makes it", hint=hint)
    faces = _faces(record, recordings, how) if record.modality == "visual" else None
    decode = settings["decoder"].partition("+")[2] or "cpu"
    expected = {**settings, "faces": faces.settings()} if faces and "faces" not in settings else settings
    if made_by == FACE_BOX and faces:
        return replace(want_boxes(faces, decode), expected=expected)
    encoder, _, model = made_by.partition(":")
    cls = ENCODERS.get(encoder)
    known = {f.name for f in dataclasses.fields(cls.Config)}
    told = {k: v for k, v in settings["options"].items() if k in known}
    asked = merge(told, {"model": model or None}, origin.get("config", {}), how.options.get(record.name, {}))
    config = build(cls.Config, asked, where=record.name)
    try:
        made = cls(config)
        signature = made.signature()
    except WeightsNotFound as error:
        hint = f"say where they are: --set {record.name}.weights=DIR"
        raise WeightsNotFound(f"stream {record.key}: {error.message}", hint=hint) from error
    now = settings_of(made_by, made, settings["align"], settings["dtype"], decode, faces)
    hears = _recogniser(settings["recogniser"], origin, how) if "recogniser" in settings else None
    return Wanted(record.name, cls.modality, made, now, signature, decode, faces, hears, expected)


def _faces(record: Record, recordings: list[Recording], how: Again) -> FaceCrops | None:
    """The cropping of the record, or the one that is asked for over a corpus's own crops."""
    was = record.settings.get("faces")
    if how.faces != "none" and (was or "crops" not in record.sources):
        does = f"crops faces itself ({was['mode']})" if was else "was made from whole frames, not from crops"
        raise UsageError(f"--faces {how.faces} is given, but stream {record.key} {does}", hint="leave --faces out")
    mode = was["mode"] if was else how.faces
    weights = how.face_weights or record.origin.get("face_weights", "hub")
    return face_crops(mode, weights, [r for r in recordings if was or not r.crops])


def _recogniser(was: dict[str, Any], origin: dict[str, Any], how: Again) -> Recogniser:
    model = how.recogniser or origin.get("recogniser") or was["recogniser"].partition(":")[2]
    return Recogniser(model, was["language"])


def _alike(wanted: list[Wanted]) -> list[list[Wanted]]:
    """Groups whose streams can share one decode of a recording: with the same decoder and crops, the same words."""
    groups: list[list[Wanted]] = []
    for one in wanted:
        fits = (g for g in groups if all(_shared(o) == _shared(one) for o in g if o.modality == one.modality))
        group = next(fits, None)
        if group is None:
            groups.append(group := [])
        group.append(one)
    return groups


def _shared(wanted: Wanted) -> list[Any]:
    return [wanted.decode, wanted.faces, wanted.recogniser and wanted.recogniser.settings()]
