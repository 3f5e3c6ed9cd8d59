"""Check that a polygon in normalised picture coordinates can be used as a privacy zone."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]
Polygon = tuple[Point, ...]

MAX_ZONES = 32
MAX_POINTS = 64
MIN_AREA = 1e-5
"""Share of the picture below which a polygon is a drawing mistake: 3 x 3 pixels at 720p."""


def check_polygon(points: Sequence[Point]) -> Polygon:
    """Return the polygon without repeated points. Raises ValueError where it does not enclose one area.

    Edges must not cross or touch: it would be ambiguous which side is inside, and a zone that hides less than
    its owner believes is worse than none.
    """
    if len(points) > MAX_POINTS:
        raise ValueError(f"a zone has at most {MAX_POINTS} points, got {len(points)}")
    for x, y in points:
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):  # NaN fails too
            raise ValueError(f"a zone's points are x, y in 0..1 of the picture, got {x:g}, {y:g}")
    distinct: list[Point] = []
    for x, y in points:
        if not distinct or (x, y) != distinct[-1]:
            distinct.append((float(x), float(y)))
    if len(distinct) > 1 and distinct[0] == distinct[-1]:
        distinct.pop()
    if len(distinct) < 3:
        raise ValueError(f"a zone needs at least 3 different points, got {len(distinct)}")
    if crossing := _find_crossing(distinct):
        first, second = crossing
        raise ValueError(
            f"a zone's edges must not cross or touch, but those after point {first + 1} and point "
            f"{second + 1} do; put its points in order around it"
        )
    if (area := _area(distinct)) < MIN_AREA:
        raise ValueError(f"a zone must enclose at least {MIN_AREA:g} of the picture, got {area:g}")
    return tuple(distinct)


def _area(points: Sequence[Point]) -> float:
    ring = [*points, points[0]]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:], strict=False))) / 2


def _find_crossing(points: Sequence[Point]) -> tuple[int, int] | None:
    """Return the first two edges, by their first points, that are not neighbours and share a point."""
    n = len(points)
    for i in range(n):
        for j in range(i + 2, n):
            if i == 0 and j == n - 1:
                continue
            if _meet(points[i], points[(i + 1) % n], points[j], points[(j + 1) % n]):
                return i, j
    return None


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Return whether the segments ab and cd share a point."""
    sides = _side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(side == 0 and _between(*end) for side, end in zip(sides, ends, strict=True))


def _side(a: Point, b: Point, p: Point) -> int:
    turn = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    return 0 if abs(turn) < 1e-12 else (1 if turn > 0 else -1)


def _between(a: Point, b: Point, p: Point) -> bool:
    """Return whether `p`, on the line through a and b, lies on the segment."""
    return min(a[0], b[0]) <= p[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])
