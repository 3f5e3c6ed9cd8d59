"""Multiply products by shifting the hue of real photos.

A folder of photos has some dozen products, and a backbone can memorise those. It should learn in what way two
photos of the same product are alike, also for products that it has never seen. So every world sells the same
shapes and prints in its own hues: few products become many.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.product_images import PhotographedFaces
from edge_runtime.simulation.rng import Use, mix, unit

HUES = 12
"""Hues in equal steps, the photo's own first: so far apart that light does not turn one into another."""
UNCHANGED_SHARE = 0.25
"""Share of products that keep their hue: real products have some colours more often than others."""
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


class HueShiftedFaces:
    """Faces of products, each product in a hue that `seed` chooses, equal on all its photos."""

    def __init__(self, faces: PhotographedFaces, seed: int) -> None:
        self._faces = faces
        self._seed = seed

    def hue(self, instance: int) -> int:
        """Return the hue of product `instance`, 0..HUES - 1."""
        key = (self._seed, Use.FACE, instance, 88)
        return 0 if unit(*key, 0) < UNCHANGED_SHARE else 1 + mix(*key, 1) % (HUES - 1)

    def product(self, instance: int) -> str:
        """Return name and hue: another hue is another product."""
        return f"{self._faces.product(instance)}, hue {self.hue(instance)} of {HUES}"

    def views(self, instance: int) -> int:
        return self._faces.views(instance)

    def query_views(self, instance: int) -> range:
        return self._faces.query_views(instance)

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """Return the RGB photo number `view` in the product's hue, (H, W, 3)."""
        return shift_hue(self._faces.photo(instance, view), self.hue(instance))

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """Return the RGBA face number `view` in the product's hue, (S, S, 4)."""
        face = self._faces.face(instance, view)
        return np.dstack([shift_hue(face[:, :, :3], self.hue(instance)), face[:, :, 3]])


def shift_hue(rgb: NDArray[np.uint8], hue: int) -> NDArray[np.uint8]:
    """Rotate the hue of `rgb` (H, W, 3) by `hue` of HUES steps; brightness (Y of YIQ) stays."""
    if hue % HUES == 0:
        return rgb
    angle = 2 * math.pi * hue / HUES
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ
    return np.asarray(cv2.transform(np.ascontiguousarray(rgb), matrix.astype(np.float32)), np.uint8)
