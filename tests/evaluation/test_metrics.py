"""Metrics against cases worked by hand, plain definitions and scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from engines.errors import LvmError
from export.data import metrics
from export.data.metrics import evidence_cells
from export.data.records import EventRecord, TrackRecord

SCORES = np.array([[0.9, 0.5, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4]])
TRUTH = np.array([[1, 0, 1, 0], [0, 0, 1, 0]], bool)


def test_recall_at_x_counts_labels_among_as_many_classes_as_there_are_labels():
    recall = metrics.recall_at(SCORES, TRUTH)
    assert recall.per_query.tolist() == [0.5, 0.0]
    assert recall.macro == 0.25


def test_recall_at_three_x_looks_three_times_as_far_and_no_further_than_the_classes():
    assert metrics.recall_at(SCORES, TRUTH, 3).per_query.tolist() == [1.0, 1.0]
    assert metrics.recall_at(SCORES, TRUTH, 2).per_query.tolist() == [1.0, 1.0]


@given(st.lists(st.integers(0, 2), min_size=5, max_size=5), st.integers(1, 31), st.integers(1, 3))
def test_tied_classes_share_their_places_as_over_all_orders(scores, labels, multiple):
    truth = np.array([labels >> bit & 1 for bit in range(5)], bool)
    places = min(5, multiple * truth.sum())
    found = []
    for order in itertools.permutations(range(5)):
        best = sorted(order, key=lambda index: -scores[index])[:places]
        found.append(truth[best].sum())
    recall = metrics.recall_at([scores], [truth], multiple)
    assert recall.hits[0] == pytest.approx(np.mean(found))


def test_a_query_without_a_label_has_no_recall():
    with pytest.raises(LvmError, match="query 1 has none: leave negatives out"):
        metrics.recall_at(SCORES, [[1, 0, 0, 0], [0, 0, 0, 0]])


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(LvmError, match="scores must be numbers, got 1 NaN"):
        metrics.recall_at([[np.nan, 1.0]], [[True, False]])


def test_scores_of_another_shape_are_refused():
    with pytest.raises(LvmError, match=r"got \(2, 4\) and \(1, 4\)"):
        metrics.recall_at(SCORES, TRUTH[:1])


def test_box_iou_of_known_boxes():
    box = [0.0, 0.0, 0.2, 0.2]
    others = [box, [0.1, 0.0, 0.3, 0.2], [0.2, 0.0, 0.4, 0.2], [0.5, 0.5, 0.6, 0.6]]
    assert metrics.box_iou([box] * 4, others) == pytest.approx([1, 1 / 3, 0, 0])
    assert metrics.box_iou([0.3] * 4, [0.3] * 4) == 0


def test_boxes_are_interpolated_between_ticks_and_held_beyond_them():
    boxes = [[0.4, 0.0, 0.5, 0.1], [0.0, 0.0, 0.1, 0.1]]
    told = metrics.interpolate_boxes([20, 10], boxes, [0, 10, 15, 20, 99])
    assert told[:, 0] == pytest.approx([0, 0, 0.2, 0.4, 0.4])


def test_viou_is_the_mean_over_annotated_ticks_only():
    box, far = [0.0, 0.0, 0.2, 0.2], [0.6, 0.6, 0.8, 0.8]
    assert metrics.viou([0, 5, 10], [box, far, box], [0, 10], [box, box]) == pytest.approx(1)
    assert metrics.viou([0, 5, 10], [box, far, box], [0, 5], [box, box]) == pytest.approx(0.5)


def test_of_a_tick_that_lies_over_a_second_from_all_boxes_nothing_was_told():
    box = [0.0, 0.0, 0.2, 0.2]
    assert metrics.viou([10], [box], [5, 10, 15], [box] * 3) == pytest.approx(1)
    assert metrics.viou([10], [box], [4, 10, 16], [box] * 3) == pytest.approx(1 / 3)
    assert metrics.viou([0, 20], [box, box], [0, 5, 6, 14, 15, 20], [box] * 6) == pytest.approx(4 / 6)


def test_a_tube_without_boxes_is_not_found():
    assert metrics.viou([], [], [3], [[0, 0, 1, 1]]) == 0


def test_viou_needs_annotation_and_one_box_a_tick():
    with pytest.raises(LvmError, match="at least one annotated tick"):
        metrics.viou([1], [[0, 0, 1, 1]], [], [])
    with pytest.raises(LvmError, match="got 2 boxes for 1 ticks"):
        metrics.viou([1, 1], [[0, 0, 1, 1]] * 2, [1], [[0, 0, 1, 1]])


def test_tiou_of_known_spans():
    spans = [[0, 10], [0, 4], [0, 1], [5, 5]]
    truths = [[0, 10], [2, 6], [1, 2], [5, 5]]
    assert metrics.tiou(spans, truths) == pytest.approx([1, 1 / 3, 0, 0])


def test_an_iou_of_exactly_the_threshold_is_not_positive():
    assert metrics.is_positive([0.3, 0.31, 0.29]).tolist() == [False, True, False]


def event(t_s, t_e, instance=1):
    return EventRecord(video="v", event=f"{t_s}", activity=0, instance=instance, t_s=t_s, t_e=t_e)


def track(tick, box, active=1, instance=1, video="v"):
    return TrackRecord(video=video, instance=instance, category="c", tick5=tick, box=box, active=active)


CELL_0 = (0.0, 0.0, 1 / 7, 1 / 7)


def test_tubes_are_the_active_boxes_of_the_events_product_until_its_exclusive_end():
    tracks = [
        track(15, CELL_0), track(10, CELL_0), track(20, CELL_0), track(9, CELL_0),
        track(11, CELL_0, active=0), track(12, CELL_0, instance=2), track(13, CELL_0, video="w"),
    ]  # fmt: skip
    tubes = metrics.make_event_tubes([event(2, 4), event(50, 60)], tracks)
    assert [tube.ticks.tolist() for tube in tubes] == [[10, 15], []]
    assert tubes[0].boxes.shape == (2, 4) and tubes[1].boxes.shape == (0, 4)


def test_a_cell_is_evidence_from_a_quarter_of_the_smaller_area():
    quarter = (0.0, 0.0, 1 / 14, 1 / 14)
    shifted = (0.5 / 7, 0.0, 1.5 / 7, 1 / 7)
    large = (0.0, 0.0, 1.3 / 7, 1.2 / 7)
    cells = evidence_cells([quarter, shifted, large, (0.5, 0.5, 0.5, 0.9)])
    assert [np.flatnonzero(row).tolist() for row in cells] == [[0], [0, 1], [0, 1], []]


def test_a_token_is_evidence_only_at_its_own_tick_and_cell():
    tubes = metrics.make_event_tubes([event(2, 4), event(50, 60)], [track(10, CELL_0), track(15, CELL_0)])
    ticks, cells = np.array([10, 10, 15, 12, 99, 0]), np.array([0, 1, 0, 0, 0, 0])
    assert [metrics.is_evidence(tube, ticks, cells).sum() for tube in tubes] == [2, 0]


def test_coverage_is_the_share_of_events_with_enough_evidence():
    assert metrics.coverage([0, 1, 4, 9]) == 0.75
    assert metrics.coverage([0, 1, 4, 9], min_tokens=4) == 0.5


def test_calibration_error_of_known_bins():
    confidence = [0.2, 0.2, 0.2, 0.2, 0.8, 0.8, 0.8, 0.8]
    correct = [0, 0, 0, 1, 1, 1, 0, 0]
    assert metrics.calibration_error(confidence, correct, bins=2) == pytest.approx((0.05 + 0.3) / 2)
    assert metrics.calibration_error(confidence, correct, bins=1) == pytest.approx(0.125)


def test_calibration_error_does_not_depend_on_the_order_of_ties(rng):
    confidence = rng.integers(0, 5, 200) / 5
    correct = rng.random(200) < confidence
    order = rng.permutation(200)
    one = metrics.calibration_error(confidence, correct)
    assert one == pytest.approx(metrics.calibration_error(confidence[order], correct[order]))


def test_true_probabilities_have_next_to_no_calibration_error(rng):
    p = rng.random(20_000)
    assert metrics.calibration_error(p, rng.random(20_000) < p) < 0.02
    assert metrics.calibration_error(p, rng.random(20_000) < p**2) > 0.1


def test_auroc_is_scikit_learns_also_with_ties(rng):
    for levels in (3, 1000):
        score = rng.integers(0, levels, 300)
        happened = rng.random(300) < 0.3
        assert metrics.auroc(score, happened) == pytest.approx(roc_auc_score(happened, score))


def test_auroc_of_a_constant_is_a_half():
    assert metrics.auroc([1, 1, 1], [True, False, True]) == 0.5


def test_auroc_without_negatives_is_refused():
    with pytest.raises(LvmError, match="got 2 and 0: ask about both"):
        metrics.auroc([0.1, 0.2], [True, True])
