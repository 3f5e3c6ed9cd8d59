"""Pose close-ups: a product held near the camera so that it is seen well.

The product fills a good part of the picture, and the hands are larger by the same factor. The activities stay
recognisable: two hands that turn the product, hands from opposite sides, the scanner's red line. Photographs
of products are taken as a person would to ask "where was this?".

Letters: H, W picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.canvas import Canvas
from edge_runtime.simulation.motion import Hand, Pose
from edge_runtime.simulation.product_images import Face, Rgb, rgb
from edge_runtime.simulation.rng import Use, between, smooth, unit
from edge_runtime.simulation.space import Point, Size, View, box_around, move, toward

_HAND_SIDE = 0.2
"""Hands that hold a product of this side look as large as those over the counter."""


class CloseupShot(NamedTuple):
    """One moment of a close-up: a product, `side` large, at `spot`; times as in `Moment`."""

    spot: Point
    side: float
    u: float
    elapsed: float

    def centre(self, entry: Point) -> Point:
        """Return where the product is: it comes from `entry`, leaves that way and is never quite still."""
        inward = smooth(min(self.u, 1.0 - self.u) / 0.14)
        x, y = toward(entry, self.spot, inward)
        return move((x, y), 0.012 * math.sin(1.7 * self.elapsed), 0.008 * math.sin(2.3 * self.elapsed + 1.0))

    @property
    def hand_scale(self) -> float:
        """Size of a hand relative to a hand over the counter."""
        return max(self.side / _HAND_SIDE, 1.0)


def scan_closeup(shot: CloseupShot) -> Pose:
    """One hand holds the product before a scanner that faces the customer; its line runs across."""
    centre = shot.centre((shot.spot[0], 1.5))
    palm = move(centre, 0.0, 0.47 * shot.side)
    hand = Hand(palm, (shot.spot[0] + 0.1, 1.6), scale=shot.hand_scale)
    glass = box_around(centre, 1.1 * shot.side, 0.3 * shot.side)
    angle = 9.0 * math.sin(1.3 * shot.elapsed)
    return Pose(centre, shot.side, angle, (hand,), line=glass, near=True)


def inspect_closeup(shot: CloseupShot) -> Pose:
    """Two hands turn the product to and fro."""
    centre = shot.centre((shot.spot[0], 1.6))
    x, scale = shot.spot[0], shot.hand_scale
    left, right = (move(centre, sign * 0.45 * shot.side, 0.12 * shot.side) for sign in (-1.0, 1.0))
    hands = (Hand(left, (x - 0.35, 1.6), scale=scale), Hand(right, (x + 0.35, 1.6), scale=scale))
    return Pose(centre, shot.side, 32.0 * math.sin(1.5 * shot.elapsed), hands, near=True)


def hand_over_closeup(shot: CloseupShot) -> Pose:
    """One hand from below and another person's hand from above hold the product."""
    centre = shot.centre((shot.spot[0] - 0.1, 1.5))
    x, scale = shot.spot[0], shot.hand_scale
    lower, upper = move(centre, 0.05 * shot.side, 0.46 * shot.side), move(centre, 0.0, -0.46 * shot.side)
    hands = (Hand(lower, (x + 0.1, 1.6), scale=scale), Hand(upper, (x - 0.05, -0.6), True, scale))
    return Pose(centre, shot.side, 5.0, hands, near=True)


CLOSEUPS: dict[str, Callable[[CloseupShot], Pose]] = {
    "scan": scan_closeup,
    "inspect": inspect_closeup,
    "hand_over": hand_over_closeup,
}
"""The activities that have a close-up."""


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
