"""An encoder fitted to labels: examples at the right times, test labels never read, weights that extraction takes."""

import json
import shlex
import shutil

import av
import numpy as np
import pytest
import torch
from PIL import Image

from cache.errors import CacheError, ConfigError, DataError, UsageError
from cache.store import FeatureCache
from extract.datasets import open_dataset
from extract.datasets.manifest import Manifest
from extract.examples import Sampling, collect
from extract.finetune import run_train_encoder
from extract.finetune_recipe import make_encoder, train_encoder_recipe
from extract.recipe import extract_recipe
from extract.run import run_extract
from extract.spool import Spool
from fuse.losses import ccc
from fuse.numbers.metrics import ccc_va

RATE, SECONDS = 16_000, 8
MICRO = {"size": "micro"}


def feeling(seed):
    """Valence and arousal of a recording, f64[T,2], slow and within [-0.9, 0.9]."""
    t = np.arange(SECONDS * 25) / 25
    rng = np.random.default_rng(seed)
    return 0.9 * np.sin(rng.uniform(0.6, 1.4, 2) * t[:, None] + rng.uniform(0, 6, 2))


def sound_of(va, seed):
    """A quiet tone whose pitch is valence and a rattle as fast as arousal, in noise whose loudness means nothing."""
    at = np.minimum(np.arange(SECONDS * RATE) * 25 // RATE, len(va) - 1)
    rng = np.random.default_rng(seed)
    tone = np.sin(np.cumsum(2 * np.pi * (1200 + 900 * va[at, 0]) / RATE))
    rattle = np.sin(np.cumsum(2 * np.pi * (12 + 8 * va[at, 1]) / RATE)) > 0
    noise = rng.standard_normal(len(at)) * np.repeat(rng.uniform(0.02, 0.12, SECONDS), RATE)
    return (0.08 * tone * (0.3 + rattle) + noise).astype(np.float32)


def picture_of(va, seed):
    """A bright spot: valence across, arousal down, before a ground whose brightness means nothing."""
    ground = np.random.default_rng(seed).integers(0, 120, len(va))

    def picture(i):
        image = np.full((64, 64, 3), ground[i], np.uint8)
        y, x = (int(32 + 22 * v) for v in va[i, ::-1])
        image[y - 6 : y + 6, x - 6 : x + 6] = (255, 200, 40)
        return image

    return picture


@pytest.fixture
def corpus(media, manifest, tmp_path):
    """Six recordings; pictures and sound both know valence and arousal."""
    rows = {}
    for i, partition in enumerate(["train"] * 4 + ["validation", "test"]):
        va, labels = feeling(i), tmp_path / f"r{i}.txt"
        labels.write_text("valence,arousal\n" + "\n".join(f"{v:.4f},{a:.4f}" for v, a in va) + "\n")
        times = np.arange(len(va)) / 25
        path = media(tmp_path / f"r{i}.mkv", times, picture=picture_of(va, i), sound=sound_of(va, i))
        rows[f"r{i}"] = {"video": path, "labels": labels, "partition": partition}
    return manifest(**rows)


def fit(corpus, tmp_path, encoder, **more):
    given = {"encoder": encoder, "dataset": "manifest", "root": corpus, "out": tmp_path / "out", "device": "cpu"}
    recipe = train_encoder_recipe({**given, "options": MICRO, "batch_size": 32, **more})
    return run_train_encoder(recipe, ccc, ccc_va, quiet=True)


def probed(corpus, tmp_path, encoder, modality, weights):
    """Mean CCC on validation of a linear readout, fitted on train, of the encoder's extracted stream."""
    root = tmp_path / "cache"
    given = {"dataset": "manifest", "root": corpus, "cache": root, "visual": [], "audio": [], "text": []}
    given |= {modality: [encoder], encoder: {**MICRO, "weights": str(weights)}, "device": "cpu"}
    result = run_extract(extract_recipe(given), quiet=True)
    assert not result.failures
    cache, (key,) = FeatureCache(root), result.streams
    labels, split = cache.labels.read("va", "r0"), cache.labels.partitions("va")
    assert labels.labelled.all()

    def gathered(partition):
        names = split.members(partition)
        x = np.concatenate([cache.read(key, r).values for r in names])
        return x, np.concatenate([cache.labels.read("va", r).va for r in names])

    (x, y), (x_new, y_new) = gathered("train"), gathered("validation")
    mean, std = x.mean(0), x.std(0) + 1e-4
    x, x_new = (np.c_[(a - mean) / std, np.ones(len(a))] for a in (x, x_new))
    readout = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
    return ccc_va(x_new @ readout, y_new, np.ones(len(y_new), bool)).mean, key


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "modality"), [("spectrogram", "audio"), ("resnet18", "visual")])
def test_fitting_lifts_the_stream_over_its_random_weights(corpus, tmp_path, encoder, modality):
    made = fit(corpus, tmp_path, encoder, epochs=12, every=2, lr=1e-3, flip=False)
    before, random_key = probed(corpus, tmp_path, encoder, modality, "random:0")
    after, fitted_key = probed(corpus, tmp_path, encoder, modality, made.folder)
    assert after > before + 0.1
    assert random_key != fitted_key


def test_the_same_seed_gives_the_same_bits_and_the_folder_says_what_was_done(corpus, tmp_path):
    first = fit(corpus, tmp_path, "resnet18", epochs=2, every=10, batch_size=33)
    files = {p.name: p.read_bytes() for p in sorted((tmp_path / "out").glob("*/*"))}
    shutil.rmtree(tmp_path / "out")
    again = fit(corpus, tmp_path, "resnet18", epochs=2, every=10, batch_size=33)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*/*.safetensors")} == {
        n: b for n, b in files.items() if n.endswith(".safetensors")
    }
    assert first.examples == again.examples == {"train": 80, "validation": 20}
    assert set(files) == {"model.safetensors", "head.safetensors", "recipe.json", "history.csv", "metrics.json"}
    assert json.loads(files["recipe.json"])["seed"] == 0
    assert len(files["history.csv"].splitlines()) == 3
    assert not list((tmp_path / "out").glob(".scratch*"))
    other = fit(corpus, tmp_path, "resnet18", epochs=2, every=10, seed=1)
    assert (tmp_path / "out").joinpath(other.folder, "model.safetensors").read_bytes() != files["model.safetensors"]


def test_pitfall_28_test_labels_are_never_read(corpus, tmp_path, monkeypatch):
    annotation, read = Manifest.annotation, set()

    def guarded(self, recording):
        read.add(recording.id)
        return annotation(self, recording)

    monkeypatch.setattr(Manifest, "annotation", guarded)
    assert fit(corpus, tmp_path, "resnet18", epochs=1, every=20).epoch == 1
    assert read == {"r0", "r1", "r2", "r3", "r4"}


def test_examples_are_at_the_labelled_frames_of_the_containers_clock(media, manifest, tmp_path):
    pts = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.12, 60))
    path = media(tmp_path / "vfr.mkv", pts, picture=lambda i: np.full((64, 64, 3), 4 * i, np.uint8))
    rows = [f"{t:.6f},{(4 * i) / 255:.6f},{-1 if i % 3 else 1}" for i, t in enumerate(pts)]
    labels = tmp_path / "labels.csv"
    labels.write_text("time,valence,arousal\n" + "\n".join(rows) + "\n")
    root = manifest(a={"video": path, "labels": labels, "partition": "train"})
    encoder = make_encoder(
        train_encoder_recipe({"encoder": "resnet18", "dataset": "manifest", "root": root, "options": MICRO})
    )
    encoder.load(torch.device("cpu"))
    examples = collect(open_dataset("manifest", root, {}), "train", encoder, Sampling(3, None, tmp_path), quiet=True)
    pictures = examples.inputs[:]
    assert pictures.shape == (20, 3, 64, 64)
    np.testing.assert_allclose(pictures.mean((1, 2, 3)) / 255, examples.va[:, 0], atol=0.015)
    assert (examples.va[:, 1] > 0.9).all()  # the neighbours of each are at -1
    examples.close()


def test_a_spectrogram_is_that_of_the_row_that_holds_at_the_label(corpus, tmp_path):
    recipe = train_encoder_recipe({"encoder": "spectrogram", "dataset": "manifest", "root": corpus, "options": MICRO})
    encoder, dataset = make_encoder(recipe), open_dataset("manifest", corpus, {})
    encoder.load(torch.device("cpu"))
    examples = collect(dataset, "validation", encoder, Sampling(7, None, tmp_path), quiet=True)
    assert len(examples) == len(range(0, 200, 7))
    given = {"dataset": "manifest", "root": corpus, "cache": tmp_path / "cache", "visual": [], "text": []}
    given |= {"audio": ["spectrogram"], "spectrogram": {**MICRO, "weights": "random:0"}, "dtype": "float32"}
    (key,) = run_extract(extract_recipe(given), quiet=True).streams
    stored = FeatureCache(tmp_path / "cache").read(key, "r4").values
    with torch.inference_mode():
        rows = encoder.embed(torch.from_numpy(examples.inputs[:])).numpy()
    np.testing.assert_allclose(rows, stored[::7], atol=1e-3)
    examples.close()


def collected(root, tmp_path, partition="train", encoder="spectrogram", fps=None):
    given = {"encoder": encoder, "dataset": "manifest", "root": root, "options": MICRO}
    made = make_encoder(train_encoder_recipe(given))
    made.load(torch.device("cpu"))
    return collect(open_dataset("manifest", root, {}), partition, made, Sampling(1, fps, tmp_path), quiet=True)


def test_what_is_left_out_is_told_in_a_line_and_the_rest_is_trained_on(corpus, tmp_path, caplog, monkeypatch):
    """One that is no media, two without labels, one whose reader fails in a way that nobody thought of."""
    (tmp_path / "bad.mkv").write_text("no media")
    rows = [line.split(",") for line in corpus.read_text().splitlines()]
    named = {row[0]: row for row in rows}
    named["r0"][1] = str(tmp_path / "bad.mkv")
    labels = rows[0].index("labels")
    extra = [[f"s{i}", *named["r1"][1:labels], "", *named["r1"][labels + 1 :]] for i in (1, 2)]
    corpus.write_text("".join(",".join(r) + "\n" for r in [*rows, *extra]))
    annotation = Manifest.annotation

    def failing(self, recording):
        if recording.id == "r2":
            raise RuntimeError("a bug in a corpus of one's own")
        return annotation(self, recording)

    monkeypatch.setattr(Manifest, "annotation", failing)
    made = fit(corpus, tmp_path, "spectrogram", epochs=1, every=10)
    assert made.examples == {"train": 40, "validation": 20}
    assert made.left_out == {"train": ["r0", "r2", "s1", "s2"], "validation": []}
    told = [m for m in caplog.messages if "left out" in m]
    assert len(told) == 3
    assert "train: 1 left out, r0: " in told[0]
    assert "bad.mkv cannot be opened as media" in told[0]
    assert "1 left out, r2: RuntimeError: a bug in a corpus of one's own; python cli.py doctor says" in told[1]
    assert "train: 2 left out, s1, s2: no labels" in told[2]
    assert json.loads((tmp_path / "out").glob("*/metrics.json").__next__().read_text())["left_out"]["train"]


def test_a_full_disk_ends_a_training(corpus, tmp_path, monkeypatch):
    def full(self, rows):
        raise CacheError("cannot write: the disk is full")

    monkeypatch.setattr(Spool, "append", full)
    with pytest.raises(CacheError, match="the disk is full"):
        fit(corpus, tmp_path, "resnet18", epochs=1)


@pytest.mark.parametrize("encoder", ["resnet18", "spectrogram"])
@pytest.mark.parametrize("timed", [False, True])
def test_labels_of_a_part_and_labels_past_the_end_are_used_where_there_are_media(
    media, manifest, tmp_path, encoder, timed
):
    pts, loud = np.arange(100) / 25, np.full(4 * RATE, 0.1, np.float32)
    film = media(tmp_path / "a.mkv", pts, sound=loud)
    rows = {}
    for name, labelled in {"part": range(40), "over": range(400)}.items():
        time = ["time,"] + [f"{i / 25:.2f}," for i in labelled] if timed else [""] * (1 + len(labelled))
        va = ["valence,arousal", *(f"{i / 400:.4f},0" for i in labelled)]
        (tmp_path / f"{name}.csv").write_text("\n".join(map("".join, zip(time, va, strict=True))) + "\n")
        rows[name] = {"video": film, "labels": tmp_path / f"{name}.csv", "partition": "train"}
    examples = collected(manifest(**rows), tmp_path, encoder=encoder)
    assert not examples.left_out
    wanted = np.r_[np.arange(100), np.arange(40)] / 400  # in order of names: over, part
    np.testing.assert_allclose(examples.va[:, 0], wanted, atol=1e-4)
    assert len(examples.inputs) == len(wanted)
    examples.close()


def test_sound_that_ends_early_is_used_as_far_as_it_goes(media, manifest, tmp_path):
    film = media(tmp_path / "a.mkv", np.arange(100) / 25, sound=np.full(RATE, 0.1, np.float32))
    (tmp_path / "a.csv").write_text("valence,arousal\n" + "".join(f"{i / 100},0\n" for i in range(100)))
    examples = collected(manifest(a={"video": film, "labels": tmp_path / "a.csv", "partition": "train"}), tmp_path)
    assert 25 <= len(examples) <= 28  # AAC pads its last block
    np.testing.assert_allclose(examples.va[:, 0], np.arange(len(examples)) / 100, atol=1e-6)
    examples.close()


def test_a_damaged_crop_ends_its_recording_and_says_how_much_of_it_is_used(manifest, tmp_path, caplog):
    (tmp_path / "crops").mkdir()
    for i in range(100):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "crops" / f"{i + 1:05d}.png")
    (tmp_path / "crops" / "00090.png").write_bytes(b"no picture")
    (tmp_path / "a.csv").write_text("valence,arousal\n" + "0,0\n" * 100)
    root = manifest(a={"crops": tmp_path / "crops", "labels": tmp_path / "a.csv", "partition": "train"})
    examples = collected(root, tmp_path, encoder="resnet18", fps=25.0)
    assert (len(examples), len(examples.inputs), examples.left_out) == (64, 64, [])
    assert "train: of a only the first 64 examples are used: face crop" in caplog.messages[-1]
    examples.close()


@pytest.mark.parametrize("fps", [None, 10.0])
def test_a_corpus_of_sound_alone_trains_on_the_frames_that_extraction_lays_over_it(media, tmp_path, fps, corpus):
    """The same rows of sound and labels as the stream in the cache, and through a whole training."""
    for path in tmp_path.glob("r*.mkv"):
        with av.open(str(path)) as film, av.open(str(path.with_suffix(".wav")), "w") as out:
            wave = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
            for frame in film.decode(audio=0):
                frame.pts = None
                out.mux(wave.encode(frame))
            out.mux(wave.encode(None))
    lines = corpus.read_text().splitlines()
    header = lines[0].replace("video,audio", "audio,video")
    corpus.write_text("\n".join([header, *(line.replace(".mkv", ".wav") for line in lines[1:])]) + "\n")
    given = {"dataset": "manifest", "root": corpus, "cache": tmp_path / "cache", "visual": [], "text": [], "fps": fps}
    given |= {"audio": ["spectrogram"], "spectrogram": {**MICRO, "weights": "random:0"}, "dtype": "float32"}
    (key,) = run_extract(extract_recipe(given), quiet=True).streams
    cache = FeatureCache(tmp_path / "cache")
    stored, labels = cache.read(key, "r4").values, cache.labels.read("va", "r4")
    encoder = make_encoder(
        train_encoder_recipe({"encoder": "spectrogram", "dataset": "manifest", "root": corpus, "options": MICRO})
    )
    encoder.load(torch.device("cpu"))
    sampling = Sampling(1, fps, tmp_path)
    examples = collect(open_dataset("manifest", corpus, {}), "validation", encoder, sampling, quiet=True)
    np.testing.assert_allclose(examples.va, labels.va[labels.labelled], atol=1e-6)
    with torch.inference_mode():
        rows = encoder.embed(torch.from_numpy(examples.inputs[:])).numpy()
    if fps is None:  # a row is a frame
        np.testing.assert_allclose(rows[:-2], stored[labels.labelled][:-2], atol=1e-3)
    examples.close()
    made = fit(corpus, tmp_path, "spectrogram", epochs=1, every=10, fps=fps)
    assert not any(made.left_out.values())
    assert made.examples["train"] == 4 * made.examples["validation"]


def test_pictures_of_sound_alone_are_left_out(media, manifest, tmp_path, caplog):
    (tmp_path / "a.csv").write_text("valence,arousal\n" + "0,0\n" * 25)
    path = media(tmp_path / "a.mkv", [0.0], sound=np.full(RATE, 0.1, np.float32))
    root = manifest(a={"audio": path, "labels": tmp_path / "a.csv", "partition": "train"})
    with pytest.raises(DataError, match="no labelled frame with visual data in partition 'train'"):
        collected(root, tmp_path, encoder="resnet18")
    assert "train: 1 left out, a: no visual data at its labelled frames" in caplog.messages[-1]


def test_a_rate_that_no_frames_have_is_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"fps is 0; wanted frames a second, above 0 and up to 1000"):
        fit(corpus, tmp_path, "spectrogram", fps=0.0)


def test_extraction_takes_trained_weights_as_it_is_told_to_and_refuses_them_otherwise(corpus, tmp_path):
    made = fit(corpus, tmp_path, "spectrogram", epochs=1, every=20, options={**MICRO, "window_s": 0.3})
    flag, asked = shlex.split(made.use)
    given = {"dataset": "manifest", "root": corpus, "visual": [], "text": [], "device": "cpu"}
    told = {**given, "cache": tmp_path / "told", flag.removeprefix("--"): [asked]}
    assert run_extract(extract_recipe(told), quiet=True).made == 6
    other = {**given, "cache": tmp_path / "other", "audio": ["spectrogram"]}
    with pytest.raises(DataError, match=r"were trained with window_s = 0\.3, not 1\.07; extract with"):
        run_extract(extract_recipe({**other, "spectrogram": {**MICRO, "weights": made.folder}}), quiet=True)


def test_what_cannot_be_trained_says_what_can(corpus, tmp_path):
    with pytest.raises(UsageError, match="'hubert' cannot be trained here; these can: resnet18, resnet50, spectrogram"):
        fit(corpus, tmp_path, "hubert")
    with pytest.raises(UsageError, match="no encoder is named; give --encoder NAME"):
        fit(corpus, tmp_path, "")
    with pytest.raises(ConfigError, match="every = 0; wanted 1 or more"):
        fit(corpus, tmp_path, "resnet18", every=0)
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        fit(corpus, tmp_path, "resnet18", epoch=3)


def test_a_corpus_without_validation_labels_says_so(corpus, tmp_path):
    corpus.write_text(corpus.read_text().replace("validation", "train"))
    with pytest.raises(DataError, match="no labelled frame with visual data in partition 'validation'"):
        fit(corpus, tmp_path, "resnet18", epochs=1)
