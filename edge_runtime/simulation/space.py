"""Map the room to the picture.

Points of the room are (x, y) shares of the unmirrored picture; lengths are shares of its width. The camera
is 16:9, so a picture of another shape is stretched, as when a camera's frame is resized to a square.
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
    """The camera's position: an affine map about the picture's centre, of lengths (shares of the width) by
    (xx, xy; yx, yy), then a shift by the shares `px`, `py`."""

    xx: float = 1.0
    xy: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    px: float = 0.0
    py: float = 0.0

    @property
    def straight(self) -> bool:
        """Whether upright boxes stay upright."""
        return self.xy == 0.0 and self.yx == 0.0

    @property
    def zoom(self) -> float:
        """Magnification relative to the plain lens, on average over directions."""
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
        """Return where a point of the plain picture lies with this lens."""
        u, v = point[0] - 0.5, (point[1] - 0.5) / ASPECT
        x = 0.5 + self.xx * u + self.xy * v + self.px
        return x, 0.5 + (self.yx * u + self.yy * v) * ASPECT + self.py

    def invert(self, point: Point) -> Point:
        """Return the point of the plain picture that this lens shows at `point`."""
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
    """The camera's view of the room at one moment: mirrored, through a lens, shifted (in shares)."""

    mirror: bool
    dx: float = 0.0
    dy: float = 0.0
    lens: Lens = PLAIN

    def point(self, point: Point) -> Point:
        """Return where a point of the room lies in the picture, in shares of it."""
        x = 1.0 - point[0] if self.mirror else point[0]
        x, y = self.lens.point((x, point[1]))
        return x + self.dx, y + self.dy

    def to_room(self, point: Point) -> Point:
        """Return the point of the room at `point` of the picture, with a camera that does not shake."""
        x, y = self.lens.invert(point)
        return 1.0 - x if self.mirror else x, y

    def corners(self, box: Box) -> list[Point]:
        """Return where the corners of a box of the room lie in the picture, in order around it."""
        x1, y1, x2, y2 = box
        return [self.point(corner) for corner in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]

    def box(self, box: Box) -> Box:
        """Return the upright box around a box of the room, in shares of the picture, not clipped."""
        xs, ys = zip(*self.corners(box), strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def snap(self, size: Size) -> View:
        """Return the view with its shift rounded to whole pixels of a picture of `size`."""
        height, width = size
        return self._replace(dx=round(self.dx * width) / width, dy=round(self.dy * height) / height)


def clip(box: Box) -> Box:
    """Return the part of `box` inside the picture; its sides meet where nothing is left."""
    x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in box)
    return x1, y1, x2, y2


def area(box: Box) -> float:
    """Return the share of the picture in `box`; 0 where its sides have crossed."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def box_centre(box: Box) -> Point:
    """Return the centre of `box`."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def toward(start: Point, end: Point, part: float) -> Point:
    """Return the point at share `part` of the way from `start` to `end`."""
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def move(point: Point, dx: float, dy: float) -> Point:
    """Return `point` moved by lengths `dx`, `dy`, both shares of the picture's width."""
    return point[0] + dx, point[1] + dy * ASPECT


def box_around(centre: Point, width: float, height: float) -> Box:
    """Return the box of the given lengths (shares of the picture's width) around `centre`."""
    (x1, y1), (x2, y2) = move(centre, -width / 2, -height / 2), move(centre, width / 2, height / 2)
    return x1, y1, x2, y2
