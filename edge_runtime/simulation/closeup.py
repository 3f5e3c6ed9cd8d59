"""Close-ups: a product held near the camera, as people do who want it to be seen.

The product fills a good part of the picture and the hands are as much larger. What tells the activities apart
stays: two hands that turn the product, hands from opposite sides, the scanner's red line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from edge_runtime.simulation.motion import Hand, Pose
from edge_runtime.simulation.rng import smooth
from edge_runtime.simulation.space import Point, around, moved, toward

_HAND_SIDE = 0.2
"""A product of this side is held by hands that look as large as those over the counter."""


class Shot(NamedTuple):
    """One moment of a close-up: the product, `side` large, is shown at `spot`; times as in `Moment`."""

    spot: Point
    side: float
    u: float
    elapsed: float

    def centre(self, door: Point) -> Point:
        """Where the product is: it comes from `door` and leaves that way, and is never quite still."""
        inward = smooth(min(self.u, 1.0 - self.u) / 0.14)
        x, y = toward(door, self.spot, inward)
        return moved((x, y), 0.012 * math.sin(1.7 * self.elapsed), 0.008 * math.sin(2.3 * self.elapsed + 1.0))

    @property
    def hand_scale(self) -> float:
        """How much larger than over the counter a hand looks that holds the product."""
        return max(self.side / _HAND_SIDE, 1.0)


def near_scan(shot: Shot) -> Pose:
    """One hand holds the product in front of a scanner that looks at the customer; its line runs across."""
    centre = shot.centre((shot.spot[0], 1.5))
    palm = moved(centre, 0.0, 0.47 * shot.side)
    hand = Hand(palm, (shot.spot[0] + 0.1, 1.6), scale=shot.hand_scale)
    glass = around(centre, 1.1 * shot.side, 0.3 * shot.side)
    angle = 9.0 * math.sin(1.3 * shot.elapsed)
    return Pose(centre, shot.side, angle, (hand,), line=glass, near=True)


def near_inspect(shot: Shot) -> Pose:
    """Two hands turn the product to and fro before the person's eyes."""
    centre = shot.centre((shot.spot[0], 1.6))
    x, scale = shot.spot[0], shot.hand_scale
    left, right = (moved(centre, sign * 0.45 * shot.side, 0.12 * shot.side) for sign in (-1.0, 1.0))
    hands = (Hand(left, (x - 0.35, 1.6), scale=scale), Hand(right, (x + 0.35, 1.6), scale=scale))
    return Pose(centre, shot.side, 32.0 * math.sin(1.5 * shot.elapsed), hands, near=True)


def near_hand_over(shot: Shot) -> Pose:
    """One hand from below and one of another person from above hold the product."""
    centre = shot.centre((shot.spot[0] - 0.1, 1.5))
    x, scale = shot.spot[0], shot.hand_scale
    lower, upper = moved(centre, 0.05 * shot.side, 0.46 * shot.side), moved(centre, 0.0, -0.46 * shot.side)
    hands = (Hand(lower, (x + 0.1, 1.6), scale=scale), Hand(upper, (x - 0.05, -0.6), True, scale))
    return Pose(centre, shot.side, 5.0, hands, near=True)


CLOSEUPS: dict[str, Callable[[Shot], Pose]] = {
    "scan": near_scan,
    "inspect": near_inspect,
    "hand_over": near_hand_over,
}
"""The activities that can be shown as a close-up."""
