"""Face crops out of raw video: one face a frame, turned and scaled so that its landmarks lie where they always do.

What comes out is what a folder of crops gives: blocks of crops with the time their frames are on screen, and nothing
where no face was found. Encoders cannot tell the two apart. The score and box of every crop become a stream of their
own, ``face-box``.

The similarity is the least-squares one of Umeyama (PAMI 1991) onto the five points that ArcFace (Deng et al., CVPR
2019) crops to.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.records import FACE_BOX, Modality, Recording, Track
from extract.blocks import FrameBlock
from extract.detector import Detector, Face, Picture, find_detector, open_detector, opencv, weights_hash
from extract.encoders import Encoder

SIZE = 112
TEMPLATE = np.array(  # x, y in a crop of 112 x 112: eyes, nose, corners of the mouth
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
COLUMNS = ("score", "x", "y", "width", "height")
VERSION = 1  # raise it when the same file and weights would give other crops
_SAME = 0.3  # intersection over union from which on a face continues the last one
_HELD_S = 1.0  # so long a face may be out of sight before another is followed

Mode = Literal["none", "largest", "tracked"]


@dataclass(frozen=True)
class FaceCrops:
    """How a run crops faces. weights: the detector's file; weights_hash: its sha256.

    ``largest`` takes the largest face of each frame. ``tracked`` takes the face that overlaps the last one most, none
    where no face does, and the largest again when the last one is out of sight for more than a second.
    """

    mode: Mode
    weights: Path
    weights_hash: str

    def settings(self) -> dict[str, Any]:
        """What decides the crops, for the fingerprint."""
        about = {"detector": "yunet", "weights": self.weights_hash, "template": "arcface", "size": SIZE}
        return {"mode": self.mode, "version": VERSION, **about}

    def blocks(self, film: Iterable[FrameBlock]) -> Iterator[FrameBlock]:
        """The crops of one recording's frames."""
        yield from crop_faces(film, open_detector(self.weights), tracked=self.mode == "tracked")


def face_crops(mode: Mode, weights: str, recordings: list[Recording]) -> FaceCrops | None:
    """What a run asks for, its detector found and tried; None for ``none``.

    Raises UsageError without OpenCV or where the corpus has crops already, WeightsNotFound or DataError for weights.
    """
    if mode == "none":
        return None
    cropped = [r.id for r in recordings if r.crops]
    if cropped:
        named = ", ".join(cropped[:3]) + (", ..." if len(cropped) > 3 else "")
        raise UsageError(
            f"--faces {mode} crops raw video; {len(cropped)} of {len(recordings)} recordings come as crops: {named}",
            hint="leave --faces out: crops are used as they are",
        )
    opencv()
    path = find_detector(weights)
    open_detector(path)
    return FaceCrops(mode, path, weights_hash(path))


def crop_faces(film: Iterable[FrameBlock], detect: Detector, *, tracked: bool) -> Iterator[FrameBlock]:
    """A block of crops for every block of frames, empty where they show no face."""
    last: tuple[Face, float] | None = None
    for block in film:
        crops, rows, shown = [], [], []
        for i, (rgb, now) in enumerate(zip(block.rgb, block.spans[:, 0], strict=True)):
            face = choose(detect(rgb), *last, now) if last else _largest(detect(rgb))
            if face is not None:
                crops.append(crop_of(rgb, face))
                rows.append([face.score, *face.box])
                shown.append(i)
                last = (face, now) if tracked else None
        values = np.array(rows, np.float32).reshape(-1, len(COLUMNS))
        yield FrameBlock(crops, block.spans[np.array(shown, np.intp)], values)


def choose(faces: list[Face], last: Face, seen: float, now: float) -> Face | None:
    """The face that continues ``last``, seen at ``seen`` seconds; None where that one is hidden for a while."""
    if now - seen > _HELD_S:
        return _largest(faces)
    best = max(faces, key=lambda f: overlap(f.box, last.box), default=None)
    return best if best is not None and overlap(best.box, last.box) >= _SAME else None


def _largest(faces: list[Face]) -> Face | None:
    return max(faces, key=lambda f: f.box[2] * f.box[3], default=None)


def overlap(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Intersection over union of two boxes: x, y, width, height."""
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / max(float(np.prod(a[2:]) + np.prod(b[2:])) - shared, 1e-9)


def similarity(landmarks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """f64[2,3] that takes landmarks f64[5,2] nearest to the template by turning, scaling and moving, never mirroring.

    Umeyama's solution; in the plane, with points as complex numbers, it is one regression: w = a z + b.
    """
    z, w = (p[:, 0] + 1j * p[:, 1] for p in (landmarks, TEMPLATE))
    centred = z - z.mean()
    a = np.vdot(centred, w) / np.vdot(centred, centred).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def crop_of(rgb: Picture, face: Face) -> Picture:
    """u8[H,W,3] -> u8[112,112,3]; black where the crop reaches beyond the frame."""
    cv2 = opencv()
    return cv2.warpAffine(rgb, similarity(face.landmarks), (SIZE, SIZE), flags=cv2.INTER_LINEAR)


class FaceBoxes(Encoder[FrameBlock]):
    """Rows of what was cropped: the detector's score, and the box in pixels of the frame. Nothing is computed."""

    Config = FaceCrops
    modality: ClassVar[Modality] = "visual"
    name = FACE_BOX
    dim = len(COLUMNS)

    def __init__(self, cfg: FaceCrops) -> None:
        super().__init__(cfg)
        self.weights_hash = cfg.weights_hash

    def settings(self) -> dict[str, Any]:
        """What the columns are."""
        return {"columns": list(COLUMNS)}

    def signature(self) -> list[Any]:
        """That of the detector is in the settings already."""
        return []

    def load(self, device: Any) -> None:
        """There is nothing to load."""

    def push(self, block: FrameBlock) -> Track:
        """The rows that came with the crops."""
        return Track(block.spans, block.faces)
