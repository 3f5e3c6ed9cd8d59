"""Decoding against the plain definition."""

import numpy as np
import pytest

from edge_runtime import decode


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


def test_boxes_are_bridged_over_short_gaps_only():
    boxes = np.array([[0, 0, 0.1, 0.1], [0.2, 0, 0.3, 0.1], [0.5, 0.5, 0.6, 0.6]], np.float32)
    out = decode.bridged_boxes(boxes, np.array([0, 10, 100]), np.array([True, True, True]), 20)
    assert [(tick, between) for tick, _, between in out] == [(0, False), (5, True), (10, False), (100, False)]
    assert np.allclose(out[1][1], [0.1, 0, 0.2, 0.1])
    assert decode.bridged_boxes(boxes, np.array([0, 10, 100]), np.zeros(3, bool), 20) == []


def test_corners_stay_inside_the_picture():
    assert np.allclose(decode.xyxy(np.array([[0.1, 0.5, 0.4, 0.2]], np.float32)), [[0, 0.4, 0.3, 0.6]])


def test_steps_are_spread_over_the_window_with_both_ends():
    assert decode.spread_ticks(3, 6, 10).tolist() == [3, 4, 5, 6]
    ticks = decode.spread_ticks(0, 9000, 64)
    assert len(ticks) == 64 and ticks[0] == 0 and ticks[-1] == 9000
