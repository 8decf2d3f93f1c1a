"""Where the time of an extraction goes is measured, not guessed; what is told on the way and at the end is that."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from cache.records import Recording
from extract import job, spent
from extract.outcome import Outcome
from extract.plan import Job
from extract.report import extract_lines
from extract.sizes import Size
from extract.spent import Spent, Watch, bottleneck, bottleneck_line, spent_line, together
from extract.underway import Underway

CFR = np.arange(150) / 25  # three blocks of frames


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(spent.time, "perf_counter", lambda: self.now)

    def passing(self, seconds, function):
        """The function, taking so long."""

        def slow(*args, **kwargs):
            self.now += seconds
            return function(*args, **kwargs)

        return slow


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def extracting(light_encoders, media, manifest, tmp_path, monkeypatch):
    """One recording of three blocks, read in the thread that encodes; gives the result of the run."""
    from extract.recipe import extract_recipe
    from extract.run import run_extract

    monkeypatch.setattr(job, "prefetched", lambda items, **_: items)
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR)})
    given = {"dataset": "manifest", "root": root, "cache": tmp_path / "cache"}
    recipe = extract_recipe({**given, "visual": ["brightness"], "audio": [], "text": []})
    return lambda: run_extract(recipe, quiet=True)


def test_each_second_counts_once_and_where_it_was_spent(clock, extracting, light_encoders, monkeypatch):
    cls, film = light_encoders["brightness"], job.VideoFile
    monkeypatch.setattr(cls, "push", clock.passing(3, cls.push))
    monkeypatch.setattr(cls, "begin", clock.passing(50, cls.begin))
    monkeypatch.setattr(job.TrackSpool, "append", clock.passing(1, job.TrackSpool.append))
    blocks = film.blocks
    monkeypatch.setattr(film, "blocks", lambda self: (b for b in map(clock.passing(2, lambda b: b), blocks(self))))
    result = extracting()
    assert result.spent == Spent(load=50, decode=6, encode=9, write=4)  # 3 blocks, and the end's rows
    assert result.bottleneck == "loading weights takes longest"


def test_the_end_names_shares_and_the_bottleneck_and_a_run_that_did_nothing_neither(clock, extracting, light_encoders):
    cls = light_encoders["brightness"]
    push, cls.push = cls.push, clock.passing(3, cls.push)
    try:
        told = extract_lines(extracting())
    finally:
        cls.push = push
    assert "where the time went: decode 0 %, encode 100 %, write 0 %; the encoder is the bottleneck" in told
    again = extracting()
    assert (again.spent, again.bottleneck) == (Spent(), "")
    assert not [line for line in extract_lines(again) if "time went" in line]


@pytest.mark.parametrize(
    ("spent", "line"),
    [
        (Spent(0, 71, 20, 9), "decoding holds encoding up: the encoder waits 71 % of the time"),
        (Spent(0, 12, 81, 7), "the encoder is the bottleneck: it computes 81 % of the time"),
        (Spent(0, 10, 30, 60), "writing is the bottleneck: it takes 60 % of the time"),
        (Spent(), ""),
    ],
)
def test_the_bottleneck_is_named_in_words(spent, line):
    assert bottleneck_line(spent) == line
    assert bottleneck(spent) == line.partition(":")[0]
    assert spent_line(spent).endswith(bottleneck(spent))


def test_what_workers_bring_back_is_summed():
    receipts = [pickle.loads(pickle.dumps(Outcome(spent=Spent(1, 2, 3, n)))) for n in (4, 6)]
    assert together(r.spent for r in receipts) == Spent(2, 4, 6, 10)


def jobs(*names):
    return [Job(Recording(n, video=Path(n)), ("k",)) for n in names]


def test_the_corpus_goes_by_length_and_one_of_unknown_length_counts_as_the_usual():
    run = Underway(jobs("a", "b", "c"), {"a": Size(90_000, 3600), "b": Size(270_000, 10_800)}, Watch())
    assert run.whole == 3 * 7200
    assert run.end("a", Spent()) == ("1.0 of 4.0 h", 3600)
    assert run.end("c", Spent()) == ("1.0 of 4.0 h", 7200)
    assert run.end("b", Spent()) == ("4.0 of 4.0 h", 10_800)
    short = Underway(jobs("a"), {"a": Size(750, 30)}, Watch())
    assert short.end("a", Spent()) == ("0.5 of 0.5 min", 30)
    unknown = Underway(jobs("a", "b"), {}, Watch())
    assert (unknown.whole, unknown.end("a", Spent())) == (2, ("", 1))


def test_the_recording_in_hand_is_named_with_its_share_and_counts_until_it_ends():
    watch = Watch()
    run = Underway(jobs("a", "b"), {"a": Size(100, 40)}, watch)
    assert run.lines(80) == []
    watch.begin("a", going := Spent())
    watch.doing, watch.seconds, going.decode = "frames", 10, 3.0
    held = "  decoding holds encoding up: the encoder waits 100 % of the time"
    assert run.lines(80) == ["  frames 25 %: a", held]
    watch.doing = "sound"
    assert run.lines(80)[0] == "  sound: a"
    run.end("a", going)
    assert run.lines(80) == [held]
    watch.begin("b", Spent(encode=9.0))
    watch.doing, watch.seconds = "frames", 5
    assert run.lines(80) == ["  frames: b", "  the encoder is the bottleneck: it computes 75 % of the time"]


def test_workers_show_the_corpus_and_what_came_back():
    run = Underway(jobs("a", "b"), {}, Watch())
    run.end("a", Spent(write=2.0))
    assert run.lines(80) == ["  writing is the bottleneck: it takes 100 % of the time"]
