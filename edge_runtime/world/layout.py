"""Where things stand in one video's checkout, and what colours they have."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.world.dice import Use, between, mix, unit
from edge_runtime.world.faces import Rgb, rgb
from edge_runtime.world.space import ASPECT, Box, Point, middle

COUNTER_EDGE = 0.42
"""Height at which the counter begins, share of the picture; shelf, advert and walkers are above it."""


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

    @property
    def rim(self) -> float:
        """Height of the bag's front rim: what is lower inside the bag is hidden."""
        return self.bag[1] + 0.09

    def facing_spot(self, index: int) -> Point:
        """Centre of facing `index`: five in the upper row, then five in the lower."""
        row, column = divmod(index, 5)
        x1, y1, x2, y2 = self.shelf
        return x1 + (x2 - x1) * (column + 0.5) / 5, y1 + (y2 - y1) * (0.22 + 0.5 * row)

    @property
    def facing_side(self) -> float:
        """How large a facing is, a share of the picture's width."""
        return 0.38 * (self.shelf[3] - self.shelf[1]) / ASPECT

    def parked_spot(self, index: int) -> Point:
        """Centre of the item left at place `index` of the belt's back row."""
        x1, y1, x2, _ = self.belt
        return x1 + (x2 - x1) * (0.28 + 0.28 * index), y1 + 0.04

    @property
    def belt_spot(self) -> Point:
        """Where items are picked up from the belt: its front row."""
        x, y = middle(self.belt)
        return x + 0.02, y + 0.05


def layout_of(seed: int) -> Layout:
    """The checkout of one video: mirrored or not, every fixture moved a little, its own colours."""

    def near(number: int, box: Box) -> Box:
        dx = between(-0.016, 0.016, seed, Use.LAYOUT, number, 0)
        dy = between(-0.016, 0.016, seed, Use.LAYOUT, number, 1)
        return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy

    return Layout(
        mirror=unit(seed, Use.LAYOUT) < 0.5,
        shelf=near(1, (0.03, 0.03, 0.50, 0.38)),
        advert=near(2, (0.58, 0.04, 0.78, 0.33)),
        belt=near(3, (-0.03, 0.50, 0.32, 0.77)),
        scanner=near(4, (0.365, 0.51, 0.525, 0.77)),
        scale=near(5, (0.575, 0.54, 0.735, 0.77)),
        display=near(5, (0.60, 0.80, 0.71, 0.885)),
        bag=near(6, (0.79, 0.50, 0.97, 0.93)),
        palette=_palette(seed),
    )


def _palette(seed: int) -> Palette:
    def tone(number: int, saturation: float, value: float) -> Rgb:
        hue = 360.0 * unit(seed, Use.LAYOUT, 100 + number)
        return rgb(hue, saturation, value * between(0.85, 1.0, seed, Use.LAYOUT, 200 + number))

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
