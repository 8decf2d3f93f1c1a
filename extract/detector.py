"""Faces in one picture, each with a box, five landmarks and a score, by YuNet in OpenCV's own loader.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023. The weights
(MIT licence) are ``face_detection_yunet_2023mar.onnx`` of ``opencv/face_detection_yunet`` on the hub. OpenCV is an
extra, and is imported only where faces are asked for.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, UsageError, WeightsNotFound
from extract.encoders._published import Published
from extract.encoders._weights import find_beside

MODEL = "face_detection_yunet_2023mar.onnx"
YUNET = Published("YuNet", ("opencv/face_detection_yunet",), (MODEL,))
_LONGEST = 640  # pixels: larger pictures are made smaller to be looked at, their crops are not
_SCORE, _OVERLAP, _AT_MOST = 0.9, 0.3, 5000  # OpenCV's defaults: the least score, non-maximum suppression
_ELSEWHERE = f"download {MODEL} from https://huggingface.co/{YUNET.repos[0]} and pass it: --face-weights PATH"

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Face:
    """One face in pixels of its picture. box: f64[4], x, y (left upper corner), width, height.

    landmarks: f64[5,2], x and y of the eyes, the tip of the nose, the corners of the mouth; left in the picture first.
    """

    box: npt.NDArray[np.float64]
    landmarks: npt.NDArray[np.float64]
    score: float


#: u8[H,W,3] RGB -> its faces.
Detector = Callable[[Picture], list[Face]]


def opencv() -> Any:
    """The module ``cv2``. Raises UsageError where it cannot be imported."""
    try:
        import cv2
    except ImportError as error:
        told = f"cropping faces needs OpenCV, which cannot be imported ({error})"
        raise UsageError(told, hint="pip install 'affuse[faces]'") from error
    return cv2


def find_detector(spec: str) -> Path:
    """The ONNX file that ``hub``, ``hub:<org/name>[@revision]``, a file or a folder names. Raises WeightsNotFound."""
    path = Path(spec).expanduser()
    if path.is_file():
        return path
    try:
        found = find_beside(f"hub:{YUNET.repos[0]}" if spec in ("", "hub") else spec, YUNET)
    except WeightsNotFound as error:
        raise WeightsNotFound(error.message, hint=_ELSEWHERE) from error
    if MODEL not in found:
        raise WeightsNotFound(f"{path} has no {MODEL}", hint=_ELSEWHERE)
    return found[MODEL]


def weights_hash(weights: Path) -> str:
    """sha256 of the file."""
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_detector(weights: Path) -> Detector:
    """YuNet, for one thread at a time. Raises DataError for a file that is no such network."""
    cv2 = opencv()
    try:
        net = cv2.FaceDetectorYN.create(str(weights), "", (_LONGEST, _LONGEST), _SCORE, _OVERLAP, _AT_MOST)
        _faces(net, np.zeros((64, 64, 3), np.uint8))
    except cv2.error as error:
        told = f"{weights} cannot be used as the face detector YuNet: {' '.join(error.err.split())}"
        raise DataError(told, hint=_ELSEWHERE) from error
    return lambda rgb: _faces(net, rgb)


def _faces(net: Any, rgb: Picture) -> list[Face]:
    cv2 = opencv()
    shape = np.array(rgb.shape[1::-1])  # width, height
    size = np.maximum(np.rint(shape * min(1, _LONGEST / shape.max())), 1).astype(int)
    small = rgb if (size == shape).all() else cv2.resize(rgb, size.tolist(), interpolation=cv2.INTER_AREA)
    net.setInputSize(size.tolist())
    rows = net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
    if rows is None:
        return []
    points = rows[:, :14].reshape(-1, 7, 2) * (shape / size)  # box (2), landmarks (5)
    found = (Face(p[:2].ravel(), p[2:], float(score)) for p, score in zip(points, rows[:, 14], strict=True))
    return [f for f in found if np.isfinite(f.landmarks).all() and np.ptp(f.landmarks) > 0]
