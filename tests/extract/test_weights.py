"""Where weights come from, and what is said when they cannot be had."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cache.errors import DataError, UsageError, WeightsNotFound
from extract.encoders import ENCODERS
from extract.encoders._precision import halve
from extract.encoders._published import FILE, Published
from extract.encoders._tensors import fill, seeded, tensor_hash
from extract.encoders._weights import find, find_beside

PUBLISHED = Published("demo", ("org/demo",), ("config.json",))
PRETRAINED = ("swin", "resnet18", "resnet50", "hubert", "roberta")
OPEN = {
    "timm": "test_resnet.r160_in1k",
    "hf-audio": "microsoft/wavlm-base-plus",
    "hf-text": "google-bert/bert-base-cased",
}


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty hub cache and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(hub, repo: str, name: str, text: str = "{}") -> None:
    """A file as the hub's client keeps it."""
    home = hub / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text("abc")
    (home / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
    (home / "snapshots" / "abc" / name).write_text(text)


@pytest.mark.parametrize("name", [*PRETRAINED, *OPEN])
def test_without_weights_and_network_one_line_says_what_to_do(name, offline):
    cls = ENCODERS.get(name)
    encoder = cls(cls.Config(**({"model": OPEN[name]} if name in OPEN else {})))
    with pytest.raises(WeightsNotFound) as caught:
        encoder.signature()
    message = str(caught.value)
    assert "\n" not in message
    assert "random:0" in message
    assert "pass its folder" in message
    assert encoder.published.repos[0] in message


def test_an_unreachable_hub_is_found_out_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsNotFound, match="cannot be downloaded") as caught:
        find("hub", PUBLISHED)
    assert "\n" not in str(caught.value)


def test_hub_files_come_from_the_local_cache_first(offline):
    for name in (FILE, "config.json"):
        cached(offline, "org/demo", name)
    found = find("hub", PUBLISHED)
    assert sorted(found.files) == ["config.json", FILE]
    assert found.signature()[0] == "hub:org/demo"
    assert find("hub:org/demo", PUBLISHED) == find("", PUBLISHED) == found


def test_an_older_repository_name_in_the_local_cache_is_used(offline):
    cached(offline, "old-demo", FILE)
    assert find("hub", Published("demo", ("org/demo", "old-demo"))).spec == "hub:old-demo"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "demo.pth"])
def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path, name):
    torch.save({"w": torch.zeros(2)}, tmp_path / name)
    for spec in (tmp_path, tmp_path / name):
        with pytest.raises(WeightsNotFound, match="convert it once: python -c") as caught:
            find(str(spec), PUBLISHED)
        assert "\n" not in str(caught.value)


def test_the_conversion_that_is_suggested_works(tmp_path):
    shared = torch.arange(4.0)
    torch.save({"a": shared, "b": shared, "c": torch.ones(2, 3).T}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsNotFound) as caught:
        find(str(tmp_path), PUBLISHED)
    command = str(caught.value).split("python -c ")[1]
    assert os.system(f"cd {tmp_path} && {__import__('sys').executable} -c {command}") == 0
    assert find(str(tmp_path), PUBLISHED).files[FILE] == tmp_path / FILE


def test_local_specs(tmp_path):
    with pytest.raises(WeightsNotFound, match="no folder, file, hub id or seed"):
        find(str(tmp_path / "absent"), PUBLISHED)
    with pytest.raises(WeightsNotFound, match=r"has no model\.safetensors"):
        find(str(tmp_path), PUBLISHED)
    save_file({"w": torch.zeros(2)}, tmp_path / "any.safetensors")
    (tmp_path / "config.json").write_text("{}")
    folder, file = (find(str(p), PUBLISHED) for p in (tmp_path, tmp_path / "any.safetensors"))
    assert folder.files == file.files
    assert set(file.files) == {FILE, "config.json"}
    save_file({"w": torch.zeros(2)}, tmp_path / "more.safetensors")
    with pytest.raises(WeightsNotFound, match="2 safetensors files"):
        find(str(tmp_path), PUBLISHED)


def test_malformed_specs_are_usage_errors():
    for spec in ("random:", "random:x", "random:-1", "hub:", "hub:a/b/c"):
        with pytest.raises(UsageError):
            find(spec, PUBLISHED)


def test_sizes_without_published_weights_say_so():
    swin = ENCODERS.get("swin")
    with pytest.raises(WeightsNotFound, match="no published weights"):
        swin(swin.Config(size="micro")).signature()


def test_signature_follows_the_file(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / FILE)
    before = find(str(tmp_path), PUBLISHED).signature()
    assert before == find(str(tmp_path), PUBLISHED).signature()
    os.utime(tmp_path / FILE, ns=(1, 1))
    assert find(str(tmp_path), PUBLISHED).signature() != before


def test_hash_covers_names_types_shapes_and_bytes():
    w = torch.arange(6.0)
    states = [{"a": w}, {"b": w}, {"a": w.reshape(2, 3)}, {"a": w.double()}, {"a": w + 1}, {"a": w, "b": w}]
    hashes = [tensor_hash(s) for s in states] + [tensor_hash({"a": w}, "beside")]
    assert len(set(hashes)) == len(hashes)
    assert tensor_hash({"a": w, "b": w}) == tensor_hash({"b": w, "a": w.clone()})
    assert tensor_hash({"a": torch.ones(2, 3).T}) == tensor_hash({"a": torch.ones(3, 2)})


def test_wrong_tensors_are_named(tmp_path):
    net = torch.nn.Linear(3, 2)
    for state, words in (
        ({"weight": torch.zeros(2, 3)}, "lacks 1 tensors .bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, "unexpected 1 tensors .x"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight of shape \(2, 4\), wanted \(2, 3\)"),
    ):
        save_file(state, tmp_path / FILE)
        with pytest.raises(DataError, match=words):
            fill(net, tmp_path / FILE, ())
    (tmp_path / FILE).write_bytes(b"not weights")
    with pytest.raises(DataError, match="no readable safetensors"):
        fill(net, tmp_path / FILE, ())


def test_names_are_rewritten_and_heads_left_out(tmp_path):
    net = torch.nn.Linear(3, 2)
    save_file({"m.weight": torch.ones(2, 3), "m.bias": torch.ones(2), "head.w": torch.ones(1)}, tmp_path / FILE)
    fill(net, tmp_path / FILE, ((r"^m\.", ""), (r"^head\.", None)))
    np.testing.assert_array_equal(net.weight.detach().numpy(), np.ones((2, 3)))


def test_seeded_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (seeded(lambda: torch.nn.Linear(4, 4), s) for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.weight, b.weight)
    assert not torch.equal(a.weight, c.weight)


class _Hub:
    """A hub whose repository has a pickle only, and an open conversion of its newest commit."""

    def __init__(self, folder, *, parent="newest"):
        self.folder, self.parent = folder, parent

    def download(self, repo, name, *, revision):
        from huggingface_hub.errors import EntryNotFoundError

        if revision == "main" and name == "model.safetensors":
            raise EntryNotFoundError("404")
        path = self.folder / revision.replace("/", "_") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{revision} {name}")
        return str(path)

    def list_repo_commits(self, repo, revision="main"):
        ids = ["newest"] if revision == "main" else ["conversion", self.parent]
        return [SimpleNamespace(commit_id=i) for i in ids]

    def get_repo_discussions(self, repo, **kwargs):
        titles = ["Update README.md", "Adding `safetensors` variant of this model"]
        return [SimpleNamespace(title=t, git_reference=f"refs/pr/{i}") for i, t in enumerate(titles)]


@pytest.fixture
def pickle_only(tmp_path, monkeypatch):
    """Puts a _Hub in the place of the real one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=lambda *a, **k: None))

    def put(hub):
        monkeypatch.setattr("huggingface_hub.hf_hub_download", hub.download)
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)

    return put


def test_a_repository_of_pickles_is_read_through_the_hubs_conversion(pickle_only, tmp_path):
    pickle_only(_Hub(tmp_path))
    found = find("hub", Published("demo", ("org/demo",), ("config.json",)))
    assert found.spec == "hub:org/demo@refs/pr/1"
    assert {p.parent.name for p in found.files.values()} == {"refs_pr_1"}


def test_a_conversion_of_an_older_commit_is_not_taken(pickle_only, tmp_path):
    pickle_only(_Hub(tmp_path, parent="older"))
    with pytest.raises(WeightsNotFound, match=r"has no model\.safetensors"):
        find("hub", Published("demo", ("org/demo",)))


def test_a_kept_conversion_is_found_offline(offline):
    home = offline / "models--org--demo"
    (home / "refs" / "refs" / "pr").mkdir(parents=True)
    (home / "refs" / "refs" / "pr" / "4").write_text("c0ffee")
    (home / "snapshots" / "c0ffee").mkdir(parents=True)
    (home / "snapshots" / "c0ffee" / "model.safetensors").write_text("weights")
    assert find("hub", Published("demo", ("org/demo",))).spec == "hub:org/demo@refs/pr/4"


def test_files_that_may_be_beside_are_taken_where_they_are(offline, tmp_path):
    published = Published("demo", ("org/demo",), ("config.json",), maybe=("tokenizer.json",))
    for name in (FILE, "config.json", "tokenizer.json"):
        cached(offline, "org/demo", name)
    assert set(find("hub", published).files) == {FILE, "config.json", "tokenizer.json"}
    assert set(find_beside("hub:org/demo", published)) == {"config.json", "tokenizer.json"}
    (tmp_path / "config.json").write_text("{}")
    assert find_beside(str(tmp_path), published) == {"config.json": tmp_path / "config.json"}


def test_files_that_a_repository_of_the_hub_lacks_are_told_from_those_that_cannot_be_reached(offline, monkeypatch):
    published = Published("demo", ("org/demo",), maybe=("tokenizer.json",))
    cached(offline, "org/demo", FILE)
    with pytest.raises(WeightsNotFound, match="HF_HUB_OFFLINE"):
        find("hub", published)
    known = offline / "models--org--demo" / ".no_exist" / "abc" / "tokenizer.json"
    known.parent.mkdir(parents=True)
    known.touch()
    assert set(find("hub", published).files) == {FILE}
    known.unlink()

    def absent(repo, name, *, revision):
        from huggingface_hub.errors import EntryNotFoundError

        raise EntryNotFoundError("404")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=lambda *_, **__: None))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", absent)
    assert set(find("hub", published).files) == {FILE}
    with pytest.raises(WeightsNotFound, match=r"has no config\.json"):
        find("hub", Published("demo", ("org/demo",), ("config.json",)))


def test_only_layers_with_torchs_own_pass_are_halved():
    class Standardised(torch.nn.Conv2d):
        def forward(self, x):
            return torch.nn.functional.conv2d(x, self.weight - self.weight.mean())

    class Named(torch.nn.Conv2d):
        pass

    net = torch.nn.Sequential(Standardised(1, 1, 1), Named(1, 1, 1), torch.nn.Linear(1, 1), torch.nn.LayerNorm(1))
    halve(net)
    assert [m.weight.dtype for m in net] == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32]
