"""Draw questions about a stream; equal seeds give equal questions.

Half of the questions about a checkout world are about something that happened in it, as people ask. The
others, and all about real video, combine any object with any activity and any window, so that absence is
asked about too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.world import World

KINDS = ("activity", "object", "time")
_SHARE_OF_EVENTS = 0.5
_MIN_WINDOW_S = 2.0
"""Minimum length of a window, so that it holds at least a few samples."""
_ANY_ACTIVITY = 0.2
"""Share of time questions that ask when anything was done with the object."""


class PastEvent(NamedTuple):
    """Something that happened and can be asked about: the activity, the object's photos, seconds."""

    activity: str
    object: Photos
    start: float
    end: float


Events = Callable[[float], Sequence[PastEvent]]
"""Returns what has happened until a time, in seconds."""


class QuestionGenerator(NamedTuple):
    """What questions are made of. `objects` may be empty: then only activities are asked for."""

    activities: Sequence[str]
    objects: Sequence[Photos]
    events: Events = lambda until: ()

    def draw(self, count: int, until: float, seed: int) -> list[AnyQuery]:
        """Draw `count` questions about what was watched from 0 to `until` seconds, each kind in turn.

        Equal seeds join equal objects, activities and shares of the time watched, so that the set is the same
        at every checkpoint while its windows grow.
        """
        happened = self.events(until)
        kinds = KINDS if self.objects else ("object",)
        return [
            self._draw_question(kinds[i % len(kinds)], happened, until, np.random.default_rng([seed, i]))
            for i in range(count)
        ]

    def _draw_question(
        self, kind: str, happened: Sequence[PastEvent], until: float, rng: np.random.Generator
    ) -> AnyQuery:
        first, last = sorted(float(x) for x in rng.uniform(0, until, 2))
        activity = self.activities[int(rng.integers(len(self.activities)))]
        photo = self.objects[int(rng.integers(len(self.objects)))] if self.objects else None
        whole, about, anything = rng.random(3)
        if happened and about < _SHARE_OF_EVENTS:
            event = happened[int(rng.integers(len(happened)))]
            activity, photo = event.activity, event.object
            margin = float(rng.uniform(0, 60))
            first, last = max(0.0, event.start - margin), min(until, event.end + margin)
        window: dict[str, Any] = (
            {} if whole < 0.25 else {"from": first, "to": max(last, first + _MIN_WINDOW_S)}
        )
        if kind == "object" or photo is None:
            return ObjectQuery(activity=activity, **window)
        if kind == "activity":
            return ActivityQuery(object=photo, **window)
        return TimeQuery(activity=None if anything < _ANY_ACTIVITY else activity, object=photo, **window)


def make_world_questions(world: World, activities: Sequence[str], products: int = 16) -> QuestionGenerator:
    """Make a generator for a checkout world, with photos of its first `products` and its real events.

    Activities that the bundle's classes lack are left out.
    """
    known = range(min(products, world.config.instances))
    photos = {
        instance: to_photo(world.encode_photo(instance, world.query_views(instance)[0])) for instance in known
    }

    def events(until: float) -> list[PastEvent]:
        return [
            PastEvent(ACTIVITIES[event.activity].name, photos[event.instance], event.start, event.end)
            for event in world.events(0.0, until)
            if event.instance in photos and ACTIVITIES[event.activity].name in activities and event.start >= 0
        ]

    return QuestionGenerator(activities, list(photos.values()), events)


def to_photo(png: bytes) -> Photos:
    """Wrap one photo for a question."""
    return Photos(photos=(png,))


def encode_photo(image: NDArray[np.uint8]) -> Photos:
    """Encode (H, W, 3) RGB as a photo for a question."""
    return to_photo(bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()))
