"""Pose close-ups: a product held near the camera so that it is seen well.

The product fills a good part of the picture, and the hands are larger by the same factor. The activities stay
recognisable: two hands that turn the product, hands from opposite sides, the scanner's red line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from edge_runtime.simulation.motion import Hand, Pose
from edge_runtime.simulation.rng import smooth
from edge_runtime.simulation.space import Point, box_around, move, toward

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
