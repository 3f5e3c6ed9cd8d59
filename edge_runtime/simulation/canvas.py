"""Draw in shares of the picture. The whole world is drawn with these methods.

Letters: H, W picture; S side of a face; h, w the part of the picture that a face touches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.product_images import Face, Rgb
from edge_runtime.simulation.space import ASPECT, Box, Point, View

_BITS = 4  # of a pixel's fraction, for OpenCV


class Canvas:
    """Draws on `image` (H, W, 3) as `view` sees the room; lengths are shares of the picture's width."""

    def __init__(self, image: NDArray[np.uint8], view: View, *, aspect: float = ASPECT) -> None:
        """`aspect`: width of the camera's picture over its height."""
        self.view = view
        self._zoom = view.lens.zoom
        self._height, self._width = image.shape[:2]
        self._image = image  # (H, W, 3)
        self._tall = self._height * aspect  # pixels of one width, measured downwards

    def polygon(self, points: Sequence[Point], colour: Rgb) -> None:
        """Draw a filled convex polygon."""
        corners = np.array([self._to_pixel(point) for point in points], np.int32)
        cv2.fillConvexPoly(self._image, corners, colour, cv2.LINE_AA, _BITS)

    def box(self, box: Box, colour: Rgb) -> None:
        """Draw a filled rectangle, on whole pixels where it is upright in the picture."""
        if not self.view.lens.straight:
            self.polygon([(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])], colour)
            return
        x1, y1, x2, y2 = self.view.box(box)
        start = (round(x1 * self._width), round(y1 * self._height))
        end = (round(x2 * self._width) - 1, round(y2 * self._height) - 1)
        cv2.rectangle(self._image, start, end, colour, -1)

    def line(self, start: Point, end: Point, width: float, colour: Rgb) -> None:
        """Draw a stroke with round ends."""
        thickness = max(round(width * self._zoom * (self._width + self._tall) / 2), 1)
        cv2.line(
            self._image, self._to_pixel(start), self._to_pixel(end), colour, thickness, cv2.LINE_AA, _BITS
        )

    def ellipse(self, centre: Point, rx: float, ry: float, colour: Rgb) -> None:
        """Draw a filled ellipse with upright axes, whatever the lens: all of them are nearly round."""
        rx, ry = rx * self._zoom, ry * self._zoom
        axes = (round(rx * self._width * 2**_BITS), round(ry * self._tall * 2**_BITS))
        cv2.ellipse(
            self._image, self._to_pixel(centre), axes, 0.0, 0.0, 360.0, colour, -1, cv2.LINE_AA, _BITS
        )

    def face(self, face: Face, centre: Point, side: float, angle: float = 0.0, *, light: float = 1.0) -> None:
        """Draw a product's face, `side` large and turned by `angle` degrees."""
        level = face.level(side * self._zoom * max(self._width, self._tall))
        matrix, box = self._place(level.shape[0], face, centre, side, angle)
        x1, y1, x2, y2 = box
        if x2 <= x1 or y2 <= y1:
            return
        matrix[:, 2] -= (x1, y1)
        patch = cv2.warpAffine(level, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR)  # (h, w, 4)
        under = self._image[y1:y2, x1:x2]  # (h, w, 3)
        lit = (
            patch[:, :, :3] if light == 1.0 else np.minimum(patch[:, :, :3] * light, 255.0 * patch[:, :, 3:])
        )
        under[...] = under * (1.0 - patch[:, :, 3:]) + lit

    def _place(
        self, level_side: int, face: Face, centre: Point, side: float, angle: float
    ) -> tuple[NDArray[np.float64], tuple[int, int, int, int]]:
        """Return the (2, 3) matrix from a level's pixels to the picture's, and the pixels that it touches."""
        x, y = self.view.point(centre)
        turn = self.view.lens.matrix @ rotation_matrix(angle, self.view.mirror) * side  # (2, 2)
        turn *= [[self._width], [self._tall]]
        origin = np.array([x * self._width, y * self._height])
        matrix = np.empty((2, 3))
        matrix[:, :2] = turn / level_side
        # OpenCV's pixel centres are whole numbers, ours are halves.
        matrix[:, 2] = origin - turn @ (0.5, 0.5) + matrix[:, :2] @ (0.5, 0.5) - 0.5
        corners = face.hull @ turn.T + origin  # (P, 2)
        low, high = corners.min(axis=0), corners.max(axis=0)
        limit_y, limit_x = self._image.shape[:2]
        x1, y1 = max(math.floor(low[0]) - 1, 0), max(math.floor(low[1]) - 1, 0)
        return matrix, (x1, y1, min(math.ceil(high[0]) + 1, limit_x), min(math.ceil(high[1]) + 1, limit_y))

    def _to_pixel(self, point: Point) -> tuple[int, int]:
        x, y = self.view.point(point)
        return round((x * self._width - 0.5) * 2**_BITS), round((y * self._height - 0.5) * 2**_BITS)


def rotation_matrix(angle: float, mirror: bool) -> NDArray[np.float64]:
    """Return the rotation (2, 2) by `angle` degrees, the other way round in a mirrored room."""
    radians = math.radians(-angle if mirror else angle)
    cos, sin = math.cos(radians), math.sin(radians)
    return np.array([[cos, -sin], [sin, cos]])


def face_outline(face: Face, centre: Point, side: float, angle: float, mirror: bool) -> NDArray[np.float64]:
    """Return the (P, 2) convex outline of a drawn face in a plain lens's picture, in shares, not clipped."""
    x, y = (1.0 - centre[0] if mirror else centre[0]), centre[1]
    return np.asarray(face.hull @ rotation_matrix(angle, mirror).T * (side, side * ASPECT) + (x, y))


def blend(colour: Rgb, other: Rgb, part: float) -> Rgb:
    """Return `colour` mixed with share `part` of `other`."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(colour, other, strict=True))
    return red, green, blue
