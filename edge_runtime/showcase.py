"""Three questions about what the demo has just shown, with the truth beside the answers.

The demo world knows what happened, so that a person without a camera sees questions, answers and truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from edge_runtime.ask import AnyQuery
from edge_runtime.queries import ActivityQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.sources.demo import parse_demo
from edge_runtime.world.activities import ACTIVITIES
from edge_runtime.world.schedule import Event
from edge_runtime.world.world import World

PHOTO_SIDE_PX = 160
_LOOK_BACK_S = 600.0


@dataclass(frozen=True)
class Shown:
    """A question in words and as a query, and what really happened."""

    words: str
    query: AnyQuery
    truth: str


def demo_questions(spec: str, until: float) -> list[Shown]:
    """One question of each kind about the last event that ended before `until` seconds; none if none did."""
    world = World(parse_demo(spec).config)
    ended = [
        one
        for one in world.events(max(0.0, until - _LOOK_BACK_S), until)
        if 0 <= one.start < one.end <= until
    ]
    if not ended:
        return []
    event = max(ended, key=lambda one: one.end)
    activity, photo = ACTIVITIES[event.activity], Photos(photos=(_photo(world, event),))
    span = f"{event.start:.1f} to {event.end:.1f} s"
    return [
        Shown(
            f"what was done with this product from {span}?",
            ActivityQuery.model_validate({"object": photo, "from": event.start, "to": event.end}),
            activity.name,
        ),
        Shown(
            f"where was the product of {activity.name} from {span}?",
            ObjectQuery.model_validate({"activity": activity.name, "from": event.start, "to": event.end}),
            _place(world, event),
        ),
        Shown(
            f"when was {activity.name} done with this product?",
            TimeQuery.model_validate({"activity": activity.name, "object": photo}),
            span,
        ),
    ]


def _photo(world: World, event: Event) -> bytes:
    """Another picture of the product than any that was filmed, as a catalogue would have it."""
    image = world.instance_image(event.instance, (PHOTO_SIDE_PX, PHOTO_SIDE_PX), view=1)
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def _place(world: World, event: Event) -> str:
    t = (event.start + event.end) / 2
    for track in world.truth(t).active:
        if track.instance == event.instance:
            return f"box {', '.join(f'{v:.2f}' for v in track.box)} at {t:.1f} s"
    return f"hidden at {t:.1f} s"
