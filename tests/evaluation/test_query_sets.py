"""Queries drawn from arrays of truth."""

from __future__ import annotations

from export.evaluation.evaluate import find_object_tokens, find_target_events
from export.evaluation.query_sets import make_queries
from tests.support.evaluation_videos import cache


def test_every_positive_query_is_about_an_event_and_no_negative_is() -> None:
    queries = make_queries([cache()])
    assert {query.type for query in queries} == {"activity", "object", "time"}
    for query in queries:
        assert len(find_target_events(query, cache().truth)) == (1 if query.happened else 0), query


def test_objects_are_shown_by_cached_photos() -> None:
    for query in make_queries([cache()]):
        if query.type != "object":
            assert find_object_tokens(cache(), query, {}).shape == (49, cache().objects.shape[-1])


def test_equal_seeds_ask_the_same() -> None:
    assert make_queries([cache()], seed=3) == make_queries([cache()], seed=3)
    assert make_queries([cache()], seed=3) != make_queries([cache()], seed=4)


def test_boxes_are_those_of_the_event() -> None:
    queries = [query for query in make_queries([cache()]) if query.type == "object" and query.happened]
    assert queries
    for query in queries:
        event = int(find_target_events(query, cache().truth)[0])
        ticks, boxes = cache().truth.select_boxes(event)
        known = {
            int(tick): tuple(float(side) for side in box) for tick, box in zip(ticks, boxes, strict=True)
        }
        assert query.boxes and all(known[tick] == box for tick, box in query.boxes.items())
