"""Make three questions about the demo's last event, and compare answers with the ground truth.

The simulated world knows what happened, so a person without a camera can see how good the answers are. An
answer is right if its first activity is, if its boxes have a mean IoU above 0.3, or if its first span has an
IoU above 0.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.query.answers import Answer, Box
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, Photos, TimeQuery
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.schedule import Event
from edge_runtime.simulation.space import area
from edge_runtime.simulation.world import World
from edge_runtime.sources.demo import parse_demo

_SEARCH_S = 600.0
_MIN_IOU = 0.3


@dataclass(frozen=True)
class DemoQuestion:
    """A question as text and as a query, with the truth and a function that tells if an answer is right."""

    text: str
    query: AnyQuery
    truth: str
    is_right: Callable[[Answer], bool]


def make_demo_questions(spec: str, until: float) -> list[DemoQuestion]:
    """Return a question of each type about the last event that ended before `until` s; none if none did."""
    world = parse_demo(spec).make_world()
    ended = [
        event
        for event in world.events(max(0.0, until - _SEARCH_S), until)
        if 0 <= event.start < event.end <= until
    ]
    if not ended:
        return []
    event = max(ended, key=lambda event: event.end)
    activity, photo = ACTIVITIES[event.activity], Photos(photos=(_draw_photo(world, event),))
    span = f"{event.start:.1f} to {event.end:.1f} s"
    return [
        DemoQuestion(
            f"what was done with this product from {span}?",
            ActivityQuery.model_validate({"object": photo, "from": event.start, "to": event.end}),
            activity.name,
            lambda answer: bool(answer.activities) and answer.activities[0].activity == activity.name,
        ),
        DemoQuestion(
            f"where was the product of {activity.name} from {span}?",
            ObjectQuery.model_validate({"activity": activity.name, "from": event.start, "to": event.end}),
            _describe_place(world, event),
            lambda answer: _mean_box_iou(answer, world, event) > _MIN_IOU,
        ),
        DemoQuestion(
            f"when was {activity.name} done with this product?",
            TimeQuery.model_validate({"activity": activity.name, "object": photo}),
            span,
            lambda answer: bool(answer.spans) and _span_iou(answer, event) > _MIN_IOU,
        ),
    ]


def _mean_box_iou(answer: Answer, world: World, event: Event) -> float:
    """Return the mean IoU of the answer's boxes with the true ones; 0 if it has none during the event."""
    ious = []
    for box in answer.boxes:
        for track in world.truth(box.t).active:
            if (track.instance, track.activity) == (event.instance, event.activity):
                ious.append(_iou(box.box, track.box))
    return sum(ious) / len(ious) if ious else 0.0


def _iou(a: Box, b: Box) -> float:
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return shared / (area(a) + area(b) - shared)


def _span_iou(answer: Answer, event: Event) -> float:
    """Return the IoU of the answer's first span with the event."""
    span = answer.spans[0]
    shared = max(0.0, min(span.end, event.end) - max(span.start, event.start))
    return shared / (span.end - span.start + event.end - event.start - shared)


def _draw_photo(world: World, event: Event) -> bytes:
    """Return a photo of the product that is in no frame of the video, as in a catalogue."""
    return world.encode_photo(event.instance, world.query_views(event.instance)[0])


def _describe_place(world: World, event: Event) -> str:
    t = (event.start + event.end) / 2
    for track in world.truth(t).active:
        if track.instance == event.instance:
            return f"box {', '.join(f'{v:.2f}' for v in track.box)} at {t:.1f} s"
    return f"hidden at {t:.1f} s"
