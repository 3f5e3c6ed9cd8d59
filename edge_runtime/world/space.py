"""From the room to the picture.

Points of the room are (x, y) shares of the unmirrored picture; lengths are shares of its width. The camera
is 16:9, so a picture of another shape is a stretched one, as when a camera's frame is resized to a square.
Letters: H, W picture.
"""

from __future__ import annotations

from typing import NamedTuple

ASPECT = 16 / 9
"""Width of the camera's picture over its height."""

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""x1, y1, x2, y2."""
Size = tuple[int, int]
"""(H, W), as numpy's shapes."""


class View(NamedTuple):
    """How the camera sees the room: mirrored for one video, shifted (in shares) at one moment."""

    mirror: bool
    dx: float = 0.0
    dy: float = 0.0

    def point(self, point: Point) -> Point:
        """Where a point of the room lies in the picture, in shares of it."""
        x = 1.0 - point[0] if self.mirror else point[0]
        return x + self.dx, point[1] + self.dy

    def box(self, box: Box) -> Box:
        """Where a box of the room lies in the picture, in shares of it, not clipped."""
        (xa, ya), (xb, yb) = self.point(box[:2]), self.point(box[2:])
        return min(xa, xb), ya, max(xa, xb), yb

    def snapped(self, size: Size) -> View:
        """The same view with its shift rounded to whole pixels of a picture of `size`."""
        height, width = size
        return View(self.mirror, round(self.dx * width) / width, round(self.dy * height) / height)


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
