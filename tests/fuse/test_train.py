"""Stage two through its public surface, on a small cache whose labels can be learnt."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cache.errors import AmbiguousStream, CacheError, ConfigError, UnknownName, UsageError
from cache.recipe import build
from cache.records import Aligned
from cache.store import FeatureCache
from fuse.feeding.data import open_partition, open_test, permuted
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams, named_streams
from fuse.feeding.windows import make_windows
from fuse.heads import HEADS
from fuse.numbers.metrics import ccc_va
from fuse.plots import plot_ablation, plot_circumplex, plot_traces, predicted_by
from fuse.predict import predict
from fuse.recipe import TrainRecipe, protocol_of, train_recipe
from fuse.tables.ablate import AblateRecipe, run_ablate
from fuse.tables.ranked import conclude
from fuse.tables.report import ablation_table, run_table
from fuse.tables.table_files import markdown
from fuse.temporal import TemporalOptions
from fuse.train import prepare, run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 6}


def recipe(cache, tmp_path, head="concat", **more):
    return TrainRecipe(head=head, cache=cache.root, runs=tmp_path / "runs", **{**SMALL, **more})


@pytest.fixture(scope="module")
def trained(toy_cache, tmp_path_factory):
    return run_train(recipe(toy_cache, tmp_path_factory.mktemp("trained")), quiet=True)


def test_a_head_learns_what_the_streams_tell(trained):
    assert trained.evaluations["test"].raw.mean > 0.6
    assert trained.evaluations["validation"].raw.mean > 0.6
    assert set(trained.evaluations) == {"validation", "test"}


def test_the_saved_predictions_give_the_reported_number(trained, toy_cache):
    split = toy_cache.labels.partitions("va")
    pred, va, labelled = [], [], []
    for recording in split.members("test"):
        times, values = predicted_by(Path(trained.folder), "test", recording)
        assert np.abs(times - toy_cache.timelines.read(recording).pts).max() < 1e-6
        label = toy_cache.labels.read("va", recording)
        pred.append(values)
        va.append(label.va)
        labelled.append(label.labelled)
    scores = ccc_va(np.concatenate(pred), np.concatenate(va), np.concatenate(labelled))
    assert scores.mean == pytest.approx(trained.evaluations["test"].raw.mean, abs=1e-5)


def test_the_run_folder_says_how_to_repeat_the_run(trained, toy_cache):
    folder = Path(trained.folder)
    saved = json.loads((folder / "recipe.json").read_text())
    assert saved["tokens"] == 32
    assert saved["weight_decay"] is not None
    environment = json.loads((folder / "environment.json").read_text())
    assert [s["key"] for s in environment["streams"]] == [toy_cache.resolve(n).key for n in ("face", "voice", "words")]
    assert torch.__version__.startswith(environment["packages"]["torch"])
    assert set(environment["packages"]) == {"affuse", "torch", "numpy", "zarr", "scikit-learn"}
    with open(folder / "history.csv") as file:
        assert len(list(csv.DictReader(file))) == trained.epochs
    for name in ("best.safetensors", "normalisation.safetensors", "metrics.json"):
        assert (folder / name).stat().st_size


def test_pitfall_27_same_seed_same_bits_and_another_seed_differs(toy_cache, tmp_path):
    runs = [
        run_train(recipe(toy_cache, tmp_path / str(i), epochs=2, seed=s), quiet=True) for i, s in enumerate((0, 0, 1))
    ]
    weights = [(Path(r.folder) / "best.safetensors").read_bytes() for r in runs]
    assert weights[0] == weights[1] != weights[2]
    assert runs[0].evaluations == runs[1].evaluations


def test_labels_permuted_across_recordings_teach_nothing(toy_cache, tmp_path):
    scores = [
        run_train(recipe(toy_cache, tmp_path, permute_labels=True, seed=s), quiet=True).evaluations["test"].raw.mean
        for s in range(8)
    ]
    assert abs(np.mean(scores)) < 0.1


def test_permuting_moves_every_recordings_labels(toy_cache):
    corpus = open_partition(take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va"), "train")
    moved = permuted(corpus, 0)
    for recording, length in zip(corpus.recordings, corpus.lengths, strict=True):
        assert len(moved.labels[recording].va) == length
        assert not np.array_equal(moved.labels[recording].va[:50], corpus.labels[recording].va[:50])


def test_pitfall_23_statistics_are_the_training_partitions(toy_cache, tmp_path):
    streams = choose_streams(toy_cache, ())
    snapshot = take_snapshot(toy_cache, streams, "va")
    train = open_partition(snapshot, "train")
    parts = {"train": train, "test": open_test(snapshot, tmp_path, "a test", train.stats)}
    spec = toy_cache.resolve("face")
    rows = [toy_cache.read(spec.key, r) for r in toy_cache.labels.partitions("va").members("train")]
    values = np.concatenate([r.values[r.present] for r in rows])
    for corpus in parts.values():
        np.testing.assert_allclose(corpus.stats["face"].mean, values.mean(0), atol=1e-5)


def test_pitfall_25_a_batch_holds_the_features_labels_and_masks_of_its_frames(toy_cache):
    corpus = open_partition(take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va"), "train")
    windows = make_windows(corpus.lengths, 16, 3, 16)
    batch = corpus.batch(windows, np.arange(len(windows)), torch.device("cpu"))
    spec, stats = toy_cache.resolve("voice"), corpus.stats["voice"]
    for row, recording in enumerate(corpus.recordings[i] for i in batch.recording):
        stored, label = toy_cache.read(spec.key, recording), toy_cache.labels.read("va", recording)
        real = batch.real[row].numpy()
        frames = batch.frame[row].numpy()[real]
        assert np.array_equal(batch.present["voice"][row].numpy()[real], stored.present[frames])
        assert np.array_equal(batch.labelled[row].numpy()[real], label.labelled[frames])
        np.testing.assert_allclose(batch.va[row].numpy()[real], label.va[frames])
        expected = np.where(stored.present[frames, None], (stored.values[frames] - stats.mean) / stats.std, 0)
        np.testing.assert_allclose(batch.x["voice"][row].numpy()[real], expected, atol=1e-5)
        assert not batch.labelled[row].numpy()[~real].any()
        assert (batch.x["voice"][row].numpy()[~real] == 0).all()


def test_pitfall_28_training_never_reads_the_test_labels(toy_cache, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(toy_cache.root, root)
    spoiled = FeatureCache(root)
    labels = {r: spoiled.labels.read("va", r) for r in spoiled.labels.recordings("va")}
    split = spoiled.labels.partitions("va")
    for recording in split.members("test"):
        labels[recording].va[:] = -labels[recording].va
    spoiled.labels.write("va", labels, split)
    honest = run_train(recipe(toy_cache, tmp_path / "a", epochs=2), quiet=True)
    other = run_train(recipe(spoiled, tmp_path / "b", epochs=2), quiet=True)
    weights = [(Path(r.folder) / "best.safetensors").read_bytes() for r in (honest, other)]
    assert weights[0] == weights[1]
    assert honest.evaluations["test"].raw.mean == pytest.approx(-other.evaluations["test"].raw.mean, abs=0.2)


TINY = {  # options that make a head small
    "maven": {"d": 16, "heads": 2}, "leader-follower": {"width": 16, "d_k": 8}, "tcn": {"width": 16},
    "rjca": {"width": 16}, "can": {"width": 16}, "cross-attention": {"hidden": 16},
}  # fmt: skip


@pytest.mark.parametrize("temporal", [{}, {"visual": "tcn", "audio": "gru", "text": "transformer"}])
@pytest.mark.parametrize("head", sorted(set(HEADS.names()) - {"gated"}))
def test_every_head_trains_from_the_cache_and_is_whole_in_its_run_folder(toy_cache, tmp_path, head, temporal):
    if head == "ridge" and temporal:
        return  # refused; test_temporal.py
    made = recipe(toy_cache, tmp_path, head, streams=("voice",) if head == "unimodal" else (), epochs=1, tokens=16)
    front = TemporalOptions(width=8, heads=2, layers=1)
    made = replace(made, options=TINY.get(head, {}), temporal=temporal, temporal_options=front)
    result = run_train(made, quiet=True)
    assert np.isfinite(result.evaluations["test"].raw.mean)
    again = prepare(replace(made, seed=7))
    protocol, streams, model = again.protocol, again.streams, again.head
    model.load_state_dict(load_file(Path(result.folder) / "best.safetensors"))
    snapshot = take_snapshot(toy_cache, streams, "va")
    test = open_test(snapshot, tmp_path, "test", open_partition(snapshot, "train").stats)
    windows = make_windows(test.lengths, protocol.tokens, protocol.stride, protocol.hop)
    for name, pred in predict(model, test, windows, protocol.batch_size).items():
        saved = np.loadtxt(Path(result.folder) / "predictions" / "test" / f"{name}.csv", delimiter=",", skiprows=1)
        np.testing.assert_allclose(saved[:, 2:], pred, atol=1e-6)


@pytest.fixture
def copied(toy_cache, tmp_path):
    """A copy of the toy cache that a test may spoil."""
    shutil.copytree(toy_cache.root, tmp_path / "cache")
    return FeatureCache(tmp_path / "cache")


def test_a_stream_that_is_absent_everywhere_is_left_out_unless_named(copied, tmp_path, caplog):
    spec = copied.declare("mute", "audio", 3, {}, {})
    for recording in copied.timelines.recordings():
        count = len(copied.timelines.read(recording))
        nothing = Aligned(np.zeros((count, 3), np.float32), np.zeros(count, bool))
        copied.write(spec.key, recording, nothing, {"absent_frames": count})
    with caplog.at_level("INFO", "affuse"):
        assert run_train(recipe(copied, tmp_path, epochs=1), quiet=True).streams == ["face", "voice", "words"]
    assert f"stream {spec.key} is absent in every recording and left out" in caplog.text
    with pytest.raises(CacheError, match=r"absent in every frame.*leave it out"):
        run_train(recipe(copied, tmp_path, streams=("face", "mute")), quiet=True)


def test_none_leaves_a_modality_out_and_a_name_leaves_the_others_out(toy_cache):
    def chosen(**named):
        said = named_streams(toy_cache, {"visual": None, "audio": None, "text": None, **named})
        return [s.name for s in choose_streams(toy_cache, tuple(said["streams"] or ()), tuple(said["without"] or ()))]

    assert chosen() == ["face", "voice", "words"]
    assert chosen(audio=[]) == ["face", "words"]
    assert chosen(visual=["face"], text=["words"]) == ["face", "words"]
    assert chosen(visual=["face"], audio=[]) == ["face"]
    with pytest.raises(UsageError, match="stream 'face' is visual; give it as --visual face"):
        chosen(audio=["face"])
    with pytest.raises(UsageError, match="no stream is left"):
        chosen(visual=[], audio=[], text=[])
    with pytest.raises(UsageError, match="of the streams face none is left"):
        choose_streams(toy_cache, ("face",), ("visual",))


def test_a_partition_without_a_labelled_frame_stops_before_training_or_is_not_scored(copied, tmp_path, caplog):
    split = copied.labels.partitions("va")
    labels = {r: copied.labels.read("va", r) for r in copied.labels.recordings("va")}
    for recording in split.members("test"):
        labels[recording].labelled[:] = False
    copied.labels.write("va", labels, split)
    result = run_train(recipe(copied, tmp_path, epochs=1), quiet=True)
    assert set(result.evaluations) == {"validation"}
    assert "test is not scored" in caplog.text
    copied.labels.write("va", {r: v for r, v in labels.items() if r not in split.members("test")}, split)
    assert set(run_train(recipe(copied, tmp_path, epochs=1), quiet=True).evaluations) == {"validation"}
    for recording in split.members("train"):
        labels[recording].labelled[:] = False
    copied.labels.write("va", labels, split)
    with pytest.raises(CacheError, match=r"partition 'train'.*its partitions are"):
        run_train(recipe(copied, tmp_path), quiet=True)


def test_typos_in_a_training_recipe_are_errors(toy_cache, tmp_path):
    for text, message in (
        ("lr = 0.5\n", "'lr'.*settings of runs go under"),
        ("[trian]\nlr = 1\n", "did you mean 'train'"),
        ("[heads.concta]\nlr = 1\n", "did you mean 'concat'"),
        ("[train]\nepohcs = 1\n", "did you mean 'epochs'"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            train_recipe(toy_cache.root, tmp_path / "bad.toml", {"head": "concat"})


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"lr": -1.0}, {"seed": -1}, {"clip": 0.0}, {"smooth": 4}, {"options": {"dropout": 2.0}}],
)
def test_numbers_that_cannot_train_are_named_before_anything_runs(toy_cache, tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong)) if "options" not in wrong else "dropout"):
        run_train(recipe(toy_cache, tmp_path, **wrong), quiet=True)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_device_is_a_usage_error(toy_cache, tmp_path):
    with pytest.raises(UsageError, match="'gpu0' is no device"):
        run_train(recipe(toy_cache, tmp_path, device="gpu0"), quiet=True)


def test_the_heads_own_protocol_fills_what_the_recipe_leaves_open():
    own = protocol_of(TrainRecipe(head="jca", cache=Path("x")))
    assert (own.tokens, own.stride, own.batch_size) == (16, 32, 64)
    given = protocol_of(TrainRecipe(head="maven", cache=Path("x"), tokens=50, lr=0.5))
    assert (given.tokens, given.hop, given.lr, given.loss) == (50, 50, 0.5, "mse")


def test_wrong_recipes_say_what_is_right(toy_cache, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'jca'"):
        run_train(recipe(toy_cache, tmp_path, "jac"))
    with pytest.raises(ConfigError, match="it takes"):
        run_train(recipe(toy_cache, tmp_path, "concat", options={"zzz": 1}))
    with pytest.raises(CacheError, match="did you mean 'face'"):
        run_train(recipe(toy_cache, tmp_path, streams=("fase",)))
    with pytest.raises(UsageError, match="unimodal"):
        run_train(recipe(toy_cache, tmp_path, "unimodal"))
    with pytest.raises(CacheError, match="there are: va"):
        run_train(recipe(toy_cache, tmp_path, labels="expr"))
    with pytest.raises(UsageError, match="epochs is 0"):
        run_train(recipe(toy_cache, tmp_path, epochs=0))


def test_two_fingerprints_under_one_name_stop_before_training(toy_cache, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(toy_cache.root, root)
    FeatureCache(root).declare("face", "visual", 6, {"encoder": "face", "layer": 2}, {})
    with pytest.raises(AmbiguousStream, match="layer=2"):
        run_train(recipe(FeatureCache(root), tmp_path), quiet=True)


def test_an_incomplete_stream_names_a_recording(toy_cache, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(toy_cache.root, root)
    cache = FeatureCache(root)
    shutil.rmtree(root / "features" / cache.resolve("words").key / "rec3")
    with pytest.raises(CacheError, match="lacks 1 of 5 recordings, such as 'rec3'"):
        run_train(recipe(cache, tmp_path), quiet=True)
    run_train(recipe(cache, tmp_path, skip_incomplete=True, epochs=1), quiet=True)


def test_an_ablation_is_the_same_as_its_runs_and_leaves_a_table(toy_cache, tmp_path):
    rows = ({"label": "voice alone", "head": "unimodal", "streams": ["voice"]}, {"label": "all", "head": "concat"})
    data = {
        "cache": toy_cache.root,
        "runs": tmp_path / "runs",
        "rows": rows,
        "seeds": 2,
        "train": {**SMALL, "epochs": 2},
    }
    results = run_ablate(build(AblateRecipe, data), quiet=True)
    alone = run_train(recipe(toy_cache, tmp_path / "again", epochs=2, seed=1), quiet=True)
    assert results[1].raw["mean"].values[1] == alone.evaluations["test"].raw.mean
    assert results[1].raw["mean"].mean == pytest.approx(np.mean(results[1].raw["mean"].values))
    table = conclude(results, "test")
    assert "voice alone" in markdown(table)
    assert ablation_table(table).row_count == 2
    assert run_table(alone).row_count == 12
    assert results[1].intervals["raw"].mean.low < results[1].raw["mean"].mean < results[1].intervals["raw"].mean.high
    labels = {r: toy_cache.labels.read("va", r) for r in toy_cache.labels.partitions("va").members("test")}
    run = Path(results[1].folders[0])
    plot_ablation(tmp_path / "a.png", results, "test")
    plot_circumplex(tmp_path / "b.png", run, "test", labels)
    plot_traces(tmp_path / "c.png", "rec7", run, "test", labels["rec7"])
    assert all((tmp_path / f"{n}.png").read_bytes()[:4] == b"\x89PNG" for n in "abc")


def test_a_bad_row_stops_an_ablation_before_it_trains(toy_cache, tmp_path):
    data = {"cache": toy_cache.root, "rows": [{"label": "x", "head": "concat", "set": {"epohs": 2}}]}
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        run_ablate(build(AblateRecipe, data), quiet=True)


@pytest.mark.slow
def test_the_readmes_head_passes_the_contract_tests(tmp_path):
    top = Path(__file__).parents[2]
    code = (top / "README.md").read_text().split("```python\n# my_head.py\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 20
    (tmp_path / "my_head.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "--plugin", tmp_path / "my_head.py", "tests/fuse", "-k", "gated"]
    result = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=top, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout


def test_the_cache_that_was_asked_for_is_the_one_that_is_used(toy_cache, tmp_path):
    (tmp_path / "r.toml").write_text('[train]\ncache = "elsewhere"\nepochs = 3\n')
    made = train_recipe(toy_cache.root, tmp_path / "r.toml", {"head": "concat"})
    assert (made.cache, made.epochs) == (toy_cache.root, 3)


def test_an_ablations_shared_settings_reach_its_rows_and_the_rest_is_refused(toy_cache, tmp_path):
    def table(train, **more):
        rows = [{"label": "x", "head": "concat", **more}]
        recipe = {"cache": toy_cache.root, "runs": tmp_path, "seeds": 1, "rows": rows, "train": {**SMALL, **train}}
        return run_ablate(build(AblateRecipe, recipe), quiet=True)

    assert table({"streams": ["face"], "epochs": 1})[0].streams == ["face"]
    with pytest.raises(ConfigError, match=r"'seed' of an ablation is not set under \[train\]"):
        table({"seed": 3})
    with pytest.raises(ConfigError, match="'head' of an ablation is not set under set"):
        table({}, set={"head": "jca"})


def test_all_rows_are_checked_before_the_first_one_trains(toy_cache, tmp_path):
    rows = [{"label": "good", "head": "concat"}, {"label": "bad", "head": "concta"}]
    data = {"cache": toy_cache.root, "runs": tmp_path / "runs", "rows": rows, "seeds": 1, "train": SMALL}
    with pytest.raises(UnknownName, match="did you mean 'concat'"):
        run_ablate(build(AblateRecipe, data), quiet=True)
    with pytest.raises(UsageError, match="not on 'tset'"):
        run_ablate(build(AblateRecipe, {**data, "rows": rows[:1], "partition": "tset"}), quiet=True)
    assert not (tmp_path / "runs").exists()
