"""What people see: real terminals of 80 and 40 columns, dumb ones, without colour, and locales that are not UTF-8."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
EVENTS = r"""
import logging, typer
from cache.progress import progress
from cache.terminal import command, write_any_text

app = typer.Typer()
LINES = ["  \u2581\u2582\u2585\u2588  0.102 to 0.681", "  frames 37 %: a-recording" + "-with-a-long-name" * 9]

@command(app, "events")
def events(interrupt: bool = False) -> None:
    with progress("cross-attention seed 10", 4, whole=100.0, below=lambda width: LINES) as step:
        step("CCC 0.102, best 0.102 in epoch 1", 10)
        logging.getLogger("affuse").warning("a file is odd")
        step("CCC 0.655, best 0.681 in epoch 2", 10)
        if interrupt:
            raise KeyboardInterrupt
        step("CCC 0.655, best 0.681 in epoch 2", 10)
        step("CCC 0.655, best 0.681 in epoch 2", 70)
    print("done \u00b1")

write_any_text()
app()
"""
UTF8, ASCII = {"PYTHONIOENCODING": "utf-8"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
ASCII["PYTHONIOENCODING"] = "ascii"


def in_terminal(columns, *command, cwd=None, interrupt=lambda said: False, **env):
    """Run it in a terminal of so many columns until it ends: (exit code, all it wrote).

    interrupt: says of what was written so far whether Ctrl-C is pressed now, which all processes of the group hear.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    left = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CI")}
    env = {**left, "TERM": "xterm-256color", "PYTHONPATH": str(TOP), **env}
    words = [sys.executable, *map(str, command)]
    given = {"cwd": cwd, "env": env, "stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    process = subprocess.Popen(words, **given)
    os.close(theirs)
    said, pressed = b"", False
    while True:
        if not pressed and interrupt(said.decode(errors="ignore")):
            os.killpg(process.pid, signal.SIGINT)
            pressed = True
        if not select.select([ours], [], [], 0.05)[0]:
            continue
        try:
            some = os.read(ours, 65_536)
        except OSError:  # so Linux says that nobody writes any more
            break
        if not some:
            break
        said += some
    os.close(ours)
    return process.wait(), said.decode()


def drawn(said):
    """Every line as it was written at some time, without the escapes."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    return [line for line in re.split(r"[\r\n]+", plain) if line]


@pytest.mark.parametrize("columns", [80, 40])
def test_a_live_bar_fits_and_what_is_logged_stands_above_it(columns):
    code, said = in_terminal(columns, "-c", EVENTS, **UTF8)
    lines = drawn(said)
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert "warning: a file is odd" in lines
    assert lines[-1] == "done ±"
    text = "\n".join(lines)
    for told in ("4/4 left 00:00", "best 0.681 in epoch 2", "▁▂▅█  0.102 to 0.681", "frames 37 %: a-recording"):
        assert told in text
    assert ("CCC 0.655, best 0.681 in epoch 2" in lines) == (columns == 40), "below where there is no room beside"


def test_an_interrupted_bar_leaves_the_terminal_in_order():
    code, said = in_terminal(80, "-c", EVENTS, "--interrupt", **UTF8)
    assert code == 130
    assert drawn(said)[-1] == "interrupted; nothing was changed"
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l"), "the cursor is shown again"
    assert any(re.match(r"cross-attention seed 10 .* 2/4 left", line) for line in drawn(said))


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_plain_lines(term):
    code, said = in_terminal(80, "-c", EVENTS, TERM=term, **UTF8)
    assert code == 0
    assert "\x1b" not in said
    assert [line.split(",")[0] for line in drawn(said) if "/4" in line] == [
        f"cross-attention seed 10: {n}/4" for n in (1, 2, 3, 4)
    ]


def test_no_color_is_obeyed():
    _, said = in_terminal(80, "-c", EVENTS, NO_COLOR="1", **UTF8)
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[0-9;]*m", said)
    assert re.search(r"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[0-9;]*m", in_terminal(80, "-c", EVENTS, **UTF8)[1])


@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal_that_is_not_utf8_gets_the_nearest_characters(columns):
    code, said = in_terminal(columns, "-c", EVENTS, **ASCII)
    assert code == 0
    assert said.isascii()
    lines = drawn(said)
    assert max(map(len, lines)) <= columns
    assert any("_.=#  0.102 to 0.681" in line for line in lines)
    assert lines[-1] == "done ~"


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "locale"), [(80, UTF8), (40, UTF8), (80, ASCII)])
def test_a_training_draws_its_curves_on_a_terminal(toy_cache, tmp_path, columns, locale):
    args = ("train-fusion", "--head", "concat", "--cache", toy_cache.root, "--epochs", "3", "--tokens", "32")
    code, said = in_terminal(columns, TOP / "cli.py", *args, cwd=tmp_path, **locale)
    assert code == 0, said
    text = "\n".join(drawn(said))
    told = json.loads(next(tmp_path.glob("var/runs/*/*/metrics.json")).read_text())["evaluations"]["validation"]["raw"]
    for name in ("valence", "arousal", "mean"):
        assert f"{told[name]:.3f}" in text, "no number is cut, however narrow"
    assert "validation CCC by epoch" in text
    assert "training loss by epoch" in text
    quiet = in_terminal(columns, TOP / "cli.py", *args, "--resume", "--quiet", cwd=tmp_path, **locale)
    assert quiet[0] == 0
    assert "by epoch" not in quiet[1]


@pytest.mark.parametrize("locale", [UTF8, ASCII])
@pytest.mark.parametrize("command", [("cache", "info"), ("cache", "verify"), ("list", "heads"), ("--help",)])
def test_commands_print_on_a_narrow_terminal_of_any_locale(toy_cache, command, locale):
    there = ("--cache", toy_cache.root) if command[0] == "cache" else ()
    code, said = in_terminal(40, TOP / "cli.py", *command, *there, **locale)
    assert code == 0, said
    assert "Traceback" not in said


INTERRUPTED = {  # what a command calls first, and what is said where Ctrl-C comes then
    ("extract",): ("extract.recipe.extract_recipe", "what is committed is kept: run the same command to go on"),
    ("train-fusion",): (
        "cache.find.find_cache",
        "run the same command with --resume to go on from the last checkpoint",
    ),
    ("ablate",): (
        "fuse.tables.ablate.ablate_recipe",
        "what is trained is kept: run the same command with --resume to go on",
    ),
    ("robustness", "run"): ("cache.find.find_cache", "no curve is kept: run the same command to start anew"),
    ("predict", "run"): ("fuse.finished.load_run", "what is extracted is kept: run the same command to go on"),
    ("view", "run"): ("fuse.view.sources.open_sources", "nothing was changed: run the same command to look again"),
}


@pytest.mark.parametrize("command", INTERRUPTED, ids=lambda c: c[0])
def test_ctrl_c_is_one_line_that_says_what_is_kept_and_what_to_type(run, monkeypatch, command):
    def pressed(*given, **settings):
        raise KeyboardInterrupt

    where, told = INTERRUPTED[command]
    monkeypatch.setattr(where, pressed)
    code, out, err = run(*command)
    assert (code, out, err) == (130, "", f"interrupted; {told}\n")


@pytest.fixture(scope="module")
def trained(toy_cache, tmp_path_factory):
    from fuse.recipe import TrainRecipe
    from fuse.train import run_train

    ask = TrainRecipe("concat", cache=toy_cache.root, runs=tmp_path_factory.mktemp("runs"), epochs=1, tokens=32, hop=16)
    return run_train(ask, quiet=True).folder


@pytest.mark.slow
def test_ctrl_c_ends_an_ablation_with_its_processes_and_without_a_word_of_theirs(toy_cache, tmp_path):
    args = ["ablate", "--heads", "concat,linear", "--cache", toy_cache.root, "--seeds", "1", "--workers", "2"]
    args += ["--set", "train.epochs=100000", "--set", "train.patience=100000", "--set", "train.hop=8"]
    args += ["--set", "train.tokens=8"]
    training = lambda said: len(list(tmp_path.glob("var/runs/*/*/log.jsonl"))) == 2  # noqa: E731
    code, said = in_terminal(80, TOP / "cli.py", *args, cwd=tmp_path, interrupt=training, **UTF8)
    assert code == 130
    assert "Traceback" not in said
    assert drawn(said)[-1] == "interrupted; what is trained is kept: run the same command with --resume to go on"


@pytest.mark.slow
def test_ctrl_c_ends_robustness_and_closes_the_view(toy_cache, trained, tmp_path):
    args = (TOP / "cli.py", "robustness", trained, "--cache", toy_cache.root, "--seeds", "1000")
    code, said = in_terminal(80, *args, cwd=tmp_path, interrupt=lambda said: "left 0" in said, **UTF8)
    assert code == 130
    assert drawn(said)[-1] == "interrupted; no curve is kept: run the same command to start anew"
    args = (TOP / "cli.py", "view", trained, "--cache", toy_cache.root, "--no-browser")
    code, said = in_terminal(80, *args, cwd=tmp_path, interrupt=lambda said: "Ctrl-C ends" in said, **UTF8)
    assert code == 0
    assert drawn(said)[-1] == "closed; the same command opens it again"
