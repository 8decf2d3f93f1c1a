"""New media as recordings: names that differ, ids that follow what is in the files, what lies beside."""

import pytest

from cache.errors import MissingData, UsageError
from cache.ids import folder_of
from extract.loose import loose_recordings


def write(folder, *names, content="x"):
    folder.mkdir(exist_ok=True, parents=True)
    for name in names:
        (folder / name).write_text(content)
    return [folder / n for n in names]


def test_stems_are_names_until_two_are_alike(tmp_path):
    a, b = write(tmp_path / "one", "a.mp4", "b.mov")
    assert [*loose_recordings([a, b, tmp_path / "one" / ".." / "one" / "a.mp4"])] == ["a", "b"]
    (other,) = write(tmp_path / "one", "a.mkv")
    assert [*loose_recordings([a, b, other])] == ["a.mp4", "b.mov", "a.mkv"]
    (same,) = write(tmp_path / "two", "a.mp4")
    assert [*loose_recordings([a, same])] == ["one/a.mp4", "two/a.mp4"]


@pytest.mark.parametrize("name", ["..mp4", "...mp4", "a b.mp4", "ü\n.mp4", "%2e%2e%2f.mp4", "-x.mp4", "zarr.json.mp4"])
def test_hostile_names_stay_in_their_folder(tmp_path, name):
    ((called, recording),) = loose_recordings(write(tmp_path, name)).items()
    for text in (called, recording.id):
        assert (tmp_path / "out" / folder_of(text)).resolve().parent == tmp_path / "out"


def test_a_file_that_changes_is_another_recording_and_a_copy_is_the_same(tmp_path):
    (a,) = write(tmp_path / "one", "a.mp4")
    first = loose_recordings([a])["a"].id
    (copy,) = write(tmp_path / "two", "a.mp4")
    assert loose_recordings([copy])["a"].id == first
    write(tmp_path / "one", "a.srt")
    assert loose_recordings([a])["a"].id != first
    write(tmp_path / "two", "a.mp4", content="y")
    assert loose_recordings([copy])["a"].id != first


def test_transcripts_lie_beside_or_in_a_folder_or_are_given(tmp_path):
    a, words = write(tmp_path, "a.mp4", "a.vtt")
    (elsewhere,) = write(tmp_path / "text", "a.srt")
    assert loose_recordings([a])["a"].transcript == words
    assert loose_recordings([a], tmp_path / "text")["a"].transcript == elsewhere
    assert loose_recordings([a], elsewhere)["a"].transcript == elsewhere
    with pytest.raises(MissingData, match="no transcript"):
        loose_recordings([a], tmp_path / "none")
    (b,) = write(tmp_path, "b.mp4")
    with pytest.raises(UsageError, match="one transcript is given for 2"):
        loose_recordings([a, b], elsewhere)


def test_sound_and_crops_are_told_from_films(tmp_path):
    (sound,) = write(tmp_path, "a.WAV")
    write(tmp_path / "b", "00001.jpg")
    (film,) = write(tmp_path, "b.mp4")
    found = loose_recordings([sound, tmp_path / "b"])
    assert (found["a"].audio, found["a"].video) == (sound, None)
    assert (found["b"].crops, found["b"].video) == (tmp_path / "b", film)


def test_no_media_is_said():
    with pytest.raises(UsageError, match="no media"):
        loose_recordings([])
