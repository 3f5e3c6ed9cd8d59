"""Pose product and hands for each activity, as a pure function of the elapsed share of the event."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from edge_runtime.simulation.layout import Layout
from edge_runtime.simulation.rng import smooth
from edge_runtime.simulation.space import Box, Point, box_centre, move, toward


class Hand(NamedTuple):
    """A hand at `palm` on an arm that comes from `root`; `clerk` if it is the other person's.

    `scale`: its size relative to a hand over the counter.
    """

    palm: Point
    root: Point
    clerk: bool = False
    scale: float = 1.0


class Moment(NamedTuple):
    """One moment of an event, of which share `u` and `elapsed` seconds are over; `side` of the product."""

    layout: Layout
    u: float
    elapsed: float
    side: float
    wobble: Point


@dataclass(frozen=True)
class Pose:
    """The product and what surrounds it; points of the room, lengths in picture widths, angle in degrees."""

    centre: Point
    side: float
    angle: float
    hands: tuple[Hand, ...]
    hidden_below: float = 9.0  # height in the room under which the product cannot be seen
    in_bag: bool = False
    line: Box | None = None  # the scanner's glass, while the red line runs across it
    weight: float | None = None  # kilograms on the display
    patch: float = 0.0  # share of the sticker that is on
    garment: bool = False
    near: bool = False  # held close to the camera, in front of everything else


Motion = Callable[[Moment], Pose]


def _pose_held(centre: Point, side: float, root: Point, angle: float = 0.0) -> Pose:
    """A product held from below by one hand."""
    return Pose(centre, side, angle, (Hand(move(centre, 0.0, 0.46 * side), root),))


def _fetch_point(moment: Moment, spot: Point, entry: Point) -> Point:
    """Return the product's position: from `entry` to `spot`, at the end back; with wobble."""
    inward = smooth(min(moment.u, 1.0 - moment.u) / 0.14)
    x, y = toward(entry, spot, inward)
    return move((x, y), *moment.wobble)


def _arm_root(spot: Point, shift: float = 0.04) -> Point:
    """Return where an arm that works at `spot` enters the picture."""
    return spot[0] + shift, 1.12


def pick_belt(moment: Moment) -> Pose:
    """The item lies on the belt; a hand comes, grasps it and lifts it off."""
    spot = moment.layout.belt_spot
    reach, lift = smooth(moment.u / 0.2), smooth((moment.u - 0.45) / 0.55)
    centre = move(toward(spot, (spot[0] + 0.05, 0.50), lift), *moment.wobble)
    palm = toward((spot[0] + 0.05, 1.1), move(centre, 0.0, 0.46 * moment.side), reach)
    return Pose(centre, moment.side, 10.0 * lift, (Hand(palm, _arm_root(spot, 0.08)),))


def scan(moment: Moment) -> Pose:
    """The item is passed over the scanner's glass; the red line runs across it."""
    spot = box_centre(moment.layout.scanner)
    sway = 0.025 * math.sin(2.2 * moment.elapsed)
    centre = move(_fetch_point(moment, (spot[0], spot[1] - 0.02), (spot[0], 1.05)), sway, 0.0)
    held = _pose_held(centre, moment.side, _arm_root(spot), 14.0 * math.sin(1.3 * moment.elapsed))
    return replace(held, line=moment.layout.scanner)


def weigh(moment: Moment) -> Pose:
    """The item stands on the scale's plate, a hand at its side; the display has digits."""
    spot = box_centre(moment.layout.scale)
    centre = _fetch_point(moment, (spot[0], spot[1] - 0.04), (spot[0], 1.05))
    hand = Hand(move(centre, 0.42 * moment.side, 0.3 * moment.side), _arm_root(spot, 0.17))
    is_stable = 0.15 < moment.u < 0.88
    weight = moment.side * 9.0 + 0.02 * math.sin(5.0 * moment.elapsed) if is_stable else 0.0
    return Pose(centre, moment.side, 0.0, (hand,), weight=weight)


def bag(moment: Moment) -> Pose:
    """The item sinks into the bag from above; its lower part is hidden behind the bag's front."""
    x, _ = box_centre(moment.layout.bag)
    # Its top stays above the rim for most of the way, so that it remains visible.
    high, low = moment.layout.rim - 0.14, moment.layout.rim + 0.06
    centre = (x + 0.5 * moment.wobble[0], high + (low - high) * smooth(moment.u))
    palm = move(centre, 0.30 * moment.side, -0.42 * moment.side)
    hand = Hand(palm, (1.06, 0.30))
    return Pose(centre, moment.side, 0.0, (hand,), hidden_below=moment.layout.rim, in_bag=True)


def unbag(moment: Moment) -> Pose:
    """As `bag`, backwards in time."""
    return bag(moment._replace(u=1.0 - moment.u))


def return_shelf(moment: Moment) -> Pose:
    """A long arm puts the item between the others on the shelf."""
    x1, y1, x2, y2 = moment.layout.shelf
    spot = (x1 + (x2 - x1) * (0.3 + 0.4 * ((moment.side * 997.0) % 1.0)), y2 - 0.10)
    entry = moment.layout.shelf_entry
    centre = _fetch_point(moment, spot, entry)
    return _pose_held(centre, moment.side, (entry[0] - 0.02, 1.12), -6.0)


def inspect(moment: Moment) -> Pose:
    """Two hands hold the item in front of the counter and turn it to and fro."""
    spot = (box_centre(moment.layout.scanner)[0] - 0.08, 0.80)
    centre = _fetch_point(moment, spot, (spot[0], 1.2))
    angle, side = 75.0 * math.sin(1.5 * moment.elapsed), 1.15 * moment.side
    left, right = move(centre, -0.45 * side, 0.1 * side), move(centre, 0.45 * side, 0.1 * side)
    hands = (Hand(left, (spot[0] - 0.13, 1.12)), Hand(right, (spot[0] + 0.13, 1.12)))
    return Pose(centre, side, angle, hands)


def hand_over(moment: Moment) -> Pose:
    """One hand from below and another person's from above hold the item at the counter's edge."""
    x = moment.layout.gap
    spot = (x, 0.46 - 0.06 * smooth((moment.u - 0.3) / 0.4))
    centre = _fetch_point(moment, spot, (x, 0.62))
    lower, upper = move(centre, 0.0, 0.45 * moment.side), move(centre, 0.0, -0.45 * moment.side)
    return Pose(
        centre, moment.side, 4.0, (Hand(lower, _arm_root(spot)), Hand(upper, (x - 0.03, -0.12), clerk=True))
    )


def conceal(moment: Moment) -> Pose:
    """The item, close to the body, goes under a dark garment; about half of it stays visible."""
    spot = (box_centre(moment.layout.scale)[0] + 0.02, 0.84)
    centre = _fetch_point(moment, spot, (spot[0] - 0.12, 0.70))
    cover = centre[1] + moment.side * (0.45 - 0.5 * smooth((moment.u - 0.1) / 0.5))
    hand = Hand(move(centre, -0.48 * moment.side, -0.1 * moment.side), (spot[0] - 0.2, 1.12))
    return Pose(centre, moment.side, 0.0, (hand,), hidden_below=cover, garment=True)


def sticker(moment: Moment) -> Pose:
    """The item stands in front of the belt; a hand presses a white patch onto it."""
    spot = (box_centre(moment.layout.belt)[0] + 0.01, 0.85)
    centre = move(spot, *moment.wobble)
    press = 0.05 * math.sin(3.0 * moment.elapsed)
    palm = move(centre, 0.42 * moment.side, (0.28 + press) * moment.side)
    return Pose(centre, moment.side, 0.0, (Hand(palm, _arm_root(spot, 0.14)),), patch=smooth(moment.u / 0.2))


MOTIONS: dict[str, Motion] = {
    "pick_belt": pick_belt,
    "scan": scan,
    "weigh": weigh,
    "bag": bag,
    "return_shelf": return_shelf,
    "inspect": inspect,
    "hand_over": hand_over,
    "conceal": conceal,
    "unbag": unbag,
    "sticker": sticker,
}
