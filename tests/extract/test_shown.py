"""What a corpus adds to the page: the file that plays, and words; never another file than the cache was made from."""

import json

import numpy as np
import pytest

from cache.errors import MissingData
from cache.records import Timeline
from cache.store import FeatureCache
from extract.shown import shown, usual_root
from extract.source import identity

PTS = np.arange(25) / 25


@pytest.fixture
def corpus(tmp_path):
    """A film with words, one that changed since it was extracted, sound alone, no file, and sound beside a film."""
    root = tmp_path / "corpus"
    root.mkdir()
    for name in ("a.mp4", "b.mp4", "c.wav"):
        (root / name).write_bytes(b"x" * 10)
    (root / "e.mp4").write_bytes(b"e")
    (root / "a.srt").write_text("1\n00:00:00,200 --> 00:00:00,900\nhello <b>there</b>\n")
    (root / "manifest.csv").write_text(
        "id,video,audio,transcript\na,a.mp4,,a.srt\nb,b.mp4,,\nc,,c.wav,\nd,gone.mp4,,\ne,e.mp4,c.wav,\n"
    )
    cache = FeatureCache.create(tmp_path / "cache", "manifest")
    for name in ("a", "b"):
        cache.timelines.write(name, Timeline(PTS, 1.0), {"source": identity(root / f"{name}.mp4")})
    cache.timelines.write("c", Timeline(PTS, 1.0), {"clock": "nominal"})  # as one that was imported
    (root / "b.mp4").write_bytes(b"another film")
    return root, cache


def test_what_plays_is_what_the_cache_was_made_from(corpus):
    root, cache = corpus
    found = shown(cache, "manifest", root, {})
    assert found.media == {"a": root / "a.mp4", "c": root / "c.wav", "e": root / "e.mp4"}
    assert found.sound == {"e": root / "c.wav"}
    assert len(found.notes) == 1
    assert found.notes[0].startswith("b is shown without its media: b.mp4 has 12 bytes")
    assert found.words("a") == [("hello there", 0.2, 0.9)]
    assert found.words("c") == []


def test_words_that_were_recognised_are_there_without_the_corpus(corpus):
    _, cache = corpus
    folder = cache.root / "transcripts" / "whisper-0123456789ab"
    folder.mkdir(parents=True)
    words = [{"word": " bonjour", "start": 0.1, "end": 0.5}]
    segment = {"start": 0.1, "end": 0.5, "text": "bonjour", "words": words}
    (folder / "b.json").write_text(json.dumps({"segments": [segment]}))
    found = shown(cache, "manifest", None, {})
    assert found.words("b") == [("bonjour", 0.1, 0.5)]
    assert (found.media, found.words("a")) == ({}, [])


def test_a_folder_of_films_needs_no_corpus(corpus):
    root, cache = corpus
    for name, file in (("a~01", "a.mp4"), ("b~02", "c.wav")):
        cache.timelines.write(name, Timeline(PTS, 1.0), {"source": identity(root / file)})
    found = shown(cache, "media", root, {})
    assert found.media["a~01"] == root / "a.mp4"
    assert "b~02" not in found.media  # its film has another size now
    assert found.words("a~01") == found.words("a")
    assert found.media["c"] == found.media["c.wav"] == root / "c.wav"
    assert "manifest" not in found.media
    assert found.words("a") == [("hello there", 0.2, 0.9)]
    with pytest.raises(MissingData, match="there is no folder"):
        shown(cache, "media", root / "nowhere", {})


def test_a_corpus_is_found_where_it_usually_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert usual_root("toy") is None
    assert usual_root("") is None
    (tmp_path / "var" / "toy" / "corpus").mkdir(parents=True)
    assert str(usual_root("toy")) == "var/toy/corpus"
    (tmp_path / "data" / "toy").mkdir()
    assert str(usual_root("toy")) == "data/toy"
