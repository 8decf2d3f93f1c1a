"""k-fold cross-validation beside the official split, of its train and validation recordings; its test stays locked.

Fold i is scored once, fold i + 1 chooses the epoch, the rest trains, so that no fold is both chosen on and reported.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Literal

import numpy as np

from cache.errors import UsageError
from cache.records import Partitions
from fuse.feeding.locked import TUNING
from fuse.feeding.snapshot import Snapshot

FoldBy = Literal["recording", "subject"]


def folded(split: Partitions, folds: int, fold: int, by: FoldBy) -> Partitions:
    """The partitions of one fold; the official test is in none of them. by: whom a fold may not share with another.

    People in one film share its sound, so recordings of a group are in one fold, whoever they show.

    Raises UsageError where a subject is not known, or where there are fewer units than folds.
    """
    pool = [r for r, p in split.of.items() if p in TUNING]
    unknown = [r for r in pool if not split.subjects.get(r)]
    if by == "subject" and unknown:
        raise UsageError(
            f"the subject of {len(unknown)} of {len(pool)} recordings is not known, such as {unknown[0]!r}",
            hint="fold by recording: --fold-by recording",
        )
    unit = _joined({r: split.subjects[r] if by == "subject" else r for r in sorted(pool)}, split.groups)
    place = _places(list(unit.values()), folds)
    names = {fold: "test", (fold + 1) % folds: "validation"}
    return replace(split, of={r: names.get(place[u], "train") for r, u in unit.items()})


def _joined(unit: dict[str, str], films: dict[str, str]) -> dict[str, str]:
    """Units that have a film in common get one name, the first of theirs."""
    home = {name: name for name in unit.values()}
    members = defaultdict(set)
    for recording, name in unit.items():
        members[films.get(recording, recording)].add(name)
    for names in members.values():
        linked = {home[name] for name in names}
        home |= {name: min(linked) for name, at in home.items() if at in linked}
    return {recording: home[name] for recording, name in unit.items()}


def cut(snapshot: Snapshot, folds: int, fold: int | None, by: FoldBy) -> Snapshot:
    """A cache with the partitions of one fold; with its own, where there is no fold."""
    return snapshot if fold is None else replace(snapshot, split=folded(snapshot.split, folds, fold, by))


def _places(units: list[str], folds: int) -> dict[str, int]:
    """Fold of each unit, the same on every machine: shuffled, then the largest first into the emptiest fold."""
    names, counts = np.unique(units, return_counts=True)
    if len(names) < folds:
        raise UsageError(f"{len(names)} units do not fill {folds} folds", hint="take fewer folds")
    shuffled = np.random.default_rng(0).permutation(len(names))
    filled, place = np.zeros(folds, int), {}
    for i in shuffled[np.argsort(-counts[shuffled], kind="stable")]:
        emptiest = int(np.argmin(filled))
        place[str(names[i])] = emptiest
        filled[emptiest] += counts[i]
    return place
