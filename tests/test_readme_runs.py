"""The README as a script: its commands are run in the order they stand, on a corpus made here, by micro encoders."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import cli
from cache.store import FeatureCache
from extract.demo import write

TOP = Path(__file__).parents[1]
README = "".join((TOP / name).read_text(encoding="utf-8") for name in ("README.md", "cache/SCALE.md"))
TYPED = re.compile(r"```bash\n(.*?)```|`((?:python cli\.py|cache \w+|train-fusion) [^`…]+)`", re.S)
FOUND = ((block or inline.replace("\n", " ")).splitlines() for block, inline in TYPED.findall(README))
LINES = list(dict.fromkeys(line.partition("  #")[0].strip() for lines in FOUND for line in lines))
OURS = ("python cli.py ", "cache ", "train-fusion ", "make extract ")

#: What a line has in it -> why it is not run here.
NOT_RUN = {
    "make test": "the suite",
    "make check": "lint and types",
    "make bench": "benchmarks/",
    "pip install": "installs",
    "scheduler tcp://": "wants machines: tests/extract/test_cluster.py",
    "--cluster slurm": "wants a queue: tests/extract/test_cluster.py",
    "--against FILE": "no file's name; another line has one",
    "--faces tracked": "YuNet's weights are the hub's: tests/extract/test_faces.py",
    "--recogniser": "Whisper's weights are the hub's: tests/extract/test_asr.py",
    "--plugin my_head.py": "the README's head is trained in tests/fuse/test_train.py",
    "--plugin my_corpus.py": "the README's corpus is read in tests/extract/test_plugin.py",
    "cache import": "wants files of other toolkits: tests/cache/interop",
    "--dataset mosi": "of an imported corpus: tests/cache/interop",
}
#: Said behind a command, so that it takes seconds: weights at random, one epoch, one seed. The last word counts.
BRIEFLY = {
    "extract": "--recipe demo",
    "train-encoder": "--epochs 1 --set options.size=micro",
    "train-fusion": "--epochs 1",
    "ablate": "--seeds 1 --workers 1 --set train.epochs=1",
    "ablate --recipe demo": "--out var/demo",  # where make demo leaves its table
    "robustness": "--seeds 1 --kind drop",
    "view": "--no-browser",
}
#: What a line has in it -> what it leaves, as the README says.
LEAVES = {
    "make extract": "var/cache/affwild2/features/roberta-*",
    "extract --dataset manifest": "var/cache/manifest/features/swin-*",
    "train-encoder": "var/encoders/*/*.safetensors",
    "audio spectrogram@weights": "var/cache/affwild2/features/spectrogram-*",
    "train-fusion --head jca --visual": "var/runs/affwild2/jca-swin+hubert-*-seed1/metrics.json",
    "ablate --recipe demo": "var/demo/table.tex",
    "ablate --recipe jca-table": "var/tables/*/jca-table/table.csv",
    "ablate --recipe maven-table2": "var/tables/*/maven-table2/table.md",
    "--overlay": "var/predict/demo/jca-*/raw/video.csv",
    "--partition test": "var/predict/affwild2/jca-*/test/*.csv",
    "submit": "submission.txt",
    "report": "report.html",
    "--folds 5 --fold-by": "var/runs/*/jca-5folds-by-subject-*/crossvalidation.json",
    "robustness var": "var/robustness/curves.png",
    "ensemble var/runs/demo": "var/runs/demo/ensemble-*/validation.json",
    "cache inspect demo01": "var/inspect/demo01.png",
    "cache receipt --out": "receipt.json",
    "cache export": "demo.h5",
}
LAST = ("report ",)  # of curves that a line below it makes


def reason(line):
    """Why a line is not run, or None."""
    return next((why for part, why in NOT_RUN.items() if part in line), None)


def test_every_line_is_run_or_it_is_said_why_not():
    assert [line for line in LINES if not line.startswith(OURS) and not reason(line)] == []
    for told in (NOT_RUN, LEAVES):
        assert [part for part in told if not any(part in line for line in LINES)] == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """What the lines expect: the demo corpus, extracted; Aff-Wild2 without labels of test; two videos and a list."""
    monkeypatch.chdir(tmp_path)
    plan = write.plan_scenes
    monkeypatch.setattr(write, "plan_scenes", lambda *a: [replace(s, duration=7.1, rate=12) for s in plan(*a)])
    demo = tmp_path / "var" / "demo" / "corpus"
    write.write_demo(demo, recordings=8, quiet=True)
    shutil.copytree(demo, "data/affwild2")
    tests = sorted(Path("data/affwild2").rglob("Test_Set/*.txt"))
    Path("data/affwild2/Valence_Arousal_Estimation_test_set_release.txt").write_text("\n".join(t.stem for t in tests))
    for label in tests:
        label.unlink()
    shutil.copytree(demo / "batch1", "my_videos")
    films = sorted(f.name for f in Path("my_videos").iterdir())
    Path("my_videos/manifest.csv").write_text("id,video\n" + "".join(f"{f[:-4]},{f}\n" for f in films[:2]))
    shutil.copy(demo / "batch1" / films[0], "video.mp4")
    assert say(shlex.split("extract --recipe demo --root var/demo/corpus")) == (0, "")
    return tmp_path


def say(words):
    """Exit code and what went wrong, of one command."""
    if words[0] == "view":
        return watch(words)
    done = CliRunner().invoke(cli.app, words)
    return done.exit_code, f"{done.output[-600:]}{done.exception!r}" if done.exit_code else ""


def watch(words):
    """``view`` is looked at and ended as at a keyboard."""
    command = [sys.executable, TOP / "cli.py", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        told = ""
        while not told.endswith("}\n") and (line := process.stdout.readline()):
            told += line
        if process.poll() is not None:
            return process.returncode, told
        page = urllib.request.urlopen(json.loads(told)["url"], timeout=60).read()
        process.send_signal(signal.SIGINT)
        return process.wait(60), "" if b"<html" in page else "no page"


def filled(word):
    """A word with what is there: for ``…`` what was made first under such a name."""
    if "…" not in word:
        return word
    option, at, path = word.rpartition("=")
    made = Path().glob(re.sub(r"…(-seed\d+)?", "*", path))
    first = min(made, key=lambda f: min(p.stat().st_mtime for p in f.iterdir()), default=path)
    return f"{option}{at}{first}"


def words_of(line, corpus):
    """A line as it is run: abridged, and of the corpus of the line before where it names none."""
    line = line.removeprefix("python cli.py ")
    words = [filled(w) for w in shlex.split(line)]
    words += [w for start, more in BRIEFLY.items() if line.startswith(start) for w in more.split()]
    command, rest = typer.main.get_command(cli.app), words
    while hasattr(command, "commands"):
        _, command, rest = command.resolve_command(typer.Context(command), rest)
    takes = "dataset" in {p.name for p in command.params}
    return words + ["--dataset", corpus] * (takes and not {"--dataset", "--cache", "--recipe"} & set(words))


def prepare(line):
    """What a line wants that no other line makes; the line with the keys of this cache."""
    line = re.sub(r"^make extract DATASET=(\w+)", r"extract --dataset \1 --root data/\1", line)  # as in the Makefile
    line = line.replace("video10_1_left", "demo01")  # a name of the corpus itself
    if "sample.txt" in line:
        rows = [f"{f.stem}/{n:05d}.jpg,," for f in Path("var/predict/affwild2").glob("*/test/*.csv") for n in (1, 2)]
        Path("sample.txt").write_text("\n".join(["image_location,valence,arousal", *rows]) + "\n")
    if "var/cache/other" in line:
        shutil.copytree("var/cache/demo", "var/cache/other")
    if "cache pca swin" in line or "cache duplicates swin" in line:  # there are several by now
        return line.replace(" swin", f" {min(Path('var/cache/demo/features').glob('swin-*')).name}")
    if "cache diff" in line:
        more = "--visual swin@weights=random:1 --audio none --text none"
        assert say(shlex.split(f"extract --recipe demo --root var/demo/corpus {more}")) == (0, "")
        keys = iter(k for k in FeatureCache("var/cache/demo").stream_keys() if k.startswith("swin-"))
        return re.sub(r"swin-[0-9a-f]{12}", lambda _: next(keys), line)
    return line


@pytest.mark.slow
def test_the_lines_run_in_their_order_and_leave_what_they_say(home):
    corpus, wrong = "", []
    for line in sorted(LINES, key=lambda n: any(part in n for part in LAST)):
        named = re.search(r"(?:--dataset |DATASET=|var/(?:runs/|predict/)?)(affwild2|manifest|demo)", line)
        corpus = named[1] if named else corpus
        if reason(line) or not line.startswith(OURS):
            continue
        code, told = say(words_of(prepare(line), corpus))
        left = [path for part, path in LEAVES.items() if part in line and not list(Path().glob(path))]
        if code or left:
            wrong.append(f"{line}: exit code {code}, lacks {left}; {told}")
    assert not wrong, "\n".join(wrong)
