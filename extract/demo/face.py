"""How a demo recording looks: a cartoon face whose mouth, cheeks, brows and eyes follow the story's cues.

Head, hair, shoulders and room are painted once a subject; a frame then costs only the few small patches that move.
Lengths are in face units: the head is 1 high from its centre to the chin, x to the right, y down.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from extract.demo.look import Look, ellipse, paint, paint_head, paint_room

Patch = tuple[slice, slice]
F32 = npt.NDArray[np.float32]

EYE_AT, MOUTH_AT, CHEEK_AT = (0.33, -0.12), (0.0, 0.45), (0.5, 0.24)
WHITE, INK = np.float32([252, 252, 250]), np.float32([38, 28, 30])
LIP, THROAT = np.float32([176, 52, 66]), np.float32([92, 20, 34])
ROSY, PALE = np.float32([250, 84, 100]), np.float32([150, 176, 168])


@dataclass(frozen=True)
class Portrait:
    """One subject on a square canvas of ``size`` pixels."""

    look: Look
    size: int

    @property
    def unit(self) -> float:
        """Pixels a face unit."""
        return self.size * 0.39 * self.look.scale

    @cached_property
    def _room(self) -> F32:
        return paint_room(self.look, self.size)

    @cached_property
    def _head(self) -> tuple[F32, F32]:
        return paint_head(self.look, self.size, self.unit)

    def draw(self, cues: npt.NDArray[np.float64], dx: float = 0.0, dy: float = 0.0) -> npt.NDArray[np.uint8]:
        """One frame, u8[size,size,3]. cues: f64[6] in the order of story.FACE_CUES; dx, dy: shift in face units."""
        smile, slope, blush, eyes, open_, height = np.clip(cues, -2.2, 2.2).tolist()
        head, alpha = self._head
        head = head.copy()
        self._cheeks(head, blush)
        for eye, brow in zip(self._eyeballs, self._brow_patches, strict=True):
            self._eye(head, *eye, eyes)
            self._brow(head, *brow, slope, height)
        self._mouth(head, smile, open_)
        return self._place(head, alpha, round(dx * self.unit), round(dy * self.unit))

    def _place(self, head: F32, alpha: F32, dx: int, dy: int) -> npt.NDArray[np.uint8]:
        """The head over the room, ``dx``, ``dy`` pixels from the middle; what falls outside is not seen."""
        frame, size, tall = self._room.copy(), self.size, len(head)
        y0, y1 = max(0, dy), min(size, dy + tall)
        x0, x1 = max(0, dx), min(size, dx + size)
        if x0 < x1 and y0 < y1:
            over = (slice(y0 - dy, y1 - dy), slice(x0 - dx, x1 - dx))
            part = frame[y0:y1, x0:x1]
            part += alpha[over] * (head[over] - part)
        return frame.astype(np.uint8)

    def _patch(self, at: tuple[float, float], half: tuple[float, float]) -> tuple[Patch, F32, F32]:
        """The pixels around ``at``, and their x, y from it, in face units."""
        cx, cy = self.size / 2 + at[0] * self.unit, self.size / 2 + at[1] * self.unit
        rx, ry = half[0] * self.unit, half[1] * self.unit
        xs = np.arange(max(0, int(cx - rx)), min(self.size, int(cx + rx) + 1))
        ys = np.arange(int(cy - ry), int(cy + ry) + 1)
        x = ((xs + 0.5 - cx) / self.unit).astype(np.float32)[None, :]
        y = ((ys + 0.5 - cy) / self.unit).astype(np.float32)[:, None]
        return (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)), x, y

    def _cheeks(self, head: F32, blush: float) -> None:
        strength, colour = min(abs(blush) * 0.45, 0.9), ROSY if blush > 0 else PALE
        for patch, glow in self._glow:
            head[patch] += strength * glow * (colour - head[patch])

    @cached_property
    def _glow(self) -> list[tuple[Patch, F32]]:
        spots = [self._patch((side * CHEEK_AT[0], CHEEK_AT[1]), (0.36, 0.44)) for side in (-1, 1)]
        return [(patch, np.exp(-(x**2 + y**2) / 0.06)[..., None]) for patch, x, y in spots]

    @cached_property
    def _eyeballs(self) -> list[tuple[Patch, F32, F32, F32]]:
        """Patch, x, y and picture of each eye as it would look without lids."""
        balls = []
        for side in (-1, 1):
            patch, x, y = self._patch((side * EYE_AT[0], EYE_AT[1]), (0.24, 0.28))
            picture = np.broadcast_to(WHITE, (*np.broadcast_shapes(x.shape, y.shape), 3)).copy()
            for off, radius, colour in ((0, 0.1, self.look.iris), (0, 0.05, INK), (0.04, 0.025, WHITE)):
                paint(picture, ellipse(x - off, y + off, radius, radius), colour, self.unit)
            balls.append((patch, x, y, picture))
        return balls

    def _eye(self, head: F32, patch: Patch, x: F32, y: F32, ball: F32, eyes: float) -> None:
        half = min(max(0.12 + 0.055 * eyes, 0.015), 0.23)
        lids, area = ellipse(x, y, 0.19, half), head[patch]
        paint(area, lids - 0.03, INK, self.unit)
        paint(area, lids, ball, self.unit)

    @cached_property
    def _brow_patches(self) -> list[tuple[Patch, F32, F32]]:
        """Patch, x outward from the nose, and y, of each brow."""
        spots = [(side, self._patch((side * EYE_AT[0], EYE_AT[1] - 0.36), (0.24, 0.28))) for side in (-1, 1)]
        return [(patch, x * side, y) for side, (patch, x, y) in spots]

    def _brow(self, head: F32, patch: Patch, outward: F32, y: F32, slope: float, height: float) -> None:
        line = 0.9 * outward**2 + 0.14 * slope * outward - 0.055 * height - 0.02
        stroke = np.maximum(np.abs(y - line) - 0.045, np.abs(outward) - 0.2)
        paint(head[patch], stroke, self.look.hair * 0.7, self.unit)

    @cached_property
    def _mouth_patch(self) -> tuple[Patch, F32, F32]:
        return self._patch(MOUTH_AT, (0.5, 0.4))

    def _mouth(self, head: F32, smile: float, open_: float) -> None:
        patch, x, y = self._mouth_patch
        width = 0.36 + 0.03 * smile
        bow = np.minimum((x / width) ** 2, 1)
        off = y - 0.11 * (smile + 0.3) * (0.55 - bow)
        gap = min(max(0.07 + 0.06 * open_, 0.012), 0.22) * np.sqrt(1 - bow)
        beyond, area = np.abs(x) - width, head[patch]
        paint(area, np.maximum(np.abs(off) - gap - 0.04, beyond - 0.03), LIP, self.unit)
        inside = np.maximum(np.abs(off) - gap, beyond)
        paint(area, inside, THROAT, self.unit)
        paint(area, np.maximum(inside, off + gap - 0.07), WHITE, self.unit)
