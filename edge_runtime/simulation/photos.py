"""Take photographs of drawn products, as a person would to ask "where was this?".

Letters: H, W picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.canvas import Canvas
from edge_runtime.simulation.product_images import Face, Rgb, rgb
from edge_runtime.simulation.rng import Use, between, unit
from edge_runtime.simulation.space import Size, View


@dataclass(frozen=True)
class PhotoSetup:
    """Settings of one photograph: `size` is the product's share of the shorter side, `angle` in degrees."""

    size: float
    angle: float
    light: float
    lean: float
    background: Rgb
    floor: Rgb


def make_photo_setup(seed: int, instance: int, view: int) -> PhotoSetup:
    """Return the set-up of a view: 0 is the catalogue's, upright, well lit, on white; others snapshots."""
    if view == 0:
        return PhotoSetup(0.84, 0.0, 1.0, 0.0, (250, 250, 250), (236, 236, 238))
    key = (seed, Use.PHOTO, instance, view)
    hue, tone = 360.0 * unit(*key, 0), between(0.35, 0.95, *key, 1)
    return PhotoSetup(
        size=between(0.5, 0.9, *key, 2),
        angle=between(-35.0, 35.0, *key, 3),
        light=between(0.65, 1.2, *key, 4),
        lean=between(-0.12, 0.12, *key, 5),
        background=rgb(hue, 0.25, tone),
        floor=rgb(hue + 40.0, 0.3, 0.8 * tone),
    )


def photograph(face: Face, setup: PhotoSetup, size: Size) -> NDArray[np.uint8]:
    """Return (H, W, 3) RGB of the product alone, never stretched."""
    height, width = size
    side = min(size)
    image = np.empty((side, side, 3), np.uint8)
    image[:], image[round(0.7 * side) :] = setup.background, setup.floor
    Canvas(image, View(False), aspect=1.0).face(face, (0.5, 0.5), setup.size, setup.angle, light=setup.light)
    if setup.lean:
        image = _tilt(image, setup.lean)
    top, left = (height - side) // 2, (width - side) // 2
    bottom, right = height - side - top, width - side - left
    return np.asarray(cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)


def pad_photo(photo: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Return `photo` as (H, W, 3), never stretched: edges are repeated at its sides."""
    scale = min(size[0] / photo.shape[0], size[1] / photo.shape[1])
    height, width = (max(round(side * scale), 1) for side in photo.shape[:2])
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    image = cv2.resize(photo, (width, height), interpolation=method)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    bottom, right = size[0] - height - top, size[1] - width - left
    return np.asarray(cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)


def _tilt(image: NDArray[np.uint8], lean: float) -> NDArray[np.uint8]:
    """Return the picture (S, S, 3) seen from the side: one edge is shorter by share `lean`."""
    side = image.shape[0]
    left, right = max(lean, 0.0) * side / 2, max(-lean, 0.0) * side / 2
    flat = np.array([(0, 0), (side, 0), (side, side), (0, side)], np.float32)
    seen = np.array([(0, left), (side, right), (side, side - right), (0, side - left)], np.float32)
    matrix = cv2.getPerspectiveTransform(flat, seen)
    return np.asarray(
        cv2.warpPerspective(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
