"""Products that nobody sells: real photographs in other hues.

A folder of photographs has some dozen products, and a backbone that tells those apart has learned them by
heart. What should carry over to a product that it has never seen is how two photographs of one thing are
alike, so every world sells the same shapes and prints in hues of its own: few products become many.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.product_images import PhotographedFaces
from edge_runtime.simulation.rng import Use, mix, unit

TINTS = 12
"""Hues in equal steps; the first is the photograph's own. So far apart that no light makes one the other."""
AS_IT_IS = 0.25
"""Share of products that keep their hue: real ones come in some colours more often than in others."""
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


class TintedFaces:
    """`faces`, each product of them in one of the hues, by `seed`; the same on every photograph of it."""

    def __init__(self, faces: PhotographedFaces, seed: int) -> None:
        self._faces = faces
        self._seed = seed

    def tint(self, instance: int) -> int:
        """Which of the hues product `instance` has, 0..TINTS - 1."""
        key = (self._seed, Use.FACE, instance, 88)
        return 0 if unit(*key, 0) < AS_IT_IS else 1 + mix(*key, 1) % (TINTS - 1)

    def product(self, instance: int) -> str:
        """Name and hue: those of another hue are other products."""
        return f"{self._faces.product(instance)}, hue {self.tint(instance)} of {TINTS}"

    def views(self, instance: int) -> int:
        return self._faces.views(instance)

    def query_views(self, instance: int) -> range:
        return self._faces.query_views(instance)

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB photograph number `view` in the product's hue."""
        return turned(self._faces.photo(instance, view), self.tint(instance))

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """(S, S, 4) RGBA face number `view` in the product's hue."""
        face = self._faces.face(instance, view)
        return np.dstack([turned(face[:, :, :3], self.tint(instance)), face[:, :, 3]])


def turned(rgb: NDArray[np.uint8], tint: int) -> NDArray[np.uint8]:
    """`rgb` (H, W, 3) with its hue turned by `tint` of TINTS steps; brightness (Y of YIQ) stays."""
    if tint % TINTS == 0:
        return rgb
    angle = 2 * math.pi * tint / TINTS
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ
    return np.asarray(cv2.transform(np.ascontiguousarray(rgb), matrix.astype(np.float32)), np.uint8)
