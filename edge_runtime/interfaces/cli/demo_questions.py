"""Three questions about what the demo has just shown, with the truth beside the answers.

The demo world knows what happened, so that a person without a camera sees questions, answers and truth. An
answer is right by the rules of the field: the first activity, boxes that overlap by more than 0.3 in the
mean, a span that overlaps by more than 0.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.query.answers import Answer, Box
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.product_photo import product_photo
from edge_runtime.simulation.schedule import Event
from edge_runtime.simulation.space import area
from edge_runtime.simulation.world import World
from edge_runtime.sources.demo import parse_demo

_LOOK_BACK_S = 600.0
_OVERLAP = 0.3


@dataclass(frozen=True)
class Shown:
    """A question in words and as a query, what really happened, and whether an answer says so."""

    words: str
    query: AnyQuery
    truth: str
    right: Callable[[Answer], bool]


def demo_questions(spec: str, until: float) -> list[Shown]:
    """One question of each kind about the last event that ended before `until` seconds; none if none did."""
    world = parse_demo(spec).world()
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
            lambda answer: bool(answer.activities) and answer.activities[0].activity == activity.name,
        ),
        Shown(
            f"where was the product of {activity.name} from {span}?",
            ObjectQuery.model_validate({"activity": activity.name, "from": event.start, "to": event.end}),
            _place(world, event),
            lambda answer: _overlap(answer, world, event) > _OVERLAP,
        ),
        Shown(
            f"when was {activity.name} done with this product?",
            TimeQuery.model_validate({"activity": activity.name, "object": photo}),
            span,
            lambda answer: bool(answer.spans) and _shared_time(answer, event) > _OVERLAP,
        ),
    ]


def _overlap(answer: Answer, world: World, event: Event) -> float:
    """Mean IoU of the told boxes with where the product was then; 0 where none was told during the event."""
    found = []
    for told in answer.boxes:
        for track in world.truth(told.t).active:
            if (track.instance, track.activity) == (event.instance, event.activity):
                found.append(_iou(told.box, track.box))
    return sum(found) / len(found) if found else 0.0


def _iou(a: Box, b: Box) -> float:
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return shared / (area(a) + area(b) - shared)


def _shared_time(answer: Answer, event: Event) -> float:
    """Intersection over union of the first span with the event."""
    span = answer.spans[0]
    shared = max(0.0, min(span.end, event.end) - max(span.start, event.start))
    return shared / (span.end - span.start + event.end - event.start - shared)


def _photo(world: World, event: Event) -> bytes:
    """Another picture of the product than any that was filmed, as a catalogue would have it."""
    return product_photo(world, event.instance, world.query_views(event.instance)[0])


def _place(world: World, event: Event) -> str:
    t = (event.start + event.end) / 2
    for track in world.truth(t).active:
        if track.instance == event.instance:
            return f"box {', '.join(f'{v:.2f}' for v in track.box)} at {t:.1f} s"
    return f"hidden at {t:.1f} s"
