"""What strangers wrote is printed as it is: no markup, no emoji, and no control character reaches the terminal."""

import logging

import numpy as np
import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from cache.care.diff import compare_streams, diff_lines
from cache.care.info import describe, info_lines
from cache.care.prune import Choice, plan_prune, prune_lines
from cache.care.verify import verdict_lines, verify
from cache.care.why import explain, why_lines
from cache.errors import DataError
from cache.records import Aligned, Timeline
from cache.store import FeatureCache
from cache.terminal import command, show

HOSTILE = "x[/b][old]\x1b[31m:smile:\udce9\\"
SHOWN = r"x[/b][old]\x1b[31m:smile:\udce9" + "\\"


@pytest.mark.parametrize("where", ["line", "title", "head", "cell", "caption"])
def test_a_line_and_every_part_of_a_table_is_plain(where, capsys):
    text = dict.fromkeys(("line", "title", "head", "cell", "caption"), "-") | {where: HOSTILE}
    table = Table(title=text["title"], caption=text["caption"])
    table.add_column(text["head"])
    table.add_row(text["cell"])
    show(None, False, text["line"], table)
    assert SHOWN in "".join(capsys.readouterr().out.split())


def test_lines_keep_their_own_ends_and_are_not_wrapped(capsys):
    show(None, False, "one\n" + "two " * 60)
    assert capsys.readouterr().out == "one\n" + "two " * 60 + "\n"


def test_errors_and_warnings_are_plain_too():
    app = typer.Typer()

    @command(app, "fail")
    def fail() -> None:
        logging.getLogger("affuse").warning("%s is odd", HOSTILE)
        raise DataError(f"{HOSTILE} is bad")

    err = CliRunner().invoke(app, []).stderr
    assert err == f"warning: {SHOWN} is odd\nerror: {SHOWN} is bad\n"


def test_a_cache_whose_path_ids_and_settings_are_markup_is_told_as_it_is(tmp_path, capsys):
    root = tmp_path / "x[/b][old]"
    cache = FeatureCache.create(root, "demo")
    keys = [cache.declare("swin", "visual", 2, {"encoder": HOSTILE, "layer": i}, {}).key for i in range(2)]
    for recording in (HOSTILE, "[b]other"):
        cache.timelines.write(recording, Timeline(np.arange(3) / 25, 3 / 25))
    for key in keys:
        cache.write(key, HOSTILE, Aligned(np.ones((3, 2), np.float32), np.ones(3, bool)))
    (cache.folder(keys[0], HOSTILE) / "zarr.json").write_bytes(b"{}")
    lines = [*info_lines(describe(root)), *why_lines(explain(root, keys[0]))]
    lines += [*verdict_lines(verify(root, quiet=True))]
    lines += [*prune_lines(plan_prune(root, tmp_path / "runs", Choice(streams=(keys[0],))))]
    lines += [*diff_lines(compare_streams(root, keys[1], keys[1], quiet=True))]
    show(None, False, *lines)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    folded = "".join(out.split())
    for told in (SHOWN, "lacks 1 of 2 recordings: '[b]other'", "x[/b][old]: damaged", "x[/b][old]:\n"):
        assert "".join(told.split()) in folded
