"""Draw people: the hands that work, the walkers behind and the baskets that pass in front."""

from __future__ import annotations

import math
from typing import NamedTuple

from edge_runtime.simulation.canvas import Canvas, blend
from edge_runtime.simulation.layout import COUNTER_EDGE
from edge_runtime.simulation.motion import Hand
from edge_runtime.simulation.product_images import Rgb, rgb
from edge_runtime.simulation.rng import Use, mix, unit
from edge_runtime.simulation.space import ASPECT, Box, Point, move

_SKINS: tuple[Rgb, ...] = ((247, 214, 188), (229, 184, 148), (198, 146, 108), (151, 104, 74), (102, 70, 52))
_CUSTOMER_S = 180.0
_ARM_MARGIN = 0.3
"""Arms are drawn longer by this length, for cameras that see more than the room."""
FLOOR = 1.4
"""Height in the room below every camera's view."""
DARK_COAT: Rgb = (27, 26, 34)
GARMENT_REACH = 0.62
"""Half the width of a coat's flap, in sides of the product under it."""
_ENTRY_X = 1.3


class Person(NamedTuple):
    """Colours of a person."""

    skin: Rgb
    sleeve: Rgb
    coat: Rgb = DARK_COAT
    """Of the coat under which the person conceals something."""


def make_person(seed: int, t: float, hands: int, wardrobe: float) -> Person:
    """Return the person with pair of hands `hands` (a clerk: 100 + hands) at `t`: people come and go.

    `wardrobe` is the share of people in clothes of any colour.
    """
    key = (seed, Use.PEOPLE, hands, math.floor(t / _CUSTOMER_S))
    skin = _SKINS[mix(*key, 0) % len(_SKINS)]
    if unit(*key, 4) < wardrobe:
        sleeve, coat = any_colour(*key, 5), any_colour(*key, 6)
        return Person(skin, sleeve, sleeve if unit(*key, 7) < 0.6 else coat)
    return Person(skin, rgb(360.0 * unit(*key, 1), 0.35 + 0.4 * unit(*key, 2), 0.5 + 0.4 * unit(*key, 3)))


def any_colour(*key: int) -> Rgb:
    """Return a colour of clothes: every brightness from black to white is as likely."""
    return rgb(360.0 * unit(*key, 0), 0.8 * unit(*key, 1), 0.08 + 0.88 * unit(*key, 2))


def draw_arm(canvas: Canvas, hand: Hand, person: Person) -> None:
    """Draw sleeve, wrist and palm, which lie behind the product."""
    dx, dy = _direction(hand)
    s = hand.scale
    wrist = move(hand.palm, 0.045 * s * dx, 0.045 * s * dy)
    root = move(hand.root, _ARM_MARGIN * dx, _ARM_MARGIN * dy)
    canvas.line(root, wrist, 0.056 * s, blend(person.sleeve, (0, 0, 0), 0.25))
    canvas.line(root, wrist, 0.046 * s, person.sleeve)
    canvas.line(wrist, hand.palm, 0.030 * s, person.skin)
    canvas.ellipse(hand.palm, 0.028 * s, 0.026 * s, blend(person.skin, (60, 30, 20), 0.25))
    canvas.ellipse(hand.palm, 0.025 * s, 0.023 * s, person.skin)


def draw_fingers(canvas: Canvas, hand: Hand, person: Person) -> None:
    """Draw four fingers and a thumb over the product's edge."""
    dx, dy = _direction(hand)
    edge, s = blend(person.skin, (60, 30, 20), 0.35), hand.scale
    for place in (-0.020 * s, -0.007 * s, 0.007 * s, 0.020 * s):
        base = move(hand.palm, -dy * place, dx * place)
        tip = move(base, -0.034 * s * dx, -0.034 * s * dy)
        canvas.line(base, tip, 0.013 * s, edge)
        canvas.line(base, tip, 0.009 * s, person.skin)
    thumb = move(hand.palm, (-dy * 0.034 - dx * 0.012) * s, (dx * 0.034 - dy * 0.012) * s)
    canvas.line(hand.palm, thumb, 0.011 * s, person.skin)


def _direction(hand: Hand) -> Point:
    """Return the unit vector from the palm towards the arm's root, in picture widths."""
    dx, dy = hand.root[0] - hand.palm[0], (hand.root[1] - hand.palm[1]) / ASPECT
    length = math.hypot(dx, dy) or 1.0
    return dx / length, dy / length


class Walker(NamedTuple):
    """A person behind the counter, at `x`."""

    x: float
    person: Person


def make_walkers(
    seed: int, t: float, count: int, *, wardrobe: float = 0.0, from_left: bool = False
) -> list[Walker]:
    """Return the people behind the counter at `t`: they come in at one side, stay a while and leave again."""
    walkers = [walker for number in range(count) if (walker := _walker(seed, t, number, wardrobe))]
    return [walker._replace(x=1.0 - walker.x) for walker in walkers] if from_left else walkers


def _walker(seed: int, t: float, number: int, wardrobe: float) -> Walker | None:
    period = 19.0 + 7.0 * number
    turn, part = divmod(t / period + unit(seed, Use.PEOPLE, 50, number), 1.0)
    key = (seed, Use.PEOPLE, 51, number, int(turn))
    if unit(*key, 0) < 0.35:
        return None
    deep = 0.56 + 0.3 * unit(*key, 1)
    x = _ENTRY_X - (_ENTRY_X - deep) * min(1.0, 2.4 * min(part, 1.0 - part))
    skin = _SKINS[mix(*key, 2) % len(_SKINS)]
    if unit(*key, 5) < wardrobe:
        return Walker(x, Person(skin, any_colour(*key, 6)))
    return Walker(x, Person(skin, rgb(360.0 * unit(*key, 3), 0.5, 0.4 + 0.4 * unit(*key, 4))))


def draw_walker(canvas: Canvas, walker: Walker) -> None:
    """Draw head and shoulders, down to the counter."""
    x, skin, coat = walker.x, walker.person.skin, walker.person.sleeve
    canvas.polygon(
        [
            (x - 0.072, COUNTER_EDGE),
            (x - 0.065, 0.27),
            (x - 0.03, 0.22),
            (x + 0.03, 0.22),
            (x + 0.065, 0.27),
            (x + 0.072, COUNTER_EDGE),
        ],
        coat,
    )
    canvas.box((x - 0.014, 0.18, x + 0.014, 0.24), blend(skin, (0, 0, 0), 0.15))
    canvas.ellipse((x, 0.125), 0.036, 0.042, blend(coat, (20, 14, 10), 0.8))
    canvas.ellipse((x, 0.145), 0.030, 0.036, skin)


def draw_garment(canvas: Canvas, centre: Point, side: float, top: float, colour: Rgb) -> None:
    """Draw a coat's flap over everything under height `top`, and the side of the body that wears it."""
    x, wide = centre[0], GARMENT_REACH * side
    edge, body = blend(colour, (255, 255, 255), 0.16), blend(colour, (255, 255, 255), 0.06)
    canvas.polygon(
        [(x + 0.5 * wide, 0.80), (x + 1.6 * wide, 0.74), (x + 3.4 * wide, FLOOR), (x, FLOOR)], body
    )
    canvas.polygon(
        [(x - wide, top), (x + wide, top), (x + 1.7 * wide, FLOOR), (x - 1.1 * wide, FLOOR)], colour
    )
    canvas.line((x - wide, top + 0.01), (x - 1.1 * wide, FLOOR), 0.006, edge)
    canvas.line((x - 0.1 * wide, top + 0.05), (x + 0.2 * wide, FLOOR), 0.004, edge)
    for step in (0.07, 0.15):
        canvas.ellipse((x - 0.75 * wide, top + step), 0.006, 0.006, (150, 150, 158))


def draw_passing_coat(canvas: Canvas, box: Box, colour: Rgb) -> None:
    """Draw the side of somebody in a coat who passes in front of the camera."""
    x1, y1, x2, _ = box
    canvas.polygon([(x1, y1 + 0.05), (x1 + 0.25 * (x2 - x1), y1), (x2, y1), (x2, FLOOR), (x1, FLOOR)], colour)
    seam = blend(colour, (255, 255, 255) if sum(colour) < 384 else (0, 0, 0), 0.16)
    canvas.line((x1 + 0.6 * (x2 - x1), y1 + 0.02), (x1 + 0.55 * (x2 - x1), FLOOR), 0.005, seam)


def draw_basket(canvas: Canvas, box: Box, colour: Rgb) -> None:
    """Draw a shopping basket that is carried past, close to the camera."""
    canvas.box(box, blend(colour, (0, 0, 0), 0.4))
    x1, y1, x2, _ = box
    canvas.box((x1 + 0.006, y1 + 0.035, x2 - 0.006, FLOOR), colour)
    for step in range(1, 5):
        x = x1 + (x2 - x1) * step / 5
        canvas.line((x, y1 + 0.06), (x, FLOOR), 0.006, blend(colour, (0, 0, 0), 0.4))
