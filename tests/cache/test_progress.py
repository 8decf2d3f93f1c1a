"""How far it is: a few plain lines in a log, one bar of 80 columns on a terminal, and what is known by now."""

import io
import re

from cache.progress import progress

TOLD = "CCC 0.655, best 0.681 in epoch 12"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_four_lines_with_what_is_known(capsys):
    with progress("jca seed 0", 40) as step:
        for i in range(40):
            step(f"best at {i}")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"jca seed 0: {n}/40" for n in (10, 20, 30, 40)]
    assert [line.rsplit(", ")[-1] for line in lines] == [f"best at {n}" for n in (9, 19, 29, 39)]
    assert all(re.search(r"\d s left", line) for line in lines)


def test_nothing_to_tell_leaves_no_comma(capsys):
    with progress("extract", 1) as step:
        step()
    assert capsys.readouterr().err.endswith(" s left\n")


def test_quiet_says_nothing(capsys):
    with progress("jca", 3, quiet=True) as step:
        step(TOLD)
        step()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_of_80_columns_shows_count_time_left_and_what_is_known_whole(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress("cross-attention seed 10", 50) as step:
        for _ in range(50):
            step(TOLD)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n")
    last = [line for line in shown.split("\n") if "50/50" in line][-1]
    assert TOLD in last
    assert last.startswith("cross-attention seed 10")
    assert "left 00:00" in last
    assert len(last) <= 80
