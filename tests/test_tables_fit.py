"""Every table that a command prints fits 80 columns, however long its names are, and never cuts a number off."""

from dataclasses import replace

import pytest
from rich.table import Table

from cache.care.against import Agreement, Mismatch, against_lines
from cache.care.convert import Conversion, Converted, convert_lines
from cache.care.damages import Damage
from cache.care.diff import Compared, StreamDifference, diff_lines
from cache.care.info import CacheInfo, StreamInfo, info_lines
from cache.care.prune import Prunable, Pruning, prune_lines
from cache.care.verify import Verdict, verdict_lines
from cache.care.why import Why, why_lines
from cache.terminal import show
from extract.doctor import Diagnosis, diagnosis_table
from extract.finding import Finding
from extract.forecast import Forecast, StreamCost, plan_table
from fuse.elsewhere import Elsewhere
from fuse.feeding.snapshot import Share
from fuse.numbers.bootstrap import Interval, Intervals
from fuse.numbers.evaluate import Evaluation
from fuse.numbers.metrics import Scores
from fuse.numbers.robustness import Area, Robustness
from fuse.tables.grid import Published
from fuse.tables.ranked import Ablation
from fuse.tables.report import ablation_table, area_table, elsewhere_table, run_table
from fuse.tables.summary import RowResult, Summary
from fuse.train import RunResult

RECORDING = "season-02/episode-117/speaker_with_a_long_name-1080x1920_left"
STREAM = "wav2vec2-large-robust-12-ft-emotion-msp-dim-layer12"
KEY = f"{STREAM}-e9741fb4cfbd"
ROOT = "/mnt/storage/projects/affect/features/affwild2-with-long-names"
LABEL = f"cross-attention, {STREAM}=transformer, face=gru, words=lstm"
RUN = f"var/runs/affwild2/cross-attention-{STREAM}+{STREAM}-65e508-seed0"

SURE = Interval(-0.123, -0.045)
SCORES = Scores(valence=-0.123, arousal=-0.123, mean=-0.123)
EVALUATION = Evaluation(SCORES, SCORES, SCORES, 12345, 123_456_789, *[Intervals(SURE, SURE, SURE)] * 3, smooth=1001)
SHARE = Share(1234, 2345, 1000, 111, 123_456_789)
SUMMARY = Summary(-0.123, 0.123, [-0.1, -0.2])
BY_NAME = dict.fromkeys(("valence", "arousal", "mean"), SUMMARY)
ROW = RowResult(
    LABEL,
    "cross-attention",
    [STREAM],
    False,
    123_456_789,
    9999.9,
    *[BY_NAME] * 3,
    SUMMARY,
    [{"test": SHARE}],
    [RUN, RUN],
    {"raw": EVALUATION.raw_interval},
    rank=10,
    note="a note",
)
PAPER = Published(-0.531, -0.468, of="another model")
ABLATION = Ablation("A title of some length, with what the table is about", "test", "", [ROW, ROW], None, [LABEL])
RESULT = RunResult("cross-attention", [STREAM] * 8, 0, 1, 1, 1.0, {"validation": EVALUATION}, {"test": SHARE}, RUN)
INFO = StreamInfo(
    KEY, "visual", STREAM, "f" * 64, "bfloat16", 16384, 123_456, 123_456_789, 12, 12345.67, 10**13, [RECORDING], []
)
COST = StreamCost(STREAM, "float32", True, 123_456, 12345.6, 12345.6, 123_456.0)
FORECAST = Forecast(
    "affwild2",
    "cuda:0",
    123_456,
    1,
    12345.67,
    123_456_789,
    [COST] * 2,
    1234.5,
    12345.6,
    16,
    999.9,
    9999.9,
    9999.9,
    True,
)
AREA = Area(RUN, "visual", "noise", "block", -0.123, -0.123, -0.123)
CONVERTED = Converted(KEY, KEY[::-1], "bfloat16", 123_456, 123_456, 10**13, 10**13, 1e-3, 1e-9)
WHY = Why(KEY, STREAM, "audio", 1024, {"options.model": STREAM}, {}, {KEY: {"options.layer": (1, 2)}})
FOUND = Finding("warning", "media", RECORDING, ROOT)
SETTINGS = {"options.weights.of.the.published.model": (f"hub:audeering/{STREAM}", "f" * 64)}
COMPARED = Compared(RECORDING, 123_456_789, -0.123456, -0.123456, 1.23e-05, 100.0)

TABLES = {
    "ablate": [ablation_table(ABLATION)],
    "ablate, beside a paper": [ablation_table(replace(ABLATION, rows=[replace(ROW, paper=PAPER)] * 12))],
    "train-fusion": [run_table(RESULT)],
    "evaluate": [elsewhere_table(Elsewhere(RUN, "affwild2", "validation", EVALUATION, SHARE, None, None, RUN))],
    "robustness": [area_table(Robustness("affwild2", "validation", 123, [], [AREA]))],
    "extract --plan": [plan_table(FORECAST)],
    "doctor": [diagnosis_table(Diagnosis("affwild2", ROOT, 123_456, 10**9, 1e5, 10**9, 10**6, 1, [FOUND]))],
    "cache info": [*info_lines(CacheInfo(ROOT, "affwild2", 123_456, 10**9, 1e5, 10**13, [INFO] * 2, {"va": 9}, []))],
    "cache why": [*why_lines(WHY)],
    "cache diff": [*diff_lines(StreamDifference(KEY, KEY, (1024, 1024), SETTINGS, [], [], [COMPARED] * 3))],
    "cache verify": [*verdict_lines(Verdict(ROOT, True, 9, [Damage(f"features/{KEY}/{RECORDING}", RECORDING, ROOT)]))],
    "cache verify --against": [*against_lines(Agreement(ROOT, 9, 1, 1, [Mismatch("features", RECORDING, KEY, ROOT)]))],
    "cache prune": [*prune_lines(Pruning(ROOT, 3, [Prunable(KEY, "unused", 10**13, "no run used it")], []))],
    "cache convert": [*convert_lines(Conversion(ROOT, ROOT, [CONVERTED]))],
}


@pytest.mark.parametrize("told", TABLES.values(), ids=TABLES)
def test_it_fits_and_no_number_is_cut(told, capsys):
    tables = [t for t in told if isinstance(t, Table)]
    assert tables
    for table in tables:
        show(None, False, table)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80, max(lines, key=len)
        assert "…" not in "".join(lines)
        numbers = {
            str(n) for c in table.columns if c.justify == "right" for cell in c.cells for n in str(cell).split("\n")
        }
        assert not [n for n in numbers if not any(n in line for line in lines)]
        heads = [str(c.header) for c in table.columns if c.justify == "right"]
        assert not [h for h in heads if not any(h in line for line in lines)]
