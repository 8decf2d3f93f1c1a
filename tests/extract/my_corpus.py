# my_corpus.py
import csv

from cache.errors import MissingData
from cache.records import Partitions, Recording
from extract.datasets import DATASETS, Dataset, LabelFormat, read_labels

RATED = LabelFormat(label_range=(1, 9), time_unit="ms")  # mapped to [-1, 1]; empty cells are frames without a label


@DATASETS.register("lectures")
class Lectures(Dataset):
    """films/NAME.mp4, ratings/NAME.csv (time;valence;arousal) and films.csv (film,speaker,set) below the root."""

    def __init__(self, root, options=None):
        super().__init__(root, options)
        table = self.root / "films.csv"
        if not table.is_file():
            raise MissingData(f"no films.csv in {self.root}", hint="give --root the folder that has it")
        with open(table, newline="", encoding="utf-8") as file:
            self.films = {row["film"]: row for row in csv.DictReader(file)}

    def recordings(self):  # all of them, sorted, whether or not their files can be read
        return [
            Recording(id=name, video=self.root / "films" / f"{name}.mp4", subject=row["speaker"])
            for name, row in sorted(self.films.items())
        ]

    def annotation(self, recording):  # rows at their own times; alignment is not its business
        path = self.root / "ratings" / f"{recording.id}.csv"
        return read_labels(path, RATED) if path.is_file() else None

    def partitions(self):  # train, validation, test; and who speaks
        films = sorted(self.films.items())
        return Partitions({n: row["set"] for n, row in films}, {n: row["speaker"] for n, row in films})
