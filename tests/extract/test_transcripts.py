"""Transcripts keep their own times; what cannot be read is named and left out."""

import json

import pytest

from cache.errors import DataError, MissingData
from extract.transcripts import find_transcript, read_transcript

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
    with pytest.raises(DataError, match=r"wanted one of .*\.srt"):
        read_transcript(tmp_path / "a.docx")
    with pytest.raises(MissingData, match="no transcript at"):
        read_transcript(tmp_path / "b.srt")


def spans(path):
    return [(u.text, round(u.start, 3), round(u.end, 3)) for u in read_transcript(path)]


def test_srt_from_the_wild(tmp_path, caplog):
    """Starts at 0, one-digit fractions or none, no empty line between cues, text after an empty line."""
    text = "0\n00:00:00,1 --> 00:00:04\none &quot;two&quot;\n1\n00:00:04 --> 00:00:05,25\nthree\n\nlost\n"
    (tmp_path / "a.srt").write_text(text.replace("\n", "\r\n"))
    assert spans(tmp_path / "a.srt") == [('one "two"', 0.1, 4.0), ("three", 4.0, 5.25)]
    assert "line 8 is outside any cue" in caplog.text


def test_lines_that_whisper_prints(tmp_path, caplog):
    text = (
        "Detected language: French\n[00:00.120 --> 00:00.640]  Bonjour.\n[01:00:01.000 --> 01:00:02.500] Au revoir.\n"
    )
    (tmp_path / "a.txt").write_text(text)
    assert spans(tmp_path / "a.txt") == [("Bonjour.", 0.12, 0.64), ("Au revoir.", 3601.0, 3602.5)]
    assert "line 1" in caplog.text


def test_whisper_tsv_is_in_milliseconds(tmp_path, caplog):
    (tmp_path / "a.tsv").write_text("start\tend\ttext\n120\t640\tBonjour.\nx\t1\tbad\n640\t1500\tun\tdeux\n")
    assert spans(tmp_path / "a.tsv") == [("Bonjour.", 0.12, 0.64), ("un deux", 0.64, 1.5)]
    assert "line 3" in caplog.text


def word(key, text, start=None, end=None):
    return {key: text} | ({} if start is None else {"start": start, "end": end, "probability": 0.9})


WORDS = [word("word", " He", 0.1, 0.3), word("word", " said", 0.3, 0.6)]
TIMESTAMPED = [word("text", "He", 0.1, 0.3), word("text", "said", 0.3, 0.6)]
TIMED = [("He", 0.1, 0.3), ("said", 0.3, 0.6)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"text": " He said", "segments": [{"start": 0, "end": 2.0, "text": " He said"}]}, [("He said", 0.0, 2.0)]),
        ({"segments": [{"start": 0, "end": 2, "text": " He said", "words": WORDS}]}, TIMED),
        ({"segments": [{"start": 0, "end": 2, "text": " He said", "words": TIMESTAMPED}]}, TIMED),
        ([{"start": 0, "end": 2, "text": " He said", "words": WORDS}], TIMED),
        ({"word_segments": WORDS, "language": "en"}, TIMED),
        ({"segments": [{"start": 0, "end": 2, "text": "20 30", "words": [{"word": "20"}]}]}, [("20 30", 0.0, 2.0)]),
        ({"segments": [{"start": 0, "end": 2, "text": "He", "words": []}]}, [("He", 0.0, 2.0)]),
        ({"text": "", "segments": []}, []),
    ],
)
def test_json_of_whisper_and_its_kin(tmp_path, data, expected):
    (tmp_path / "a.json").write_text(json.dumps(data))
    assert spans(tmp_path / "a.json") == expected


def test_a_word_without_times_lies_between_its_neighbours_or_in_its_segment(tmp_path):
    words = [word("word", "I", 0.1, 0.3), word("word", "ate"), word("word", "20"), word("word", "figs", 1.0, 1.4)]
    words += [word("word", "and", 1.4, 1.6), word("word", "7"), word("word", "dates", 1.6, 1.8), word("word", "2")]
    (tmp_path / "a.json").write_text(json.dumps({"segments": [{"start": 0, "end": 2, "text": "x", "words": words}]}))
    found = {text: (start, end) for text, start, end in spans(tmp_path / "a.json")}
    assert found["ate"] == found["20"] == (0.3, 1.0)
    assert found["7"] == (0.0, 2.0)  # its neighbours leave no room
    assert found["2"] == (1.8, 2.0)


def test_broken_json_says_where_and_a_bad_segment_is_left_out(tmp_path, caplog):
    good = {"start": 0, "end": 1, "text": "good"}
    bad = [{"start": None, "end": 2, "text": "x"}, "noise", {"start": 1, "end": float("inf"), "text": "endless"}]
    (tmp_path / "a.json").write_text(json.dumps({"segments": [*bad, good]}))
    assert spans(tmp_path / "a.json") == [("good", 0.0, 1.0)]
    assert "a.json segment 0" in caplog.text
    assert "a.json segment 1" in caplog.text
    assert "endless" in caplog.text
    (tmp_path / "b.json").write_text('{"segments": [\n{"start": 0,')
    with pytest.raises(DataError, match=r"b\.json is not JSON: line 2"):
        read_transcript(tmp_path / "b.json")
    (tmp_path / "c.json").write_text('{"segments": 3}')
    with pytest.raises(DataError, match="no list of 'segments'"):
        read_transcript(tmp_path / "c.json")


def long_grid(tiers):
    """Praat's long text format of {name: [(start, end, text)]}."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 9 ", "tiers? <exists> "]
    lines += [f"size = {len(tiers)} ", "item []: "]
    for i, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{i}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 9 ", f"        intervals: size = {len(intervals)} "]
        for k, (start, end, text) in enumerate(intervals, start=1):
            lines += [f"        intervals [{k}]:", f"            xmin = {start} ", f"            xmax = {end} "]
            lines += [f'            text = "{text}" ']
    return "\n".join(lines) + "\n"


def short_grid(tiers):
    """The same in the short one."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "9", "<exists>", str(len(tiers))]
    for name, intervals in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", "9", str(len(intervals))]
        lines += [str(x) if not isinstance(x, str) else f'"{x}"' for row in intervals for x in row]
    return "\n".join(lines) + "\n"


SPEAKERS = {
    "Mary": [(0, 0.5, ""), (0.5, 1.25, 'I ""know"" 2 things'), (1.25, 9, "sp")],
    "John": [(0, 1, ""), (1, 1.5e0, "été"), (1.5, 9, "")],
}


@pytest.mark.parametrize("shape", [long_grid, short_grid])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_textgrid_of_two_speakers(tmp_path, shape, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(shape(SPEAKERS).encode(encoding))
    assert spans(path) == [('I "know" 2 things', 0.5, 1.25), ("été", 1.0, 1.5)]


def test_textgrid_words_are_taken_and_phones_are_not(tmp_path):
    phones = [(0, 0.2, "h"), (0.2, 0.5, "i")]
    path = tmp_path / "a.textgrid"
    path.write_text(long_grid({"Mary - words": [(0, 0.5, "hi")], "Mary - phones": phones}))
    assert spans(path) == [("hi", 0.0, 0.5)]
    path.write_text(long_grid({"utterance": [(0, 0.5, "hi")], "phones": phones}))
    assert spans(path) == [("hi", 0.0, 0.5)]


def test_textgrid_that_breaks_off_keeps_what_came_before(tmp_path, caplog):
    whole = long_grid(SPEAKERS)
    path = tmp_path / "a.TextGrid"
    path.write_text(whole[: whole.index("été") - 60])
    assert spans(path)[0] == ('I "know" 2 things', 0.5, 1.25)
    assert "a.TextGrid line" in caplog.text
    path.write_text("no grid at all")
    with pytest.raises(DataError, match="not a TextGrid"):
        read_transcript(path)


def test_of_several_transcripts_one_with_timed_words_is_found(tmp_path):
    for name in ("a.srt", "a.json", "a.txt", "b.vtt", "b.TextGrid"):
        (tmp_path / name).touch()
    assert find_transcript(tmp_path, "a").name == "a.json"
    assert find_transcript(tmp_path, "b").name == "b.TextGrid"
    assert find_transcript(tmp_path, "c") is None
    assert find_transcript(tmp_path / "none", "a") is None
