"""Who is seen in a demo recording: what a subject looks like, and the parts of the picture that do not move."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from extract.demo.story import person

F32 = npt.NDArray[np.float32]
# Near each other on purpose: twenty subjects are too few to learn to see past large differences in colour.
SKINS = np.float32([[234, 198, 168], [229, 191, 160], [222, 183, 152], [215, 176, 144], [208, 168, 135]])
HAIRS = np.float32([[58, 42, 36], [74, 52, 38], [84, 58, 42], [80, 48, 36], [70, 56, 50]])
IRISES = np.float32([[70, 110, 160], [84, 58, 40], [70, 120, 84], [96, 104, 112]])


@dataclass(frozen=True)
class Look:
    """A subject's appearance. Colours are f32[3] in 0..255; ``scale``, ``wide`` and ``fringe`` are in face units."""

    skin: F32
    hair: F32
    iris: F32
    shirt: F32
    wall: F32
    scale: float
    wide: float
    fringe: float
    long_hair: bool
    light: float


def dress(seed: int, subject: str) -> Look:
    """The appearance of a subject, the same in all their recordings."""
    rng = person(seed, subject, "look")
    hue = rng.uniform(0, 2 * np.pi, 2)[:, None] + np.array([0, 2.1, 4.2])
    return Look(
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        iris=IRISES[rng.integers(len(IRISES))],
        shirt=(130 + 25 * np.cos(hue[0])).astype(np.float32),
        wall=(188 + 3 * np.cos(hue[1])).astype(np.float32),
        scale=rng.uniform(0.99, 1.03),
        wide=rng.uniform(0.79, 0.83),
        fringe=rng.uniform(-0.7, -0.62),
        long_hair=bool(rng.integers(2)),
        light=rng.uniform(-0.04, 0.04),
    )


def ellipse(x: F32, y: F32, a: float, b: float) -> F32:
    """About the signed distance of points to an ellipse with half axes ``a``, ``b``; negative inside."""
    return (np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1) * min(a, b)


def paint(area: F32, distance: F32, colour: F32, unit: float) -> None:
    """Fill where ``distance`` (face units) is negative, with an edge one pixel soft. area: f32[H,W,3], in place."""
    area += soft(distance, unit)[..., None] * (colour - area)


def soft(distance: F32, unit: float) -> F32:
    """Coverage in [0, 1] of pixels at a signed ``distance`` from an edge, one pixel soft."""
    return np.minimum(np.maximum(0.5 - distance * unit, 0), 1)


def paint_room(look: Look, size: int) -> F32:
    """The wall behind: f32[size,size,3], lighter on one side, with a paler picture frame on it."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    room = look.wall * (1 + look.light * (2 * x - 1) - 0.15 * y)[..., None]
    paint(room, np.maximum(np.abs(x - 0.12) - 0.09, np.abs(y - 0.16) - 0.1), look.wall * 0.75, size)
    paint(room, np.maximum(np.abs(x - 0.12) - 0.07, np.abs(y - 0.16) - 0.08), look.wall * 0.9 + 25, size)
    return np.clip(room, 0, 255)


def paint_head(look: Look, size: int, unit: float) -> tuple[F32, F32]:
    """Head, hair and shoulders without a face: rgb f32[H,size,3] and alpha f32[H,size,1], H a little over size.

    The head's centre is at pixel (size / 2, size / 2).
    """
    tall = int(size * 1.25)
    y, x = np.mgrid[0:tall, 0:size].astype(np.float32) + 0.5
    x, y = (x - size / 2) / unit, (y - size / 2) / unit
    back = ellipse(x, y + 0.12, look.wide + 0.16, 1.06)
    if look.long_hair:
        back = np.minimum(back, np.maximum(np.abs(x) - look.wide - 0.12, np.maximum(-y - 0.2, y - 1.0)))
    body = np.minimum(ellipse(x, y - 1.75, 1.25, 0.75), np.maximum(np.abs(x) - 0.3, np.maximum(-y, y - 1.3)))
    face = ellipse(x, y, look.wide, 1.0)
    ears = ellipse(np.abs(x) - look.wide, y - 0.02, 0.12, 0.18)
    head = np.broadcast_to(look.hair, (tall, size, 3)).copy()
    shade = look.skin * (1 + look.light * x - 0.06 * np.maximum(y, 0))[..., None]
    paint(head, np.maximum(np.abs(x) - 0.28, np.maximum(-y, y - 1.3)), look.skin * 0.88, unit)
    paint(head, ellipse(x, y - 1.75, 1.25, 0.75), look.shirt, unit)
    for part in (ears, face):
        paint(head, part, shade, unit)
    paint(head, np.maximum(face - 0.03, y - look.fringe + 0.35 * x**2 - 0.05 * np.sin(9 * x)), look.hair, unit)
    nose = np.maximum(ellipse(x, y - 0.16, 0.09, 0.07), -(ellipse(x, y - 0.12, 0.1, 0.07)))
    paint(head, nose, look.skin * 0.78, unit)
    shape = np.minimum(np.minimum(back, body), np.minimum(face, ears))
    return np.clip(head, 0, 255), soft(shape, unit)[..., None]
