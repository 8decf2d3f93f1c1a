"""The report as a page: its numbers are the runs', it needs nothing else, obeys no text, and counts what it opens."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cache.errors import DataError, MissingData, UsageError
from cache.recipe import to_json
from cache.records import Labels, Partitions
from fuse.feeding.locked import LOG
from fuse.numbers.bootstrap import compare
from fuse.numbers.moments import moments, read_moments
from fuse.numbers.robustness import Plan, run_robustness, save_robustness
from fuse.page.bars import bars_of
from fuse.page.findings import FEWEST, SECTORS, calibration, of_recordings, regions
from fuse.page.source import read_source
from fuse.page.write import write_report
from fuse.tables.ablate import run_ablate
from fuse.tables.grid import AblateRecipe, Published, Row
from fuse.tables.ranked import conclude
from fuse.tables.summary import Summary
from fuse.tables.table_files import save_tables

SMALL = {"tokens": 32, "stride": 1, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 2, "device": "cpu"}
NASTY = "</title><script src=http://x.test/a.js></script> \"'> $\\frac$ {{ 7*7 }} \x1b[31m \u202e é ✓"
VOID = {"meta", "img", "br", "hr", "link", "input", "col"}


class Page(HTMLParser):
    """Checks that elements nest; keeps attributes, and the text of cells by table."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.tables, self.problems = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open
        assert not self.problems

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, k, v) for k, v in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            if tag == "th" and dict(attrs).get("scope") not in ("row", "col"):
                self.problems.append("a header without a scope")
        if tag == "p" and "p" in self.open[:-1]:
            self.problems.append("a paragraph in a paragraph")

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, k, v) for k, v in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, head):
        """Rows of the first table with that word in its head."""
        return next(rows[1:] for rows in self.tables if head in rows[0])


@pytest.fixture(scope="module")
def home(tmp_path_factory, toy_cache):
    """A table of two heads and a control, two seeds each, over a cache of its own."""
    top = tmp_path_factory.mktemp("report")
    shutil.copytree(toy_cache.root, top / "cache")
    rows = (
        Row("face alone", "unimodal", ("face",), paper=Published(0.1283, -0.0683, of="Others"), note="a note"),
        Row("all", "concat", set={"epochs": 4}),
        Row("permuted", "concat", set={"permute_labels": True}, control=True),
    )
    made = run_ablate(AblateRecipe(top / "cache", rows, top / "runs", SMALL, seeds=2), quiet=True)
    save_tables(top / "table", conclude(made, "test", title="A title", paper="Someone", notes=["its own note"]))
    return top


@pytest.fixture
def copied(home, tmp_path):
    """The same, to be spoilt; its runs still know the cache by its first place."""
    shutil.copytree(home / "runs", tmp_path / "runs")
    return tmp_path


def folders(home, head):
    found = sorted((home / "runs" / "toy").glob(f"{head}-*"))
    return [f for f in found if not json.loads((f / "recipe.json").read_text())["permute_labels"]]


def base(folder):
    return folder.with_name(folder.name.rpartition("-seed")[0])


def written(tmp_path, paths, *args, **more):
    out = tmp_path / "report.html"
    made = write_report(paths, out, *args, **more)
    text = out.read_text(encoding="utf-8")
    assert made.bytes == out.stat().st_size
    return made, text, Page(text)


def opened(folder):
    with open(folder / LOG, newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_are_the_runs_to_the_printed_digits(home, tmp_path):
    made, _, page = written(tmp_path, [base(folders(home, h)[0]) for h in ("concat", "unimodal")])
    assert (made.rows, made.runs, made.partition, made.lacking) == (2, 4, "validation", "")
    rows = {r[1]: r for r in page.table("smoothed")}
    for head, label in (("concat", "concat, face+voice+words"), ("unimodal", "unimodal, face")):
        runs = [json.loads((f / "metrics.json").read_text()) for f in folders(home, head)]
        raw = [m["evaluations"]["validation"]["raw"] for m in runs]
        for column, name in ((2, "valence"), (3, "arousal"), (4, "mean")):
            assert rows[label][column].startswith(f"{np.mean([r[name] for r in raw]):.3f} ±")
        assert rows[label][6].startswith(
            f"{np.mean([m['evaluations']['validation']['smoothed']['mean'] for m in runs]):.3f}"
        )
    found = [
        [read_moments(f / "statistics" / "validation.csv", "raw") for f in folders(home, h)]
        for h in ("concat", "unimodal")
    ]
    want = compare(*found)["mean"]
    told = next(r for r in page.table("effect, SE") if r[0] == "mean")
    assert {abs(float(told[3])), float(told[5])} == {round(abs(want.difference), 3), round(want.p, 4)}


def test_a_tables_folder_stands_for_its_runs_on_the_partition_asked_and_keeps_its_notes(home, tmp_path):
    _, text, page = written(tmp_path, [home / "table"])
    assert "raw CCC on validation" in text
    assert "<h1>A title</h1>" in text
    for note in ("its own note", "face alone: the paper&#39;s numbers", "paper: Someone"):
        assert text.count(note) == 1
    assert "paper valence" in page.tables[0][0]
    assert next(r for r in page.table("smoothed") if r[1] == "face alone")[-2:] == ["(0.128)", "(-0.068)"]
    assert next(r for r in page.table("smoothed") if r[1] == "permuted")[0] == ""


def test_the_page_needs_nothing_else_and_holds_no_label(home, tmp_path):
    _, text, page = written(tmp_path, [home / "table"])
    links = [v for _, k, v in page.attributes if k in ("src", "href", "xlink:href", "srcset", "action", "data")]
    assert links
    assert all(v.startswith(("#", "data:image/png;base64,")) for v in links)
    assert not {"script", "link", "iframe", "object", "video", "audio"} & {t for t, _, _ in page.attributes}
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in re.sub(r"url\(#", "", text)
    ids = [v for _, k, v in page.attributes if k == "id"]
    assert len(ids) == len(set(ids))
    targets = {v for _, k, v in page.attributes if k.endswith("href")}
    assert {t[1:] for t in targets if t.startswith("#")} <= set(ids)
    assert all(v for t, k, v in page.attributes if t == "img" and k == "alt")
    assert ("html", "lang", "en") in page.attributes


def test_every_picture_is_there_and_recordings_are_hardest_first(home, tmp_path):
    _, text, page = written(tmp_path, [folders(home, "concat")[0]])
    assert text.count("data:image/png;base64,") == 3  # two recordings' traces and the scatter
    assert text.count("<svg") == 2 + text.count('<svg aria-hidden="true"')
    listed = page.table("recording")
    means = [float(r[4]) for r in listed]
    assert means == sorted(means)
    assert {r[0] for r in listed} == {"rec5", "rec6"}
    run = json.loads((folders(home, "concat")[0] / "metrics.json").read_text())["evaluations"]["validation"]
    assert np.mean(means) == pytest.approx(run["per_recording"]["mean"], abs=1e-3)


def test_hostile_text_is_shown_and_not_obeyed(copied, tmp_path):
    runs = [folders(copied, "concat")[0], folders(copied, "unimodal")[0]]
    for path in runs:
        statistics = path / "statistics" / "validation.csv"
        rows = list(csv.reader(statistics.read_text().splitlines()))
        with open(statistics, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([NASTY if cell == "rec5" else cell for cell in row] for row in rows)
        metrics = json.loads((path / "metrics.json").read_text())
        (path / "metrics.json").write_text(json.dumps(metrics | {"streams": [NASTY]}))
    made, text, page = written(tmp_path, runs)
    assert made.lacking  # predictions of that recording are not there
    assert "<script" not in text
    assert "{{ 7*7 }}" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert any("\\x1b[31m \\u202e é ✓" in row[0] for row in page.table("recording"))


def test_opening_test_is_counted_once_and_only_where_test_is_asked(home, tmp_path):
    runs = [*folders(home, "concat"), *folders(home, "unimodal")]
    before = {r: len(opened(r)) for r in runs}
    written(tmp_path, [home / "table"])
    assert {r: len(opened(r)) for r in runs} == before
    _, text, page = written(tmp_path, [home / "table"], "test")
    more = {r: len(opened(r)) - before[r] for r in runs}
    assert sorted(more.values()) == [0, 0, 0, 1]
    shown = next(r for r, n in more.items() if n)
    assert opened(shown)[-1]["what"] == "report"
    assert f"Run <code>{shown.name}</code>" in text
    counted = {r[0]: int(r[-1]) for r in page.table("test opened")}
    assert counted[shown.name] == before[shown] + 1
    assert {r[0] for r in page.table("recording")} == {"rec7", "rec8"}


def test_without_the_cache_what_needs_labels_is_left_out_and_that_is_said(copied, tmp_path):
    run = folders(copied, "concat")[0]
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(to_json(recipe | {"cache": str(tmp_path / "gone")}))
    made, text, page = written(tmp_path, [run])
    assert str(tmp_path / "gone") in made.lacking
    assert "need the annotations, and are left out" in text
    assert "data:image/png" not in text
    assert len(page.table("recording")) == 2
    assert page.table("smoothed")


def test_other_labels_than_the_run_was_scored_on_are_not_shown_for_them(copied, toy_cache, tmp_path):
    run = folders(copied, "concat")[0]
    shutil.copytree(toy_cache.root, tmp_path / "other")
    other = type(toy_cache)(tmp_path / "other")
    split = other.labels.partitions("va")
    labels = {r: other.labels.read("va", r) for r in split.of}
    moved = {r: Labels(np.where(v.labelled[:, None], v.va * 0.9, 0), v.labelled) for r, v in labels.items()}
    other.labels.write("va", moved, Partitions(split.of, split.subjects))
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(to_json(recipe | {"cache": str(other.root)}))
    made, _, _ = written(tmp_path, [run])
    assert "labels are not those that this run was scored on" in made.lacking


def test_anonymous_names_no_recording(home, copied, tmp_path):
    _, text, page = written(tmp_path, [home / "table"], anonymous=True)
    assert not re.search(r"rec\d", text)
    assert [r[0] for r in page.table("recording")] == ["recording 1", "recording 2"]
    runs = folders(copied, "concat")[:1] + folders(copied, "unimodal")[:1]
    statistics = runs[1] / "statistics" / "validation.csv"
    statistics.write_text("".join(row for row in statistics.read_text().splitlines(True) if "rec5" not in row))
    (runs[0] / "predictions" / "validation" / "rec5.csv").unlink()
    made, text, _ = written(tmp_path, runs, anonymous=True)
    assert "not scored on the same recordings" in text
    assert made.lacking
    assert not re.search(r"rec\d", text + made.lacking)


def test_robustness_curves_come_from_their_folder(home, toy_cache, tmp_path):
    runs = [folders(home, "concat")[0], folders(home, "unimodal")[0]]
    found = run_robustness(runs, toy_cache, "validation", Plan(kinds=("drop",), seeds=1), "cpu", quiet=True)
    save_robustness(tmp_path / "curves", found)
    _, text, page = written(tmp_path, runs, "validation", tmp_path / "curves")
    rows = page.table("along the curve")
    assert [r[4] for r in rows] == [f"{a.area:.3f}" for a in found.areas]
    assert "2 recordings: raw mean CCC where a modality is missing" in text
    with pytest.raises(MissingData, match=r"there is no .*curves\.csv; make it with"):
        write_report(runs, tmp_path / "x.html", "validation", tmp_path)
    (tmp_path / "curves" / "curves.csv").write_text("run,level\na,1\n")
    with pytest.raises(DataError, match="is not what robustness writes"):
        write_report(runs, tmp_path / "x.html", "validation", tmp_path / "curves")


def test_settings_and_receipts_tell_what_was_trained(home, tmp_path):
    run = folders(home, "concat")[0]
    _, _, page = written(tmp_path, [run])
    environment = json.loads((run / "environment.json").read_text())
    assert [r[0] for r in page.table("key")] == [s["key"] for s in environment["streams"]]
    receipt = page.table("test opened")[0]
    assert receipt[0] == run.name
    assert receipt[1] == opened(run)[0]["weights"]
    assert receipt[4] == environment["data"][:12]


def test_what_cannot_be_reported_is_said(home, tmp_path):
    run = folders(home, "concat")[0]
    for paths, partition, error, told in (
        ([tmp_path / "none"], "validation", MissingData, "no run at"),
        ([tmp_path], "validation", MissingData, "no complete run at"),
        ([run], "train", UsageError, "no numbers for 'train'"),
        ([home / "table", run], "validation", UsageError, "give it alone"),
    ):
        with pytest.raises(error, match=told):
            write_report(paths, tmp_path / "x.html", partition)
    with pytest.raises(UsageError, match="no report can be written"):
        write_report([run], tmp_path / "no" / "x.html")
    assert not (tmp_path / "x.html").exists()
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(DataError, match=r"table\.json is not a table"):
        write_report([tmp_path], tmp_path / "x.html")


def test_the_command_writes_the_file_and_says_where(home, run):
    code, out, _ = run("report", base(folders(home, "concat")[0]), "--out", "page.html")
    assert code == 0
    assert out.startswith("page.html: 1 rows, 2 runs on validation")
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    code, out, _ = run("report", folders(home, "concat")[0], "--json")
    assert json.loads(out)["path"] == "report.html"


def test_recordings_bins_and_regions_are_what_they_say():
    rng = np.random.default_rng(0)
    va = rng.uniform(-1, 1, (4000, 2))
    pred = va * 0.5 + 0.1
    for b in calibration(pred[:, 0], va[:, 0]):
        inside = (va[:, 0] >= b.low) & (va[:, 0] < b.high)
        assert b.frames == inside.sum()
        assert b.mean == pytest.approx(pred[inside, 0].mean())
    assert sum(b.frames for b in calibration(np.zeros(3), np.array([-1.0, 1.0, 0.2]))) == 3
    few = calibration(np.zeros(FEWEST - 1), np.full(FEWEST - 1, 0.5))
    assert {b.mean for b in few} == {None}
    at = {0: (0.9, 0), 1: (0.6, 0.6), 2: (0, 0.9), 4: (-0.9, 0), 6: (0, -0.9), 7: (0.1, -0.1)}
    for sector, place in at.items():
        true = np.tile(place, (FEWEST, 1))
        found = [r for r in regions(true + np.array([0.2, -0.4]), true) if r.frames]
        assert [(r.sector, r.outer) for r in found] == [(SECTORS[sector], np.hypot(*place) >= 0.5)]
        assert found[0].error == pytest.approx(0.3)
    labels = {"a": Labels(va[:100].astype(np.float32), np.ones(100, bool))}
    same = of_recordings(moments({"a": labels["a"].va.astype(np.float64)}, labels))[0]
    assert (same.valence, same.arousal) == pytest.approx((1, 1))
    flat = of_recordings(moments({"a": np.zeros((100, 2))}, labels))[0]
    assert (flat.valence, flat.arousal) == (0, 0)


def test_bars_lie_where_their_numbers_are(home):
    rows = run_ablate(
        AblateRecipe(home / "cache", (Row("face", "unimodal", ("face",)),), home / "runs", SMALL, seeds=2),
        resume=True,
        quiet=True,
    )
    made = bars_of(rows)
    ends = [(p, float(t)) for p, t in made.ticks]
    (x0, v0), (x1, v1) = ends[0], ends[-1]
    bar, mean = made.bars[0], rows[0].raw["mean"].mean
    value = v0 + (max(bar.left + bar.width, bar.left) - x0) / (x1 - x0) * (v1 - v0)
    assert (x0, x1) == (0, 100)
    assert value == pytest.approx(max(mean, 0), abs=1e-4)
    assert made.zero == pytest.approx(100 * -v0 / (v1 - v0), abs=1e-3)


def test_the_page_draws_the_bars_where_they_lie(home, tmp_path):
    rows = read_source([home / "table"], "test").table.rows
    _, text, _ = written(tmp_path, [home / "table"], "test")
    drawn = re.findall(r'<rect class="bar" x="([\d.]+)%" width="([\d.]+)%"', text)
    assert drawn == [(str(b.left), str(b.width)) for b in bars_of(rows).bars]


def test_validation_chooses_the_row_that_is_shown_and_never_a_control(home):
    source = read_source([home / "table"], "test")
    found = zip(source.table.rows, (0.1, 0.5, 0.9), strict=True)  # the control last
    made = [replace(row, validation=Summary(mean, 0.0, [mean])) for row, mean in found]
    worst = replace(made[1], raw=made[1].raw | {"mean": Summary(-1.0, 0.0, [-1.0])})
    assert replace(source, table=replace(source.table, rows=[made[0], worst, made[2]])).best == 1


def browser(*args):
    """What a headless browser writes to stdout and stderr, without a network."""
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars"]
    done = subprocess.run([*command, *map(str, args)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_browser_lays_it_out_at_any_width_and_prints_it(home, tmp_path):
    write_report([home / "table"], tmp_path / "report.html")
    page, profile = tmp_path / "report.html", f"--user-data-dir={tmp_path / 'profile'}"
    measure = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script>"
    text = page.read_text(encoding="utf-8").replace("</body>", f"{measure}</body>")
    (tmp_path / "measured.html").write_text(text, encoding="utf-8")
    frames = "".join(f"<iframe src=measured.html width={w} height=900 frameborder=0></iframe>" for w in (390, 1280))
    told = "<p id=told></p><script>onmessage = e => told.textContent += `[${e.data}]`</script>"
    (tmp_path / "frames.html").write_text(f"<!DOCTYPE html>{told}{frames}")
    out, log = browser(profile, "--virtual-time-budget=3000", "--dump-dom", (tmp_path / "frames.html").as_uri())
    widths = sorted(re.findall(r"\[(\d+),(\d+)\]", re.search(r'<p id="told">(.*?)</p>', out)[1]))
    assert widths == [("1280", "1280"), ("390", "390")]  # wide tables scroll by themselves, the page does not
    assert "CONSOLE" not in log
    browser(profile, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'report.pdf'}", page.as_uri())
    pdf = (tmp_path / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594.95" in pdf  # A4
