"""What both runs are asked: questions that equal seeds make equal, about whatever is watched.

Half of the questions about a checkout world are about something that happened in it, as people ask; the
others, and all about real video, join any object with any activity and any window, so that absence is asked
about too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.product_photo import product_photo
from edge_runtime.simulation.world import World

KINDS = ("activity", "object", "time")
_SHARE_OF_EVENTS = 0.5
_SHORTEST_S = 2.0
"""A window holds at least a few samples, whatever was drawn."""
_ANY_ACTIVITY = 0.2
"""Share of time questions that ask when anything was done with the object."""


class Happening(NamedTuple):
    """Something that happened and can be asked about: what was done, the object's photos, seconds."""

    activity: str
    object: Photos
    start: float
    end: float


Events = Callable[[float], Sequence[Happening]]
"""What has happened until a time, in seconds."""


class Asking(NamedTuple):
    """What questions are made of. `objects` may be empty: then only activities are asked for."""

    activities: Sequence[str]
    objects: Sequence[Photos]
    events: Events = lambda until: ()

    def draw(self, count: int, until: float, seed: int) -> list[AnyQuery]:
        """`count` questions about what was watched from 0 to `until` seconds, in turn of each kind.

        Equal seeds join equal objects, activities and shares of the time watched, so that the set is the same
        at every checkpoint while its windows grow.
        """
        happened = self.events(until)
        kinds = KINDS if self.objects else ("object",)
        return [
            self._one(kinds[i % len(kinds)], happened, until, np.random.default_rng([seed, i]))
            for i in range(count)
        ]

    def _one(
        self, kind: str, happened: Sequence[Happening], until: float, rng: np.random.Generator
    ) -> AnyQuery:
        first, last = sorted(float(x) for x in rng.uniform(0, until, 2))
        activity = self.activities[int(rng.integers(len(self.activities)))]
        shown = self.objects[int(rng.integers(len(self.objects)))] if self.objects else None
        whole, about, anything = rng.random(3)
        if happened and about < _SHARE_OF_EVENTS:
            event = happened[int(rng.integers(len(happened)))]
            activity, shown = event.activity, event.object
            margin = float(rng.uniform(0, 60))
            first, last = max(0.0, event.start - margin), min(until, event.end + margin)
        window: dict[str, Any] = {} if whole < 0.25 else {"from": first, "to": max(last, first + _SHORTEST_S)}
        if kind == "object" or shown is None:
            return ObjectQuery(activity=activity, **window)
        if kind == "activity":
            return ActivityQuery(object=shown, **window)
        return TimeQuery(activity=None if anything < _ANY_ACTIVITY else activity, object=shown, **window)


def about_world(world: World, activities: Sequence[str], products: int = 16) -> Asking:
    """Questions about a checkout world: photos of its first `products`, and what really happened.

    What the bundle's classes do not name is not asked for.
    """
    known = range(min(products, world.config.instances))
    photos = {one: photo_of(product_photo(world, one, world.query_views(one)[0])) for one in known}

    def events(until: float) -> list[Happening]:
        return [
            Happening(ACTIVITIES[one.activity].name, photos[one.instance], one.start, one.end)
            for one in world.events(0.0, until)
            if one.instance in photos and ACTIVITIES[one.activity].name in activities and one.start >= 0
        ]

    return Asking(activities, list(photos.values()), events)


def photo_of(png: bytes) -> Photos:
    """One photo as a question has it."""
    return Photos(photos=(png,))


def picture(image: NDArray[np.uint8]) -> Photos:
    """A photo of (H, W, 3) RGB."""
    return photo_of(bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()))
