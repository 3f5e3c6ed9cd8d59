"""From the room to the picture.

Points of the room are (x, y) shares of the unmirrored picture; lengths are shares of its width. The camera
is 16:9, so a picture of another shape is a stretched one, as when a camera's frame is resized to a square.
Letters: H, W picture.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ASPECT = 16 / 9
"""Width of the camera's picture over its height."""

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""x1, y1, x2, y2."""
Size = tuple[int, int]
"""(H, W), as numpy's shapes."""


class Lens(NamedTuple):
    """Where the camera stands: an affine map about the picture's middle, of lengths (shares of the width)
    by (xx, xy; yx, yy), then moved by the shares `px`, `py`."""

    xx: float = 1.0
    xy: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    px: float = 0.0
    py: float = 0.0

    @property
    def straight(self) -> bool:
        """Upright boxes stay upright."""
        return self.xy == 0.0 and self.yx == 0.0

    @property
    def zoom(self) -> float:
        """How much longer things look than with the plain lens, on average of directions."""
        return math.sqrt(self.xx * self.yy - self.xy * self.yx)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 2) map of lengths."""
        return np.array([[self.xx, self.xy], [self.yx, self.yy]])

    @property
    def affine(self) -> NDArray[np.float64]:
        """(2, 3) map of shares of the picture."""
        return _affine(self)

    def point(self, point: Point) -> Point:
        """Where a point of the plain picture lies with this lens."""
        u, v = point[0] - 0.5, (point[1] - 0.5) / ASPECT
        x = 0.5 + self.xx * u + self.xy * v + self.px
        return x, 0.5 + (self.yx * u + self.yy * v) * ASPECT + self.py

    def undone(self, point: Point) -> Point:
        """Which point of the plain picture this lens shows at `point`."""
        x, y = point[0] - 0.5 - self.px, (point[1] - 0.5 - self.py) / ASPECT
        by = self.xx * self.yy - self.xy * self.yx
        return 0.5 + (self.yy * x - self.xy * y) / by, 0.5 + (self.xx * y - self.yx * x) / by * ASPECT


PLAIN = Lens()


@lru_cache(maxsize=64)
def _affine(lens: Lens) -> NDArray[np.float64]:
    linear = np.array([[lens.xx, lens.xy / ASPECT], [lens.yx * ASPECT, lens.yy]])
    offset = np.array([0.5 + lens.px, 0.5 + lens.py]) - linear @ (0.5, 0.5)
    matrix = np.column_stack([linear, offset])
    matrix.setflags(write=False)
    return matrix


class View(NamedTuple):
    """How the camera sees the room: mirrored, through the lens of one video, shifted (in shares) at one
    moment."""

    mirror: bool
    dx: float = 0.0
    dy: float = 0.0
    lens: Lens = PLAIN

    def point(self, point: Point) -> Point:
        """Where a point of the room lies in the picture, in shares of it."""
        x = 1.0 - point[0] if self.mirror else point[0]
        x, y = self.lens.point((x, point[1]))
        return x + self.dx, y + self.dy

    def room(self, point: Point) -> Point:
        """The point of the room that lies at `point` of the picture while the camera is still."""
        x, y = self.lens.undone(point)
        return 1.0 - x if self.mirror else x, y

    def corners(self, box: Box) -> list[Point]:
        """Where the corners of a box of the room lie in the picture, in order around it."""
        x1, y1, x2, y2 = box
        return [self.point(corner) for corner in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]

    def box(self, box: Box) -> Box:
        """The upright box around a box of the room, in shares of the picture, not clipped."""
        xs, ys = zip(*self.corners(box), strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def snapped(self, size: Size) -> View:
        """The same view with its shift rounded to whole pixels of a picture of `size`."""
        height, width = size
        return self._replace(dx=round(self.dx * width) / width, dy=round(self.dy * height) / height)


def clip(box: Box) -> Box:
    """`box` inside the picture; its sides may meet where nothing is left."""
    x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in box)
    return x1, y1, x2, y2


def area(box: Box) -> float:
    """Share of the picture in `box`; 0 where its sides have passed each other."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def middle(box: Box) -> Point:
    """The centre of `box`."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def toward(start: Point, end: Point, part: float) -> Point:
    """The point at share `part` of the way from `start` to `end`."""
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def moved(point: Point, dx: float, dy: float) -> Point:
    """`point` moved by lengths `dx`, `dy`, both shares of the picture's width."""
    return point[0] + dx, point[1] + dy * ASPECT


def around(centre: Point, width: float, height: float) -> Box:
    """The box of the given lengths (shares of the picture's width) around `centre`."""
    (x1, y1), (x2, y2) = moved(centre, -width / 2, -height / 2), moved(centre, width / 2, height / 2)
    return x1, y1, x2, y2
