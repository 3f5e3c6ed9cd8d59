"""The rule by which the catalogue test judges every method."""

import math

import numpy as np
import pytest

from edge_runtime.query.answers import Answer, Covered, SpanCandidate
from engines.errors import LvmError
from export.evaluation.catalogue import (
    Moment,
    Outcome,
    estimate_mean,
    rank_places,
    rank_times,
    score_chance,
    score_times,
    select_distinct,
)

SCAN = Moment(20.0, 28.0, "scan")


def _answer(confidence, *spans):
    found = tuple(SpanCandidate(start=s, end=e, confidence=p) for s, e, p in spans)
    return Answer(
        type="time", answer="", confidence=confidence, abstained=False, spans=found, trained=True,
        coverage=Covered(start=0.0, end=99.0), memory_version=1, milliseconds=1.0,
    )  # fmt: skip


def _outcome(value, *, product="a", stream=0, draw=0):
    scores = {"memory": {"recall_at_1": value}}
    return Outcome(stream=stream, product=product, draw=draw, photos=1, closeup=False, scores=scores)


def test_a_moment_reaches_one_second_beyond_its_ends():
    assert [SCAN.holds(t) for t in (18.9, 19.0, 24.0, 29.0, 29.1)] == [False, True, True, True, False]


def test_places_near_a_better_one_are_passed_over():
    assert select_distinct([10.0, 12.0, 14.9, 15.0, 40.0]) == [0, 3, 4]


def test_only_five_distinct_places_count():
    wrong = [100.0, 200.0, 300.0, 400.0]
    assert score_times([*wrong, 24.0], [SCAN]) == {"recall_at_1": 0.0, "recall_at_5": 1.0}
    assert score_times([*wrong, 500.0, 24.0], [SCAN]) == {"recall_at_1": 0.0, "recall_at_5": 0.0}
    assert score_times([24.0, *wrong], [SCAN]) == {"recall_at_1": 1.0, "recall_at_5": 1.0}


def test_any_moment_of_the_product_is_right():
    assert score_times([51.0], [SCAN, Moment(50.0, 53.0, "bag")])["recall_at_1"] == 1.0


def test_a_method_that_finds_no_place_is_wrong():
    assert score_times([], [SCAN]) == {"recall_at_1": 0.0, "recall_at_5": 0.0}


def test_places_are_the_spans_of_an_answer_the_surest_first():
    places = rank_places(_answer(0.5, (0.0, 4.0, 0.3), (8.0, 12.0, 0.6), (20.0, 22.0, 0.1)))
    assert [place.centre for place in places] == [10.0, 2.0, 21.0]
    assert [place.score for place in places] == [0.6, 0.3, 0.1]


def test_frames_are_ranked_by_score_and_equal_ones_by_time():
    assert rank_times(np.float32([1, 3, 3, 2]), np.arange(4.0)) == [1.0, 2.0, 3.0, 0.0]


def test_chance_is_the_share_of_the_stream_and_five_draws_of_it():
    times = np.arange(0.0, 1000.0, 10.0)  # so far apart that all are distinct
    moments = [Moment(200.0, 290.0, "scan")]  # holds 10 of 100
    found = score_chance(times, moments, seed=1, repeats=4000)
    assert found["recall_at_1"] == pytest.approx(0.1)
    assert found["recall_at_5"] == pytest.approx(1 - math.comb(90, 5) / math.comb(100, 5), abs=0.02)


def test_an_estimate_is_the_mean_and_its_interval_holds_it():
    found = estimate_mean(
        [_outcome(v, product=p, stream=s) for s in range(4) for p, v in zip("abc", (1, 0, 1), strict=True)],
        1,
        "memory",
        "recall_at_1",
    )
    assert found.value == pytest.approx(2 / 3)
    assert found.low < found.value < found.high


def test_asking_again_does_not_make_an_estimate_surer():
    once = [_outcome((s + i) % 2, product=p, stream=s) for s in range(5) for i, p in enumerate("abcd")]
    again = [one.model_copy(update={"draw": draw}) for one in once for draw in range(10)]
    first, second = (estimate_mean(some, 1, "memory", "recall_at_1") for some in (once, again))
    assert first == pytest.approx(second)


def test_products_that_differ_make_an_estimate_unsure_however_many_streams():
    streams = range(50)
    by_product = [_outcome(p in "ab", product=p, stream=s) for s in streams for p in "abcd"]
    found = estimate_mean(by_product, 1, "memory", "recall_at_1")
    assert found.high - found.low > 0.5


def test_nothing_measured_is_one_sentence():
    with pytest.raises(LvmError, match="memory recall_at_1 with 3 photos"):
        estimate_mean([_outcome(1.0)], 3, "memory", "recall_at_1")
