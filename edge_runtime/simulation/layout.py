"""Lay out one video's checkout: positions and colours of the fixtures, and the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.simulation.product_images import Rgb, rgb
from edge_runtime.simulation.rng import Use, between, mix, unit
from edge_runtime.simulation.space import ASPECT, PLAIN, Box, Lens, Point, box_centre

COUNTER_EDGE = 0.42
"""Height at which the counter begins, a share of the picture; shelf, advert and walkers are above it."""

_MAX_HALF_VIEW = 0.55
"""Half of the room that must fit, as a share of the camera's picture: above 0.5 something is cut off."""


@dataclass(frozen=True)
class Palette:
    """Colours of one video's room."""

    wall: Rgb
    shelf: Rgb
    counter: Rgb
    belt: Rgb
    metal: Rgb
    bag: Rgb


@dataclass(frozen=True)
class Layout:
    """Boxes of the fixtures in the room, points where hands do their work, and the palette."""

    mirror: bool
    shelf: Box
    advert: Box
    belt: Box
    scanner: Box
    scale: Box
    display: Box
    bag: Box
    palette: Palette
    lens: Lens = PLAIN
    shelf_right: bool = False
    pattern: int = 0

    @property
    def shelf_entry(self) -> Point:
        """Where a hand that works at the shelf comes up from the counter."""
        return (self.shelf[0] + 0.04 if self.shelf_right else self.shelf[2] - 0.04), 0.62

    @property
    def gap(self) -> float:
        """x between scanner and scale, whichever of them stands on the left."""
        left, right = sorted((self.scanner, self.scale))
        return (left[2] + right[0]) / 2

    @property
    def rim(self) -> float:
        """Height of the bag's front rim, which hides everything lower in the bag."""
        return self.bag[1] + 0.09

    def facing_spot(self, index: int) -> Point:
        """Return the centre of facing `index`: five in the upper row, then five in the lower."""
        row, column = divmod(index, 5)
        x1, y1, x2, y2 = self.shelf
        return x1 + (x2 - x1) * (column + 0.5) / 5, y1 + (y2 - y1) * (0.22 + 0.5 * row)

    @property
    def facing_side(self) -> float:
        """Side of a facing, a share of the picture's width."""
        return 0.38 * (self.shelf[3] - self.shelf[1]) / ASPECT

    def parked_spot(self, index: int) -> Point:
        """Return the centre of the item left at place `index` of the belt's back row."""
        x1, y1, x2, _ = self.belt
        return x1 + (x2 - x1) * (0.28 + 0.28 * index), y1 + 0.04

    @property
    def belt_spot(self) -> Point:
        """Where items are picked up from the belt: its front row."""
        x, y = box_centre(self.belt)
        return x + 0.02, y + 0.05


def make_layout(seed: int, variety: float = 0.0) -> Layout:
    """Return the checkout of one video: mirrored or not, every fixture moved a little, with its own colours.

    With `variety` (0..1) the camera stands elsewhere, shelf and advert or scanner and scale may change
    places, and fixtures are moved further.
    """
    reach_x, reach_y = 0.016 + 0.004 * variety, 0.016 + 0.024 * variety

    def jitter(number: int, box: Box, shift: float = 0.0) -> Box:
        dx = shift + between(-reach_x, reach_x, seed, Use.LAYOUT, number, 0)
        dy = between(-reach_y, reach_y, seed, Use.LAYOUT, number, 1)
        return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy

    def draw(number: int) -> bool:
        return unit(seed, Use.LAYOUT, 20, number) < 0.5 * variety

    shelf_right, swap = draw(0), 0.21 if draw(1) else 0.0
    return Layout(
        mirror=unit(seed, Use.LAYOUT) < 0.5,
        shelf=jitter(1, (0.03, 0.03, 0.50, 0.38), 0.47 if shelf_right else 0.0),
        advert=jitter(2, (0.58, 0.04, 0.78, 0.33), -0.36 if shelf_right else 0.0),
        belt=jitter(3, (-0.03, 0.50, 0.32, 0.77)),
        scanner=jitter(4, (0.365, 0.51, 0.525, 0.77), swap),
        scale=jitter(5, (0.575, 0.54, 0.735, 0.77), -swap),
        display=jitter(5, (0.60, 0.80, 0.71, 0.885), -swap),
        bag=jitter(6, (0.79, 0.50, 0.97, 0.93)),
        palette=_make_palette(seed, variety),
        lens=_make_lens(seed, variety),
        shelf_right=shelf_right,
        pattern=mix(seed, Use.LAYOUT, 21) % 4 if variety else 0,
    )


def _make_lens(seed: int, variety: float) -> Lens:
    """Return a lens: nearer or further, tilted, or from the side; the working area stays in the picture."""

    def deviation(limit: float, number: int) -> float:
        return between(-limit, limit, seed, Use.CAMERA, 20, number) * variety

    if not variety:
        return PLAIN
    zoom, stretch = math.exp(deviation(0.15, 0) - 0.05 * variety), math.exp(deviation(0.08, 1))
    cos, sin, lean = math.cos(deviation(0.11, 2)), math.sin(deviation(0.11, 2)), deviation(0.12, 3)
    lens = _scale_lens(
        zoom, (cos * stretch, cos * lean - sin / stretch, sin * stretch, sin * lean + cos / stretch)
    )
    wide, high = _half_extent(lens)
    largest = max(wide, high)
    if largest > _MAX_HALF_VIEW:
        lens = _scale_lens(_MAX_HALF_VIEW / largest, lens[:4])
        wide, high = _half_extent(lens)
    # The camera pans within the free margin, or by half of what is cut off.
    pan = [between(-1.0, 1.0, seed, Use.CAMERA, 20, number) for number in (4, 5)]
    px, py = (max(0.5 - half, 0.5 * (half - 0.5)) for half in (wide, high))
    return lens._replace(px=pan[0] * px, py=pan[1] * py)


def _scale_lens(zoom: float, linear: tuple[float, float, float, float]) -> Lens:
    return Lens(*(zoom * entry for entry in linear))


def _half_extent(lens: Lens) -> tuple[float, float]:
    """Return half the width and height of the room seen through `lens`, as shares of the picture's."""
    wide = abs(lens.xx) + abs(lens.xy) / ASPECT
    return 0.48 * wide, 0.48 * (abs(lens.yx) * ASPECT + abs(lens.yy))


def _make_palette(seed: int, variety: float) -> Palette:
    def tone(number: int, saturation: float, value: float) -> Rgb:
        hue = 360.0 * unit(seed, Use.LAYOUT, 100 + number)
        grey = between(1.0 - 0.8 * variety, 1.0 + 1.4 * variety, seed, Use.LAYOUT, 220 + number)
        light = between(0.85 - 0.4 * variety, 1.0 + 0.12 * variety, seed, Use.LAYOUT, 200 + number)
        return rgb(hue, min(saturation * grey, 0.8), min(value * light, 0.97))

    return Palette(
        wall=tone(0, 0.18, 0.84),
        shelf=tone(1, 0.35, 0.45),
        counter=tone(2, 0.14, 0.72),
        belt=tone(3, 0.12, 0.26),
        metal=tone(4, 0.05, 0.78),
        bag=(rgb(30.0, 0.42, 0.74), rgb(140.0, 0.45, 0.6), rgb(0.0, 0.0, 0.93))[
            mix(seed, Use.LAYOUT, 300) % 3
        ],
    )
