"""A run's course in characters: it fits, its ends are the numbers', every epoch is on it."""

import numpy as np
import pytest

from fuse.curve import HEIGHT, curve_lines, spark

UP = [0.1, 0.2, 0.4, 0.8]


def history(values):
    return [{"mean": v, "loss": 1 - v} for v in values]


def test_a_spark_has_a_character_an_epoch_and_the_scale():
    assert spark(UP, 79) == "▁▂▄█  0.100 to 0.800"
    assert spark([0.5], 79) == "▁  0.500 to 0.500"
    assert spark([], 79) == ""
    assert spark([0.1, float("nan")], 79) == ""


@pytest.mark.parametrize("width", [79, 39, 20, 5])
def test_a_spark_keeps_to_its_width_and_rises_where_the_values_rise(width):
    line = spark(list(np.linspace(-0.2, 0.7, 500)), width)
    assert len(line) <= width
    drawn = line.split(" ")[0]
    assert list(drawn) == sorted(drawn)


@pytest.mark.parametrize(("width", "count"), [(200, HEIGHT + 3), (80, HEIGHT + 3), (40, 2 * HEIGHT + 6)])
@pytest.mark.parametrize("epochs", [2, 37, 700])
def test_the_curves_fit_and_their_ends_are_named(width, count, epochs):
    lines = curve_lines(history(np.linspace(0.1, 0.8, epochs)), width)
    assert len(lines) == count
    assert max(map(len, lines)) <= min(width, 80)
    text = "\n".join(lines)
    for told in ("validation CCC by epoch", "training loss by epoch", "0.800 │", "0.100 │", "0.900 │", "0.200 │"):
        assert told in text
    assert lines[HEIGHT + 2].split()[:2] == ["1", str(epochs)]


def test_a_peak_of_one_epoch_in_hundreds_is_on_the_curve():
    values = np.zeros(700)
    values[351] = 1.0
    top = curve_lines(history(values), 40)[1]
    assert top.split("│")[1].strip(), "the peak reaches the line of the largest value"


def test_a_single_epoch_is_no_curve_and_neither_is_one_that_is_not_all_numbers():
    assert curve_lines([{"mean": 0.5}], 80) == []
    lines = curve_lines([{"mean": v, "loss": float("nan")} for v in UP], 80)
    assert len(lines) == HEIGHT + 3
    assert "training loss" not in "".join(lines)
