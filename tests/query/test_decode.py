"""Decoding against the plain definition."""

import numpy as np
import pytest

from edge_runtime.query import decode
from engines.manifest import Scaling


def test_the_best_span_is_the_argmax_over_all_ordered_pairs(rng):
    for _ in range(30):
        start, end = rng.normal(size=(2, 9)).astype(np.float32) * 3
        ticks = np.arange(9) * 10
        p, q = decode.softmax(start), decode.softmax(end)
        best = max((p[s] * q[e], s, e) for s in range(9) for e in range(s, 9))
        found = decode.spans_from_bins(start, end, ticks)[0]
        assert found[:2] == (best[1] * 2.0, (best[2] + 1) * 2.0)
        assert found[2] == pytest.approx(best[0], rel=1e-5)


def test_further_spans_do_not_overlap(rng):
    start, end = rng.normal(size=(2, 30)).astype(np.float32)
    spans = sorted(decode.spans_from_bins(start, end, np.arange(30) * 5))
    assert len(spans) > 1
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_pointing_at_a_token_gives_its_time_and_offsets():
    logits = np.array([0, 5, 4.5, 0, -1e9], np.float32)
    offsets = np.array([[1, 1], [2, 3], [2, 3], [1, 1], [9, 9]], np.float32)
    spans = decode.spans_from_pointer(logits, offsets, np.array([0, 500, 505, 2000, 0]))
    assert spans[0][:2] == (98, 103)
    assert spans[0][2] > 0.97
    assert all(one[2] >= two[2] for one, two in zip(spans, spans[1:], strict=False))


def test_evidence_near_a_span_takes_no_other_place():
    tick = np.array([500, 505, 500 + 5 * 7, 2000])  # two at the span's own time, one 4 s after its end
    logits, offsets = np.array([3, 2, 2.5, 2.6], np.float32), np.full((4, 2), 3, np.float32)
    p = decode.softmax(logits)
    first, second = decode.spans_from_pointer(logits, offsets, tick)
    assert first[:2] == (97, 103) and first[2] == pytest.approx(p[:3].sum(), rel=1e-5)
    assert second[:2] == (397, 403)
    apart = decode.spans_from_pointer(logits, offsets, tick + np.array([0, 0, 1, 0]))
    assert [span[0] for span in apart] == [97, 397, 104.2]


def test_an_answer_has_five_spans_at_most():
    logits, offsets = np.zeros(9, np.float32), np.ones((9, 2), np.float32)
    assert len(decode.spans_from_pointer(logits, offsets, np.arange(9) * 1000)) == decode.SPANS == 5


def test_moments_that_fit_are_all_told():
    tick = np.array([7, 3, 3, 900])
    assert decode.evidence_ticks(tick, np.array([True, True, True, False]), 2).tolist() == [3, 7]


def test_steady_moments_are_thinned_to_steady_ones():
    tick = np.arange(0, 40 * 64, 5) + 3  # a token a second
    of_all = decode.evidence_ticks(tick, np.ones(len(tick), np.bool_), 64)
    assert len(of_all) == 64 and np.unique(np.diff(of_all)).tolist() == [40]


def test_every_event_keeps_its_share_of_moments(rng):
    for _ in range(20):
        starts = np.arange(20) * 90 + rng.integers(0, 60, 20)  # an event of 16 s in each minute and a half
        tick = (starts[:, None] + np.arange(16)).ravel() * 5
        kept = decode.evidence_ticks(tick, np.ones(len(tick), np.bool_), 64)
        of_event = [np.isin(kept, tick.reshape(20, 16)[k]).sum() for k in range(20)]
        assert min(of_event) >= 3 and max(of_event) <= 4


def test_one_token_more_moves_one_moment(rng):
    for _ in range(100):
        tick = rng.choice(9000, 301, replace=False)
        fewer, more = (
            set(decode.evidence_ticks(tick[:n], np.ones(n, np.bool_), 64).tolist()) for n in (300, 301)
        )
        assert len(fewer) == len(more) == 64
        assert more - fewer <= {int(tick[300])}


def test_moments_are_thinned_by_the_reversed_bits_of_their_ticks(rng):
    tick = rng.choice(2**31, 200, replace=False)
    wanted = sorted(sorted(tick.tolist(), key=lambda one: f"{one:032b}"[::-1])[:50])
    assert decode.evidence_ticks(tick, np.ones(200, np.bool_), 50).tolist() == wanted


def test_boxes_are_bridged_over_short_gaps_only():
    boxes = np.array([[0, 0, 0.1, 0.1], [0.2, 0, 0.3, 0.1], [0.5, 0.5, 0.6, 0.6]], np.float32)
    out = decode.bridged_boxes(boxes, np.array([0, 10, 100]), np.array([True, True, True]), 20)
    assert [(tick, between) for tick, _, between in out] == [(0, False), (5, True), (10, False), (100, False)]
    assert np.allclose(out[1][1], [0.1, 0, 0.2, 0.1])
    assert decode.bridged_boxes(boxes, np.array([0, 10, 100]), np.zeros(3, bool), 20) == []


def test_the_longest_gap_that_is_bridged_is_the_limit_itself():
    boxes = np.array([[0, 0, 0.1, 0.1], [0.2, 0, 0.3, 0.1]], np.float32)
    ticks, supported = np.array([0, 10]), np.array([True, True])
    assert [tick for tick, _, _ in decode.bridged_boxes(boxes, ticks, supported, 10)] == [0, 5, 10]
    assert [tick for tick, _, _ in decode.bridged_boxes(boxes, ticks, supported, 9)] == [0, 10]


def test_beyond_its_points_a_calibration_goes_on_as_a_line():
    scaling = Scaling(a=2.0, b=9.0, points=((-1.0, -3.0), (0.0, 1.0), (2.0, 1.5)))
    expected = {-4.0: -9.0, -1.0: -3.0, -0.5: -1.0, 1.0: 1.25, 2.0: 1.5, 2.5: 2.5}  # logit to logit
    p = decode.calibrated(np.array(list(expected), np.float32), scaling)
    np.testing.assert_allclose(np.log(p / (1 - p)), list(expected.values()), rtol=1e-4)


def test_corners_stay_inside_the_picture():
    assert np.allclose(decode.xyxy(np.array([[0.1, 0.5, 0.4, 0.2]], np.float32)), [[0, 0.4, 0.3, 0.6]])


def test_steps_are_spread_over_the_window_with_both_ends():
    assert decode.spread_ticks(3, 6, 10).tolist() == [3, 4, 5, 6]
    ticks = decode.spread_ticks(0, 9000, 64)
    assert len(ticks) == 64 and ticks[0] == 0 and ticks[-1] == 9000
