"""The activities of the checkout world, in the order of their numbers."""

from __future__ import annotations

from typing import NamedTuple


class Activity(NamedTuple):
    """`name` for people and files; `doing` completes "a person ..."; it `accuses` whoever does it or not."""

    name: str
    doing: str
    accuses: bool = False


ACTIVITIES: tuple[Activity, ...] = (
    Activity("pick_belt", "picking an item up from the belt"),
    Activity("scan", "scanning an item"),
    Activity("weigh", "weighing an item"),
    Activity("bag", "putting an item into a bag"),
    Activity("return_shelf", "putting an item back on the shelf"),
    Activity("inspect", "turning an item over in both hands"),
    Activity("hand_over", "handing an item to another person"),
    Activity("conceal", "hiding an item under a garment", accuses=True),
    Activity("unbag", "taking an item out of a bag"),
    Activity("sticker", "putting a sticker on an item"),
)
"""All but bag and unbag can be recognised from one frame; those two differ in direction only."""


def find_activity(name: str) -> int:
    """Return the number of the activity called `name`. Raises ValueError where there is none."""
    names = [activity.name for activity in ACTIVITIES]
    if name not in names:
        raise ValueError(f"activity must be one of {', '.join(names)}, got {name!r}")
    return names.index(name)
