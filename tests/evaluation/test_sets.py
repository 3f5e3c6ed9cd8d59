"""Queries drawn from arrays of truth."""

from __future__ import annotations

from export.evaluation.evaluate import object_tokens
from export.evaluation.query_sets import queries_about
from export.evaluation.targets import target_events
from tests.support.evaluation_videos import cache


def test_every_positive_query_is_about_an_event_and_no_negative_is() -> None:
    queries = queries_about([cache()])
    assert {one.type for one in queries} == {"activity", "object", "time"}
    for one in queries:
        assert len(target_events(one, cache().truth)) == (1 if one.happened else 0), one


def test_objects_are_shown_by_cached_photos() -> None:
    for one in queries_about([cache()]):
        if one.type != "object":
            assert object_tokens(cache(), one, {}).shape == (49, cache().objects.shape[-1])


def test_equal_seeds_ask_the_same() -> None:
    assert queries_about([cache()], seed=3) == queries_about([cache()], seed=3)
    assert queries_about([cache()], seed=3) != queries_about([cache()], seed=4)


def test_boxes_are_those_of_the_event() -> None:
    queries = [one for one in queries_about([cache()]) if one.type == "object" and one.happened]
    assert queries
    for one in queries:
        event = int(target_events(one, cache().truth)[0])
        ticks, boxes = cache().truth.boxes(event)
        known = {
            int(tick): tuple(float(side) for side in box) for tick, box in zip(ticks, boxes, strict=True)
        }
        assert one.boxes and all(known[tick] == box for tick, box in one.boxes.items())
