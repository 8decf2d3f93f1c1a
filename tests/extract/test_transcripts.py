"""Transcripts keep their own times; what cannot be read is named and left out."""

import pytest

from cache.errors import DataError, MissingData
from extract.transcripts import read_transcript

SRT = """1
00:00:00,380 --> 00:00:01,100
Good <i>morning</i> &amp; hello

2
00:00:02 --> 00:00:02,5
again
and again

3
00:00:09,000 --> 00:00:08,000
backwards
"""


def test_srt_with_tags_entities_and_short_fractions(tmp_path, caplog):
    (tmp_path / "a.srt").write_text("\ufeff" + SRT, encoding="utf-8")
    units = read_transcript(tmp_path / "a.srt")
    assert [(u.text, u.start, u.end) for u in units] == [
        ("Good morning & hello", 0.38, 1.1),
        ("again and again", 2.0, 2.5),
    ]
    assert "backwards" in caplog.text


def test_vtt_without_hours(tmp_path):
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:00.380 --> 00:01.100 align:start\nhello\n")
    (unit,) = read_transcript(tmp_path / "a.vtt")
    assert (unit.text, unit.start, unit.end) == ("hello", 0.38, 1.1)


def test_ctm_is_start_plus_duration(tmp_path, caplog):
    (tmp_path / "a.ctm").write_text(";; comment\nrec 1 0.50 0.25 good 0.9\nrec 1 x 0.2 bad\nrec 1 0.10 0.30 so\n")
    units = read_transcript(tmp_path / "a.ctm")
    assert [(u.text, u.start, round(u.end, 6)) for u in units] == [("so", 0.1, 0.4), ("good", 0.5, 0.75)]
    assert "line 3" in caplog.text


def test_bracketed_lines_with_whole_seconds(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("[12s - 15s] one\n[15.5s - 16.25s] two words\nnoise\n")
    units = read_transcript(tmp_path / "a.txt")
    assert [(u.text, u.start, u.end) for u in units] == [("one", 12.0, 15.0), ("two words", 15.5, 16.25)]
    assert "line 3" in caplog.text


def test_unknown_format_and_missing_file(tmp_path):
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match=r"wanted one of \.srt"):
        read_transcript(tmp_path / "a.docx")
    with pytest.raises(MissingData, match="no transcript at"):
        read_transcript(tmp_path / "b.srt")
