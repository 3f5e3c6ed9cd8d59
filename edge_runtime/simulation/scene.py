"""Draw the fixed parts of the room: wall, shelf with its facings, counter, belt, scanner, scale, bag.

Letters: H, W picture.
"""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.canvas import Canvas, blend
from edge_runtime.simulation.layout import COUNTER_EDGE, Layout
from edge_runtime.simulation.product_images import Rgb
from edge_runtime.simulation.rng import Use, generator
from edge_runtime.simulation.space import ASPECT, Box, Point, Size, box_around, move

BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)
RED: Rgb = (255, 24, 20)
_BARS = {
    "0": "abcdef", "1": "bc", "2": "abged", "3": "abgcd", "4": "fgbc",
    "5": "afgcd", "6": "afgedc", "7": "abc", "8": "abcdefg", "9": "abcdfg", "-": "g",
}  # fmt: skip


class Backdrop(Protocol):
    """The picture behind the fixtures: drawn here, or a photograph of a shop."""

    def picture(self, size: Size) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB, the same at every call."""
        ...


class DrawnBackdrop:
    """A wall with soft blotches of light, and a counter with a grain."""

    def __init__(self, seed: int, layout: Layout) -> None:
        self._seed = seed
        self._layout = layout

    def picture(self, size: Size) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB."""
        height, width = size
        palette, edge = self._layout.palette, round(COUNTER_EDGE * height)
        image = np.empty((height, width, 3), np.float32)
        image[:edge] = palette.wall
        image[edge:] = palette.counter
        rng = generator(self._seed, Use.BACKDROP)
        light = _stretch(rng.normal(0.0, 9.0, (4, 6)), (height, width))
        grain = _stretch(rng.normal(0.0, 5.0, (60, 8)), (height - edge, width))
        image[:edge] += _wallpaper(self._layout.pattern, (edge, width))[:, :, None]
        image += light[:, :, None]
        image[edge:] += grain[:, :, None]
        return np.clip(image, 0, 255).astype(np.uint8)


def _wallpaper(pattern: int, size: Size) -> NDArray[np.float32]:
    """Return (H, W), how much a wall of tiles, boards or stripes differs in brightness from a plain one."""
    y, x = (np.indices(size) + 0.5) / max(size)
    none = np.zeros(size, np.float32)
    tiles = np.where(((x * 14.0) % 1.0 < 0.1) | ((y * 14.0) % 1.0 < 0.1), -34.0, 0.0)
    boards = np.where((y * 9.0) % 1.0 < 0.12, -40.0, 12.0 * np.sin(9.0 * np.floor(y * 9.0)))
    stripes = np.where((x * 11.0) % 1.0 < 0.5, -22.0, 10.0)
    return np.asarray((none, tiles, boards, stripes)[pattern], np.float32)


def _stretch(coarse: NDArray[np.float64], size: Size) -> NDArray[np.float32]:
    height, width = size
    stretched = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(stretched, np.float32)


def draw_fixtures(canvas: Canvas, layout: Layout, *, advert: bool) -> None:
    """Draw all fixtures of the empty room."""
    palette = layout.palette
    canvas.box((-0.5, COUNTER_EDGE, 1.5, COUNTER_EDGE + 0.02), blend(palette.counter, WHITE, 0.4))
    canvas.box((-0.5, 0.965, 1.5, 1.5), blend(palette.counter, BLACK, 0.35))
    _draw_shelf(canvas, layout)
    _draw_belt(canvas, layout)
    _draw_scanner(canvas, layout)
    _draw_scale(canvas, layout)
    _draw_bag_back(canvas, layout)
    draw_bag_front(canvas, layout)
    if advert:
        canvas.box(_grow(layout.advert, 0.012), (24, 24, 28))


def _draw_shelf(canvas: Canvas, layout: Layout) -> None:
    colour = layout.palette.shelf
    canvas.box(_grow(layout.shelf, 0.01), blend(colour, BLACK, 0.35))
    canvas.box(layout.shelf, blend(colour, BLACK, 0.6))
    x1, y1, x2, y2 = layout.shelf
    for part in (0.43, 0.93):
        y = y1 + (y2 - y1) * part
        canvas.box((x1, y, x2, y + 0.024), blend(colour, WHITE, 0.35))
        for step in range(5):
            x = x1 + (x2 - x1) * (step + 0.5) / 5
            canvas.box((x - 0.014, y + 0.002, x + 0.014, y + 0.02), (250, 245, 205))


def _draw_belt(canvas: Canvas, layout: Layout) -> None:
    colour = layout.palette.belt
    x1, y1, x2, y2 = layout.belt
    endless = (x1 - 0.4, y1, x2, y2)  # a camera that stands further back sees more of it
    canvas.box(_grow(endless, 0.012), blend(layout.palette.metal, BLACK, 0.15))
    canvas.box(endless, colour)
    for step in range(-8, 7):
        x = x1 + (x2 - x1) * (step + 0.5) / 7
        canvas.box((x, y1, x + 0.006, y2), blend(colour, WHITE, 0.13))
    canvas.box((x2 - 0.012, y1, x2, y2), blend(colour, BLACK, 0.6))


def _draw_scanner(canvas: Canvas, layout: Layout) -> None:
    metal, glass = layout.palette.metal, _grow(layout.scanner, -0.02)
    canvas.box(_grow(layout.scanner, 0.006), blend(metal, BLACK, 0.45))
    canvas.box(layout.scanner, metal)
    canvas.box(glass, (18, 30, 38))
    x1, y1, x2, y2 = glass
    canvas.polygon([(x1, y1), (x1 + 0.035, y1), (x1 + 0.01, y2), (x1, y2)], (46, 64, 74))
    for step in (-0.022, 0.0, 0.022):
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        canvas.line((x + step, y - 0.07), (x - step, y + 0.07), 0.003, (96, 24, 28))


def _draw_scale(canvas: Canvas, layout: Layout) -> None:
    metal = layout.palette.metal
    x1, y1, x2, y2 = layout.scale
    canvas.box((x1 + 0.055, y2, x1 + 0.105, layout.display[1]), blend(metal, BLACK, 0.5))
    canvas.box((x1 + 0.006, y1 + 0.015, x2 + 0.006, y2 + 0.025), blend(metal, BLACK, 0.55))
    canvas.box(layout.scale, blend(metal, WHITE, 0.35))
    canvas.box(_grow(layout.scale, -0.012), blend(metal, WHITE, 0.15))
    for part in (0.25, 0.5, 0.75):
        y = y1 + (y2 - y1) * part
        canvas.box((x1 + 0.02, y, x2 - 0.02, y + 0.008), blend(metal, BLACK, 0.12))
    draw_display(canvas, layout, None, 0.0)


def draw_display(canvas: Canvas, layout: Layout, weight: float | None, strength: float) -> None:
    """Draw the scale's display: dark, or `weight` kilograms in lit digits."""
    canvas.box(layout.display, (30, 34, 32))
    canvas.box(_grow(layout.display, -0.006), (14, 34, 24))
    text = "----" if weight is None else f"{min(weight, 9.999) * 1000:04.0f}"
    colour = blend((30, 66, 46), (90, 255, 120), strength)
    x1, y1, x2, y2 = layout.display
    for index, sign in enumerate(text):
        position = 3 - index if canvas.view.mirror else index
        x = x1 + (x2 - x1) * (0.17 + 0.22 * position)
        _draw_digit(canvas, sign, (x, (y1 + y2) / 2), colour)
    if weight is not None:
        dot = 0.72 if canvas.view.mirror else 0.28
        canvas.box(box_around((x1 + (x2 - x1) * dot, y2 - 0.018), 0.005, 0.005), colour)


def _draw_digit(canvas: Canvas, sign: str, centre: Point, colour: Rgb) -> None:
    """Draw a digit of seven bars, readable also in the picture of a mirrored room."""
    half, tall = (-0.007 if canvas.view.mirror else 0.007), 0.024
    x, y = centre
    bars = {
        "a": ((x - half, y - tall), (x + half, y - tall)),
        "b": ((x + half, y - tall), (x + half, y)),
        "c": ((x + half, y), (x + half, y + tall)),
        "d": ((x - half, y + tall), (x + half, y + tall)),
        "e": ((x - half, y), (x - half, y + tall)),
        "f": ((x - half, y - tall), (x - half, y)),
        "g": ((x - half, y), (x + half, y)),
    }
    for bar in _BARS[sign]:
        canvas.line(*bars[bar], 0.004, colour)


def _draw_bag_back(canvas: Canvas, layout: Layout) -> None:
    x1, y1, x2, _ = layout.bag
    colour = layout.palette.bag
    canvas.polygon(
        [(x1, y1), (x2, y1), (x2, layout.rim + 0.03), (x1, layout.rim + 0.03)], blend(colour, BLACK, 0.55)
    )
    handle = ((x1 + 0.045, y1), (x1 + 0.065, y1 - 0.06), (x2 - 0.065, y1 - 0.06), (x2 - 0.045, y1))
    for start, end in zip(handle, handle[1:], strict=False):
        canvas.line(start, end, 0.007, blend(colour, BLACK, 0.3))


def draw_bag_front(canvas: Canvas, layout: Layout) -> None:
    """Draw the front of the bag, which hides what is in it."""
    x1, _, x2, y2 = layout.bag
    colour, rim = layout.palette.bag, layout.rim
    canvas.polygon([(x1, rim), (x2, rim), (x2 - 0.012, y2), (x1 + 0.012, y2)], colour)
    canvas.box((x1, rim, x2, rim + 0.016), blend(colour, WHITE, 0.3))
    canvas.line((x1 + 0.05, rim + 0.03), (x1 + 0.055, y2), 0.004, blend(colour, BLACK, 0.15))
    middle_x, middle_y = (x1 + x2) / 2, (rim + y2) / 2 + 0.02
    canvas.ellipse((middle_x, middle_y), 0.04, 0.04, blend(colour, BLACK, 0.35))
    canvas.ellipse((middle_x, middle_y), 0.03, 0.03, blend(colour, WHITE, 0.4))


def draw_line(canvas: Canvas, glass: Box, strength: float) -> None:
    """Draw the scanner's red line across its `glass` and the product over it."""
    x1, y1, x2, y2 = glass
    y = (y1 + y2) / 2
    if strength > 0.0:
        canvas.line(
            (x1 + 0.012, y), (x2 - 0.012, y), 0.004 + 0.010 * strength, blend((120, 30, 30), RED, strength)
        )


def draw_patch(canvas: Canvas, centre: Point, side: float, strength: float) -> None:
    """Draw a white sticker with a bar code."""
    canvas.box(
        box_around(centre, 0.46 * side, 0.40 * side), blend((170, 170, 170), (252, 252, 252), strength)
    )
    for step, width in ((-0.16, 0.05), (-0.08, 0.03), (0.0, 0.06), (0.09, 0.03), (0.16, 0.05)):
        canvas.box(box_around(move(centre, step * side, 0.0), width * side, 0.24 * side), (40, 40, 46))


def _grow(box: Box, by: float) -> Box:
    """Return `box` larger by the length `by` (a share of the width) on every side."""
    x1, y1, x2, y2 = box
    return x1 - by, y1 - by * ASPECT, x2 + by, y2 + by * ASPECT
