"""Pictures of products: the `Face` that is drawn, and faces of made-up products.

Letters: S side of a face in pixels, P points of a hull.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.rng import Use, generator

Rgb = tuple[int, int, int]
Mask = NDArray[np.bool_]
Grid = NDArray[np.float64]


class Faces(Protocol):
    """The pictures of all products: drawn here, or a shop's own photographs."""

    def views(self, instance: int) -> int:
        """Return how many different faces product `instance` has in the stream, at least one."""
        ...

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """Return (S, S, 4) RGBA of face `view` (below `views`), not premultiplied, with any S."""
        ...


@runtime_checkable
class PhotographedFaces(Faces, Protocol):
    """Faces made of real photographs, of which some are reserved for questions and never drawn."""

    def product(self, instance: int) -> str:
        """Return the product's name."""
        ...

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """Return photograph number `view` as it was taken, (H, W, 3) RGB of any size."""
        ...

    def query_views(self, instance: int) -> range:
        """Return the numbers of the photographs that are reserved for questions."""
        ...


@dataclass(frozen=True)
class Face:
    """A product's picture, prepared for drawing at any size and angle."""

    levels: tuple[NDArray[np.float32], ...]  # (S, S, 4) premultiplied, alpha 0..1, each half the size
    hull: NDArray[np.float64]  # (P, 2) outline, in sides from the centre

    @classmethod
    def from_rgba(cls, rgba: NDArray[np.uint8]) -> Face:
        """Make a face of `rgba` (S, S, 4)."""
        side = rgba.shape[0]
        alpha = rgba[:, :, 3:].astype(np.float32) / 255.0  # (S, S, 1)
        level = np.empty(rgba.shape, np.float32)  # (S, S, 4)
        level[:, :, :3], level[:, :, 3:] = rgba[:, :, :3] * alpha, alpha
        levels: list[NDArray[np.float32]] = [level]
        while levels[-1].shape[0] >= 16:
            half = levels[-1].shape[0] // 2
            smaller = cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA)
            levels.append(np.asarray(smaller, np.float32))
        return cls(tuple(levels), _hull(rgba[:, :, 3] > 0) / side - 0.5)

    def level(self, side_px: float) -> NDArray[np.float32]:
        """Return the smallest level (S, S, 4) that is not magnified when drawn `side_px` large."""
        fitting = [level for level in self.levels if level.shape[0] >= side_px]
        return fitting[-1] if fitting else self.levels[0]


def _hull(mask: Mask) -> NDArray[np.int32]:
    """Return (P, 2) corners x, y of the convex hull around the set pixels of `mask` (S, S)."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    # Only the outermost pixels of a row can be corners: four of their own corners each.
    corners = [(x, y) for x in (left, right) for y in (rows, rows + 1)]
    points = np.concatenate([np.stack(pair, axis=1) for pair in corners]).astype(np.int32)
    return np.asarray(cv2.convexHull(points)[:, 0, :], np.int32)


def _circle(x: float, y: float, rx: float, ry: float) -> list[tuple[float, float]]:
    turns = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    return [(x + rx * float(np.cos(a)), y + ry * float(np.sin(a))) for a in turns]


def _outlines() -> dict[str, list[list[tuple[float, float]]]]:
    """Return the polygons of each shape in a unit square, y downwards; the last is its lid, cap or leaf."""
    return {
        "box": [
            [(0.14, 0.06), (0.86, 0.06), (0.86, 0.96), (0.14, 0.96)],
            [(0.3, 0.1), (0.7, 0.1), (0.7, 0.2), (0.3, 0.2)],
        ],
        "bottle": [
            [
                (0.4, 0.12),
                (0.6, 0.12),
                (0.6, 0.3),
                (0.74, 0.44),
                (0.74, 0.97),
                (0.26, 0.97),
                (0.26, 0.44),
                (0.4, 0.3),
            ],
            [(0.37, 0.02), (0.63, 0.02), (0.63, 0.15), (0.37, 0.15)],
        ],
        "can": [
            [(0.2, 0.15), (0.8, 0.15), (0.8, 0.88), (0.2, 0.88)],
            _circle(0.5, 0.88, 0.3, 0.09),
            _circle(0.5, 0.14, 0.3, 0.09),
        ],
        "carton": [
            [(0.2, 0.34), (0.8, 0.34), (0.8, 0.97), (0.2, 0.97)],
            [(0.2, 0.35), (0.36, 0.12), (0.64, 0.12), (0.8, 0.35)],
            [(0.33, 0.03), (0.67, 0.03), (0.67, 0.14), (0.33, 0.14)],
        ],
        "pouch": [
            [
                (0.16, 0.1),
                (0.84, 0.1),
                (0.78, 0.3),
                (0.9, 0.75),
                (0.82, 0.95),
                (0.18, 0.95),
                (0.1, 0.75),
                (0.22, 0.3),
            ],
            [(0.1, 0.04), (0.9, 0.04), (0.86, 0.13), (0.14, 0.13)],
        ],
        "jar": [
            [
                (0.24, 0.2),
                (0.76, 0.2),
                (0.88, 0.34),
                (0.88, 0.86),
                (0.76, 0.95),
                (0.24, 0.95),
                (0.12, 0.86),
                (0.12, 0.34),
            ],
            [(0.2, 0.06), (0.8, 0.06), (0.8, 0.22), (0.2, 0.22)],
        ],
        "ball": [_circle(0.5, 0.54, 0.42, 0.42), [(0.48, 0.2), (0.5, 0.03), (0.74, 0.02), (0.62, 0.14)]],
        "tube": [
            [(0.2, 0.04), (0.8, 0.04), (0.68, 0.84), (0.32, 0.84)],
            [(0.36, 0.83), (0.64, 0.83), (0.64, 0.98), (0.36, 0.98)],
        ],
    }


def _patterns() -> dict[str, Callable[[Grid, Grid], Mask]]:
    """Return, for each pattern, where the second colour is, for x and y in 0..1."""
    return {
        "stripes": lambda x, y: (y * 4.0) % 1.0 < 0.45,
        "bars": lambda x, y: (x * 4.0 + 0.25) % 1.0 < 0.45,
        "diagonal": lambda x, y: ((x + y) * 3.0) % 1.0 < 0.45,
        "check": lambda x, y: ((x * 4.0) % 2.0 < 1.0) ^ ((y * 4.0) % 2.0 < 1.0),
        "band": lambda x, y: (y > 0.42) & (y < 0.72),
        "label": lambda x, y: ((x - 0.5) / 0.24) ** 2 + ((y - 0.62) / 0.2) ** 2 < 1.0,
        "half": lambda x, y: y > 0.62,
        "dots": lambda x, y: ((x * 4.0) % 1.0 - 0.5) ** 2 + ((y * 4.0) % 1.0 - 0.5) ** 2 < 0.1,
    }


@dataclass(frozen=True)
class ProductDesign:
    """Shape, pattern and colours of a drawn product; `hue` in degrees."""

    shape: str
    pattern: str
    hue: float
    second: Rgb

    @property
    def first(self) -> Rgb:
        """The colour of `hue`."""
        return rgb(self.hue, 0.8, 0.88)


def rgb(hue: float, saturation: float, value: float) -> Rgb:
    """Return the colour of `hue` degrees and shares `saturation` and `value`, as (R, G, B) of 0..255."""
    red, green, blue = colorsys.hsv_to_rgb((hue / 360.0) % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def make_designs(seed: int, count: int, *, lookalikes: float, lookalike_hue: float) -> list[ProductDesign]:
    """Return `count` products of one world, all different; twins come first, side by side."""
    rng = generator(seed, Use.CATALOGUE)
    kinds = [(shape, pattern) for pattern in _patterns() for shape in _outlines()]
    order = rng.permutation(len(kinds))
    base, designs = float(rng.uniform(0.0, 360.0)), list[ProductDesign]()
    twins = int(count * lookalikes) // 2 * 2
    while len(designs) < count:
        index = len(designs)
        shape, pattern = kinds[int(order[index % len(kinds)])]
        if index < twins and index % 2:
            twin = designs[-1]
            designs.append(
                ProductDesign(twin.shape, twin.pattern, (twin.hue + lookalike_hue) % 360.0, twin.second)
            )
        else:
            designs.append(
                ProductDesign(
                    shape,
                    pattern,
                    (base + 137.508 * index) % 360.0,
                    _draw_second_colour(rng, base + 137.508 * index),
                )
            )
    return designs


def _draw_second_colour(rng: np.random.Generator, hue: float) -> Rgb:
    kind = int(rng.integers(3))
    if kind == 0:
        return 245, 243, 235
    if kind == 1:
        return 38, 34, 44
    return rgb(hue + float(rng.uniform(120.0, 240.0)), 0.75, 0.8)


class DrawnFaces:
    """Faces of made-up products: a shape, a pattern and two colours each."""

    def __init__(self, products: list[ProductDesign], *, side: int = 128) -> None:
        self._products = products
        self._side = side

    def views(self, instance: int) -> int:
        """Return 1: a drawn product looks the same at every event."""
        return 1

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """Return (S, S, 4) RGBA of product `instance`."""
        design, fine = self._products[instance], 2 * self._side
        outline = _outlines()[design.shape]
        body, lid = _fill(outline, fine), _fill(outline[-1:], fine)  # (2S, 2S)
        y, x = (np.indices((fine, fine)) + 0.5) / fine
        second = _patterns()[design.pattern](x, y) ^ (lid > 0)
        colour = np.where(second[..., None], design.second, design.first) * _shade(x, body)[..., None]
        rgba = np.dstack([np.clip(colour, 0, 255), body]).astype(np.uint8)  # (2S, 2S, 4)
        return np.asarray(cv2.resize(rgba, (self._side, self._side), interpolation=cv2.INTER_AREA), np.uint8)


def _fill(polygons: list[list[tuple[float, float]]], side: int) -> NDArray[np.uint8]:
    mask = np.zeros((side, side), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.round(np.array(polygon) * side).astype(np.int32)], 255)
    return mask


def _shade(x: Grid, body: NDArray[np.uint8]) -> Grid:
    """Return the shading: lighter left of the middle, darker towards the edge, as of a solid object."""
    inside = cv2.erode(body, np.ones((9, 9), np.uint8)) > 0
    round_light = 1.1 - 1.2 * (x - 0.42) ** 2
    return np.where(inside, round_light, 0.55)
