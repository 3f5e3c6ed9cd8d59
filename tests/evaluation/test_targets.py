"""What a query is about, and how much of it is remembered, on a video of two events."""

import numpy as np
import pytest

from export.data.metrics import coverage, is_evidence, make_event_tubes
from export.evaluation.evaluate import EvidenceIndex, classify_window, find_asked_window, find_target_events
from tests.support.evaluation_videos import cache, queries, query, truth


def remembered(*tokens: tuple[int, int]) -> EvidenceIndex:
    """What is known after remembering tokens (second, cell)."""
    tick, cell = (np.array(column, np.int64) for column in zip(*tokens, strict=True))
    return EvidenceIndex.build(truth(), tick * 5, cell.astype(np.int32), np.arange(46) * 5)


def test_each_query_of_what_happened_has_its_event_and_no_other() -> None:
    found = {query.qid: find_target_events(query, truth()).tolist() for query in queries()}
    assert found.pop("never-activity") == found.pop("never-object") == found.pop("never-time") == []
    assert found == {name: [1 if name.endswith("-1") else 0] for name in found}


def test_an_activity_query_may_have_several_targets() -> None:
    both = query("activity", t_s=0.0, t_e=46.0, activities=(0, 1), instance=None)
    assert find_target_events(both, truth()).tolist() == [0, 1]


def test_time_is_asked_over_the_query_window_and_the_rest_over_the_given_one() -> None:
    assert find_asked_window(query("time")) == (0, 46)
    assert find_asked_window(query("object")) == (10, 16)


def test_a_window_is_loose_from_half_a_minute_on() -> None:
    kinds = [classify_window(query("activity", t_s=0.0, t_e=end)) for end in (29.8, 30.0)]
    assert kinds == ["tight", "loose"] and classify_window(query("time")) is None


def test_only_tokens_on_the_product_while_it_is_used_are_evidence() -> None:
    # Cell 0 lies in the corner of product 0, cell 48 in that of product 1.
    known = remembered((12, 0), (12, 48), (20, 0), (31, 48))
    assert known.count_by_event().tolist() == [1, 1]


def test_counts_are_those_of_the_coverage_metric() -> None:
    one = cache()
    tokens = np.unravel_index(np.random.default_rng(0).permutation(46 * 49)[:300], (46, 49))
    known = EvidenceIndex.build(one.truth, tokens[0] * 5, tokens[1].astype(np.int32), one.ticks)
    from export.data.records import TrackRecord
    from tests.support.evaluation_videos import CORNERS, EVENTS

    tracks = [
        TrackRecord(video="v", instance=i, category="", tick5=tick, box=CORNERS[i], active=1)
        for i in (0, 1)
        for tick in range(46 * 5)
    ]
    counts = [is_evidence(tube, tokens[0] * 5, tokens[1]).sum() for tube in make_event_tubes(EVENTS, tracks)]
    assert known.count_by_event().tolist() == counts and coverage(counts) == 1


def test_the_gap_is_the_mean_time_from_the_targets_frames_to_remembered_evidence() -> None:
    count, gap = remembered((10, 0), (10, 1), (15, 0)).measure_query(query("object"))
    # Frames at 10, 11 ... 15 s lie 0, 1, 2, 2, 1, 0 s from the evidence.
    assert count == 3 and gap == pytest.approx(1.0)


def test_evidence_outside_of_the_asked_window_does_not_count() -> None:
    known = remembered((10, 0), (15, 0))
    assert known.measure_query(query("object", t_s=13.0, t_e=16.0)) == (1, pytest.approx(1.0))
    assert known.measure_query(query("object", t_s=12.0, t_e=14.0)) == (0, None)
