"""The panel below the picture: valence and arousal over time with a cursor, and the circumplex with a trail.

What does not change is drawn once a page: all of the trace as it will be, and all of it as it was. A frame joins the
two at the cursor, and draws only the cursor, the numbers and the point. Colours are those of Okabe and Ito (2008),
which colour-blind people can tell apart.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

F64 = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]

COLOURS: tuple[Rgb, Rgb] = ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00))  # valence, arousal
NAMES = ("valence", "arousal")
PAPER, INK, GRID, DIM = (255, 255, 255), (38, 38, 38), (222, 222, 222), (112, 112, 112)
PAGE_S = 60.0  # seconds of a page, where a recording is longer than one and a half
TRAIL_S = 2.0
_FINE = 3  # lines are drawn so many times larger, then made smaller
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)


@dataclass(frozen=True)
class Layout:
    """Where things are, in pixels of a panel ``width`` wide. begin, end: seconds at both ends of the page's axis."""

    width: int
    begin: float
    end: float

    @property
    def scale(self) -> float:
        """1 at 640 pixels."""
        return max(0.75, self.width / 640)

    @property
    def height(self) -> int:
        """Of the panel; even."""
        return 2 * round(70 * self.scale)

    @property
    def left(self) -> int:
        """Where the axis of time begins."""
        return round(30 * self.scale)

    @property
    def right(self) -> int:
        """Where it ends."""
        return self.width - self.height - round(4 * self.scale)

    @property
    def top(self) -> int:
        """Where a trace is at +1."""
        return round(26 * self.scale)

    @property
    def bottom(self) -> int:
        """Where it is at -1."""
        return self.height - round(20 * self.scale)

    def x(self, time: float | F64) -> F64:
        """Pixels from the left, of seconds."""
        share = (np.asarray(time, np.float64) - self.begin) / (self.end - self.begin)
        return self.left + share * (self.right - self.left)

    def y(self, value: float | F64) -> F64:
        """Pixels from the panel's top, of valence or arousal."""
        return self.top + (1 - np.clip(value, -1, 1)) / 2 * (self.bottom - self.top)

    @property
    def square(self) -> tuple[float, float]:
        """Margin and side of the circumplex, in the square of ``height`` at the right end."""
        margin = 12 * self.scale
        return margin, self.height - 2 * margin


def pages(times: F64, width: int) -> list[Layout]:
    """One page for short recordings; else pages of a minute."""
    begin, end = float(times[0]), float(times[-1])
    if end - begin <= 1.5 * PAGE_S:
        return [Layout(width, begin, max(end, begin + 1e-3))]
    count = int((end - begin) // PAGE_S) + 1
    return [Layout(width, begin + i * PAGE_S, begin + (i + 1) * PAGE_S) for i in range(count)]


class Panel:
    """Panels of one recording. times: f64[T], seconds; va: f64[T,2]."""

    def __init__(self, times: F64, va: F64, width: int) -> None:
        self.times, self.va = times, np.clip(va, -1, 1)
        self.pages = pages(times, width)
        self._drawn: tuple[int, Pixels, Pixels] | None = None
        self._compass = compass(self.pages[0])

    @property
    def height(self) -> int:
        """Of a panel, in pixels."""
        return self.pages[0].height

    def page_of(self, frame: int) -> int:
        """The page that a frame is on."""
        return int(np.searchsorted([p.begin for p in self.pages], self.times[frame], "right")) - 1

    def at(self, frame: int) -> Pixels:
        """The panel u8[height,width,3] of a frame."""
        number = self.page_of(frame)
        layout = self.pages[number]
        if self._drawn is None or self._drawn[0] != number:
            past, coming = (draw_page(layout, self.times, self.va, faded=f) for f in (False, True))
            self._drawn = number, past, coming
        _, past, coming = self._drawn
        x = float(layout.x(self.times[frame]))
        pixels = np.concatenate([past[:, : round(x)], coming[:, round(x) :]], axis=1)
        _cursor(pixels, layout, x)
        for value, colour in zip(self.va[frame], COLOURS, strict=True):
            _dot(pixels, x, float(layout.y(value)), 4 * layout.scale, colour)
        self._head(pixels, layout, frame)
        pixels[:, -layout.height :] = self._point(layout, frame)
        return pixels

    def _head(self, pixels: Pixels, layout: Layout, frame: int) -> None:
        """Both numbers and the time, above the traces."""
        s, rows = layout.scale, layout.top - round(5 * layout.scale)
        strip = Image.fromarray(np.ascontiguousarray(pixels[:rows, : layout.right]))
        draw, y = ImageDraw.Draw(strip), rows / 2 + s
        x = float(layout.left)
        for name, value, colour in zip(NAMES, self.va[frame], COLOURS, strict=True):
            draw.text((x, y), name, colour, _font(round(12 * s)), "lm")
            draw.text((x + 90 * s, y), f"{value:+.2f}", colour, _font(round(13 * s)), "rm")
            x += 108 * s
        if layout.right - x > 44 * s:
            clock = f"{int(self.times[frame] // 60)}:{self.times[frame] % 60:05.2f}"
            draw.text((layout.right, y), clock, DIM, _font(round(11 * s)), "rm")
        pixels[:rows, : layout.right] = np.asarray(strip)

    def _point(self, layout: Layout, frame: int) -> Pixels:
        """The circumplex with the last two seconds."""
        first = int(np.searchsorted(self.times, self.times[frame] - TRAIL_S))
        margin, side = layout.square
        steps = (self.va[first : frame + 1] * (1, -1) + 1) / 2 * side + margin
        points = [(float(x) * 2, float(y) * 2) for x, y in steps]
        picture = self._compass.copy()
        draw = ImageDraw.Draw(picture)
        for i in range(1, len(points)):
            share = i / len(points)
            colour = _blend(INK, PAPER, 0.12 + 0.55 * share)
            draw.line(points[i - 1 : i + 1], colour, max(1, round((1 + 2 * share) * 2 * layout.scale)))
        for radius, colour in ((6.0, PAPER), (4.5, INK)):
            _disc(draw, points[-1], 2 * radius * layout.scale, colour)
        return np.asarray(picture.reduce(2))


def draw_page(layout: Layout, times: F64, va: F64, *, faded: bool) -> Pixels:
    """Axes and traces of a page, u8[height,width,3]; what is still to come is ``faded``."""
    fine = Image.new("RGB", (layout.width * _FINE, layout.height * _FINE), PAPER)
    draw, thin = ImageDraw.Draw(fine), max(1, round(layout.scale)) * _FINE
    marks = ticks(layout)
    for value in (-1, 0, 1):
        y = float(layout.y(value)) * _FINE
        draw.line([(layout.left * _FINE, y), (layout.right * _FINE, y)], GRID, thin)
    for time in marks:
        x = float(layout.x(time)) * _FINE
        draw.line([(x, layout.bottom * _FINE), (x, (layout.bottom + 3 * layout.scale) * _FINE)], DIM, thin)
    inside = np.flatnonzero((times >= layout.begin) & (times <= layout.end))
    inside = np.arange(max(inside[0] - 1, 0), min(inside[-1] + 2, len(times))) if len(inside) else inside
    for column, colour in enumerate(COLOURS):
        points = np.stack([layout.x(times[inside]), layout.y(va[inside, column])], 1) * _FINE
        shade = _blend(colour, PAPER, 0.3) if faded else colour
        draw.line([*map(tuple, points)], shade, round(2 * layout.scale * _FINE), joint="curve")
    page = fine.reduce(_FINE)
    page.paste(PAPER, (0, 0, layout.left - 1, layout.height))  # what lies beyond the page
    page.paste(PAPER, (layout.right + 1, 0, layout.width, layout.height))
    _words(ImageDraw.Draw(page), layout, marks)
    return np.asarray(page)


def ticks(layout: Layout) -> list[float]:
    """Round times for the axis, about as many as have room."""
    room = max(2.0, (layout.right - layout.left) / (58 * layout.scale))
    span = layout.end - layout.begin
    step = next((s for s in _STEPS_S if span / s <= room), _STEPS_S[-1])
    first = np.ceil(layout.begin / step - 1e-9)
    return [float(n * step) for n in np.arange(first, np.floor(layout.end / step + 1e-9) + 1)]


def _words(draw: ImageDraw.ImageDraw, layout: Layout, marks: list[float]) -> None:
    s, font = layout.scale, _font(round(10 * layout.scale))
    for value, text in ((1, "+1"), (0, "0"), (-1, "-1")):
        draw.text((layout.left - 5 * s, float(layout.y(value))), text, DIM, font, "rm")
    for time in marks:
        whole = time == round(time)
        text = f"{int(time // 60)}:{int(time % 60):02d}" if whole else f"{time:g} s"
        x = float(layout.x(time))
        draw.text((x, layout.bottom + 5 * s), text, DIM, font, _anchor(x, layout))


def _anchor(x: float, layout: Layout) -> str:
    """In the middle below its tick, but at both ends inside."""
    room = 9 * layout.scale
    return "lt" if x < layout.left + room else "rt" if x > layout.right - room else "mt"


def compass(layout: Layout) -> Image.Image:
    """The circumplex without a point, twice as large as it is shown: axes in the colours of the traces."""
    height, (margin, side) = layout.height, layout.square
    picture = Image.new("RGB", (2 * height, 2 * height), PAPER)
    draw, thin, s = ImageDraw.Draw(picture), max(1, round(layout.scale)) * 2, 2 * layout.scale
    low, high, mid = 2 * margin, 2 * (margin + side), float(height)
    draw.rounded_rectangle((low, low, high, high), 6 * s, outline=GRID, width=thin)
    draw.ellipse((low, low, high, high), outline=GRID, width=thin)
    draw.line([(low, mid), (high, mid)], _blend(COLOURS[0], PAPER, 0.55), thin)
    draw.line([(mid, low), (mid, high)], _blend(COLOURS[1], PAPER, 0.55), thin)
    font, halo = _font(round(9 * s)), round(1.5 * s)
    write = functools.partial(draw.text, font=font, stroke_width=halo, stroke_fill=PAPER)
    write((high - 4 * s, mid - 3 * s), NAMES[0], COLOURS[0], anchor="rs")
    write((mid + 4 * s, low + 4 * s), NAMES[1], COLOURS[1], anchor="lt")
    return picture


def _cursor(pixels: Pixels, layout: Layout, x: float) -> None:
    """An upright line whose middle is at ``x``, soft at its edges."""
    half = max(1.0, layout.scale) * 0.75
    columns = np.arange(int(x - half), int(x + half) + 2)
    covered = np.clip(np.minimum(columns + 1, x + 0.5 + half) - np.maximum(columns, x + 0.5 - half), 0, 1)
    rows = slice(layout.top - round(3 * layout.scale), layout.bottom + round(3 * layout.scale))
    part = pixels[rows, columns[0] : columns[-1] + 1]
    share = covered[: part.shape[1], None]
    part[:] = (part * (1 - share) + np.array(DIM) * share).round().astype(np.uint8)


def _dot(pixels: Pixels, x: float, y: float, radius: float, colour: Rgb) -> None:
    """A disc with a white rim."""
    reach = int(radius + 2)
    left, top = max(round(x) - reach, 0), max(round(y) - reach, 0)
    part = pixels[top : round(y) + reach + 1, left : round(x) + reach + 1]
    rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    away = np.hypot(rows - y, columns - x)[..., None]
    for size, paint in ((radius + 1.2, PAPER), (radius, colour)):
        share = np.clip(size - away + 0.5, 0, 1)
        part[:] = (part * (1 - share) + np.array(paint) * share).round().astype(np.uint8)


def _disc(draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: Rgb) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _blend(colour: Rgb, paper: Rgb, share: float) -> Rgb:
    r, g, b = (round(c * share + p * (1 - share)) for c, p in zip(colour, paper, strict=True))
    return r, g, b


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(size, 7))
