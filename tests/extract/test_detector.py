"""The face detector in OpenCV's own loader, from an ONNX file with YuNet's input and outputs that finds red squares."""

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from cache.errors import DataError, UsageError, WeightsNotFound
from cache.store import FeatureCache
from extract.detector import MODEL, YUNET, find_detector, open_detector, weights_hash

STRIDES = (8, 16, 32)
WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
STRIDE = 16  # the only one that finds anything
SIDE = 3.0  # of a face, in cells
SPREAD = np.array([[-0.5, -0.5], [0.5, -0.5], [0.0, 0.0], [-0.4, 0.5], [0.4, 0.5]])  # landmarks around a face, in cells


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _ints(name: str, values: tuple[int, ...]) -> bytes:
    return _bytes(5, _bytes(1, name) + b"".join(_number(8, v) for v in values) + _number(20, 7))


def _node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    named = b"".join(_bytes(1, i) for i in inputs) + _bytes(2, output) + _bytes(3, f"make_{output}")
    return _bytes(1, named + _bytes(4, kind) + b"".join(attributes))


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = 1 if values.dtype == np.float32 else 7
    dims = b"".join(_number(1, d) for d in values.shape)
    return _bytes(5, dims + _number(2, kind) + _bytes(8, name) + _bytes(9, values.tobytes()))


def _value(field: int, name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, d)) for d in shape)
    return _bytes(field, _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dims))))


def _kernel(kind: str, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias of the convolution behind one output: BGR in, mean redness of a cell as ``cls``."""
    weight, bias = np.zeros((WIDTHS[kind], 3, stride, stride), np.float32), np.zeros(WIDTHS[kind], np.float32)
    if kind == "cls" and stride == STRIDE:
        weight[0, 2], weight[0, 1] = 1 / (200 * stride**2), -1 / (200 * stride**2)
    if kind == "obj":
        bias[:] = 1
    if kind == "bbox":  # centre in cells, and the logarithm of the sides
        bias[:] = [0.5, 0.5, np.log(SIDE), np.log(SIDE)]
    if kind == "kps":
        bias[:] = (SPREAD + 0.5).ravel()
    return weight, bias


def write_yunet(path: Path) -> Path:
    """A face is centred on every 16 x 16 cell that is red throughout, and three cells wide."""
    nodes = tensors = outputs = b""
    for kind, width in WIDTHS.items():
        for stride in STRIDES:
            name = f"{kind}_{stride}"
            weight, bias = _kernel(kind, stride)
            tensors += _tensor(f"{name}_w", weight) + _tensor(f"{name}_b", bias)
            tensors += _tensor(f"{name}_s", np.array([1, -1, width], np.int64))
            sides = (_ints("kernel_shape", (stride, stride)), _ints("strides", (stride, stride)))
            nodes += _node("Conv", ["input", f"{name}_w", f"{name}_b"], f"{name}_c", *sides)
            nodes += _node("Transpose", [f"{name}_c"], f"{name}_t", _ints("perm", (0, 2, 3, 1)))
            nodes += _node("Reshape", [f"{name}_t", f"{name}_s"], name)
            outputs += _value(12, name, (1, (640 // stride) ** 2, width))
    graph = nodes + _bytes(2, "yunet") + tensors + _value(11, "input", (1, 3, 640, 640)) + outputs
    path.write_bytes(_number(1, 7) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 11)))
    return path


@pytest.fixture(scope="module")
def yunet(tmp_path_factory):
    return write_yunet(tmp_path_factory.mktemp("yunet") / MODEL)


def red_cell(row, column, height=224, width=320, cell=STRIDE):
    """A black picture with one red square."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell, 0] = 255
    return rgb


def test_boxes_landmarks_and_scores_are_in_pixels_of_the_picture(yunet):
    detect = open_detector(yunet)
    (face,) = detect(red_cell(3, 4))
    centre = np.array([4.5, 3.5]) * STRIDE
    np.testing.assert_allclose(face.box, [*(centre - 1.5 * STRIDE), 3 * STRIDE, 3 * STRIDE], atol=1e-3)
    np.testing.assert_allclose(face.landmarks, centre + SPREAD * STRIDE, atol=1e-3)
    assert face.score == pytest.approx(1.0, abs=1e-4)
    assert detect(np.zeros((224, 320, 3), np.uint8)) == []
    blue = red_cell(3, 4)[:, :, ::-1].copy()
    assert detect(blue) == []  # the network is fed BGR


def test_pictures_of_other_sizes_are_looked_at_one_after_the_other(yunet):
    detect = open_detector(yunet)
    for height, width in ((96, 128), (360, 480), (101, 99), (96, 128)):
        (face,) = detect(red_cell(2, 3, height, width))
        np.testing.assert_allclose(face.landmarks.mean(axis=0), np.array([3.5, 2.5]) * STRIDE, atol=STRIDE / 4)


def test_large_pictures_are_looked_at_smaller_and_told_of_in_their_own_pixels(yunet):
    (face,) = open_detector(yunet)(red_cell(3, 4, 960, 1280, cell=2 * STRIDE))
    np.testing.assert_allclose(face.box[:2] + face.box[2:] / 2, np.array([4.5, 3.5]) * 2 * STRIDE, atol=0.1)
    np.testing.assert_allclose(face.box[2:], 6 * STRIDE, atol=0.1)


def test_weights_are_a_file_a_folder_or_in_the_hubs_local_cache(yunet, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_detector(str(yunet)) == find_detector(str(yunet.parent)) == yunet
    home = tmp_path / f"models--{YUNET.repos[0].replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    (home / "snapshots" / "abc").mkdir(parents=True)
    kept = home / "snapshots" / "abc" / MODEL
    kept.write_bytes(yunet.read_bytes())
    assert find_detector("hub") == find_detector(f"hub:{YUNET.repos[0]}") == kept
    assert weights_hash(kept) == weights_hash(yunet) != weights_hash(Path(__file__))


@pytest.mark.parametrize("spec", ["hub", "hub:my/detector", "nowhere.onnx", "."])
def test_without_weights_one_line_says_where_to_get_them(spec, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsNotFound, match=f"download {MODEL} from https://.*--face-weights PATH") as caught:
        find_detector(spec)
    assert "\n" not in str(caught.value)
    assert "random" not in str(caught.value)


def test_opencvs_own_detector_crops_a_whole_run_from_the_command_line(yunet, light_encoders, media, manifest, tmp_path):
    """A red square that moves, hides from frame 20 to 29, and comes back."""
    at = [(2, 2 + i // 12) for i in range(60)]
    shown = [i for i in range(60) if not 20 <= i < 30]

    def picture(i):
        return red_cell(*at[i], 160, 160) if i in shown else np.zeros((160, 160, 3), np.uint8)

    path = media(tmp_path / "a.mp4", np.arange(60) / 25, picture=picture, size=160)
    given = ["extract", "--dataset", "manifest", "--root", manifest(a={"video": path}), "--cache", tmp_path / "cache"]
    given += ["--visual", "brightness", "--audio", "none", "--text", "none", "--faces", "tracked"]
    result = CliRunner().invoke(cli.app, [*map(str, given), "--face-weights", str(yunet), "--quiet"])
    assert result.exit_code == 0, result.output
    cache = FeatureCache(tmp_path / "cache")
    boxes, rows = (cache.read(cache.resolve(n).key, "a") for n in ("face-box", "brightness"))
    assert np.flatnonzero(boxes.present).tolist() == np.flatnonzero(rows.present).tolist() == shown
    wanted = (np.array(at)[shown][:, ::-1] - 1) * STRIDE
    np.testing.assert_allclose(boxes.values[shown, 1:3], wanted, atol=1)
    assert (boxes.values[shown, 0] >= 0.9).all()
    assert cache.about(cache.resolve("brightness").key)["settings"]["faces"]["weights"] == weights_hash(yunet)


def test_without_opencv_the_command_ends_with_one_line(light_encoders, media, manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    root = manifest(a={"video": media(tmp_path / "a.mp4", np.arange(5) / 25)})
    given = ["extract", "--dataset", "manifest", "--root", root, "--cache", tmp_path / "cache", "--faces", "largest"]
    result = CliRunner().invoke(cli.app, [*map(str, given), "--visual", "brightness", "--audio", "none"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "pip install 'affuse[faces]'" in result.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"no network", b"version https://git-lfs.github.com/spec/v1"])
def test_a_file_that_is_no_network_is_named(content, tmp_path, capfd):
    (tmp_path / "face.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"face.onnx cannot be used as the face detector YuNet") as caught:
        open_detector(tmp_path / "face.onnx")
    assert "\n" not in str(caught.value)


def test_pitfall_32_a_missing_extra_is_one_line_that_says_what_to_install(yunet, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"needs OpenCV.*pip install 'affuse\[faces\]'") as caught:
        open_detector(yunet)
    assert "\n" not in str(caught.value)
