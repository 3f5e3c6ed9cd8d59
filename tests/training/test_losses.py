"""What an answer costs: against closed forms, by hand, and where something is missing."""

import math

import numpy as np
import pytest
import torch

from edge_runtime.query.decode import spans_from_bins
from export.training.lvm import losses

YES, NO = torch.tensor([True]), torch.tensor([False])


def cxcywh(x1, y1, x2, y2):
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.5])
def test_focal_is_its_closed_form(logit):
    p = 1 / (1 + math.exp(-logit))
    of_one = losses.focal_loss(torch.tensor([[logit]]), torch.tensor([[1.0]]), YES)
    of_none = losses.focal_loss(torch.tensor([[logit]]), torch.tensor([[0.0]]), YES)
    assert float(of_one) == pytest.approx(-0.25 * (1 - p) ** 2 * math.log(p), rel=1e-5)
    assert float(of_none) == pytest.approx(-0.75 * p**2 * math.log(1 - p), rel=1e-5)


def test_focal_sums_over_classes_and_averages_over_the_questions_meant():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    target = (logits > 0.3).float()
    each = torch.stack([losses.focal_loss(logits[i : i + 1], target[i : i + 1], YES) for i in range(3)])
    both = losses.focal_loss(logits, target, torch.tensor([True, False, True]))
    torch.testing.assert_close(both, (each[0] + each[2]) / 2)
    by_class = sum(losses.focal_loss(logits[:1, c : c + 1], target[:1, c : c + 1], YES) for c in range(5))
    torch.testing.assert_close(each[0], by_class)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7 - 2 / 9),  # union 7, hull 9
        ((0, 0, 1, 1), (2, 0, 3, 1), 0 - 1 / 3),  # apart: hull 3, union 2
        ((0, 0, 2, 2), (0, 0, 1, 1), 1 / 4),  # one inside the other
    ],
)
def test_generalised_iou_by_hand(a, b, expected):
    found = losses.generalised_iou(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_boxes_cost_five_times_l1_and_twice_what_giou_lacks():
    predicted = torch.tensor([[cxcywh(0.0, 0.0, 0.2, 0.2), cxcywh(0.5, 0.5, 0.9, 0.9)]])
    target = torch.tensor([[cxcywh(0.1, 0.1, 0.3, 0.3), cxcywh(0.0, 0.0, 0.1, 0.1)]])
    found = losses.box_loss(predicted, target, torch.tensor([[True, False]]))
    assert float(found) == pytest.approx(5 * 0.2 + 2 * (1 - (1 / 7 - 2 / 9)), rel=1e-5)


def test_boxes_without_area_have_a_finite_gradient():
    predicted = torch.zeros(1, 2, 4, requires_grad=True)
    losses.box_loss(predicted, torch.zeros(1, 2, 4), torch.tensor([[True, True]])).backward()
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 5), (2, 3), (5, 5)])
def test_the_cheapest_bins_are_those_that_the_answer_is_read_from(first, last):
    """What decoding makes of bins (first, last) is the span whose loss is nothing."""
    ticks = np.array([10, 15, 20, 25, 30, 35], np.int64)
    start, end = np.full(6, -30.0, np.float32), np.full(6, -30.0, np.float32)
    start[first] = end[last] = 30.0
    (told_start, told_end, _), *_ = spans_from_bins(start, end, ticks, top=1)
    span = torch.tensor([[round(told_start * 5), round(told_end * 5)]])
    cost = losses.span_loss(
        torch.tensor(start)[None], torch.tensor(end)[None], torch.tensor(ticks)[None], span, YES
    )
    assert float(cost) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("span", [(12, 23), (10, 11), (14, 15), (29, 30), (0, 99)])
def test_a_span_falls_into_the_bins_that_share_time_with_it(span):
    ticks = torch.tensor([[10, 15, 20, 25]])
    shares = [low < span[1] and min(low + 5, 30) > span[0] for low in (10, 15, 20, 25)]
    first, last = shares.index(True), 3 - shares[::-1].index(True)
    for bin_ in range(4):
        sharp = torch.full((1, 4), -30.0).scatter(1, torch.tensor([[bin_]]), 30.0)
        flat = torch.zeros(1, 4)
        begin = float(losses.span_loss(sharp, flat, ticks, torch.tensor([span]), YES)) - math.log(4)
        finish = float(losses.span_loss(flat, sharp, ticks, torch.tensor([span]), YES)) - math.log(4)
        assert (begin < 1) == (bin_ == first)
        assert (finish < 1) == (bin_ == last)


def test_padded_steps_of_a_window_cost_nothing():
    ticks = torch.tensor([[10, 15, torch.iinfo(torch.int64).max, torch.iinfo(torch.int64).max]])
    logits = torch.tensor([[1.0, 2.0, -1e9, -1e9]], requires_grad=True)
    padded = losses.span_loss(logits, logits, ticks, torch.tensor([[10, 20]]), YES)
    plain = losses.span_loss(logits[:, :2], logits[:, :2], ticks[:, :2], torch.tensor([[10, 20]]), YES)
    torch.testing.assert_close(padded, plain)
    padded.backward()
    assert (logits.grad[:, 2:] == 0).all() and torch.isfinite(logits.grad).all()


def test_the_pointer_costs_the_logarithm_of_what_evidence_gets():
    logits = torch.tensor([[1.0, 2.0, 3.0, -1e9]])
    evidence = torch.tensor([[True, False, True, False]])
    share = logits.softmax(1)[0, [0, 2]].sum()
    torch.testing.assert_close(losses.pointer_loss(logits, evidence, YES), -share.log())


@pytest.mark.parametrize("evidence", [[False, False], [False, True]])
def test_a_pointer_without_evidence_that_was_read_costs_nothing(evidence):
    """Nothing is evidence, or what is was not among the tokens that were read."""
    logits = torch.tensor([[1.0, -1e9]], requires_grad=True)
    cost = losses.pointer_loss(logits, torch.tensor([evidence]), YES)
    assert cost.item() == 0
    cost.backward()
    assert (logits.grad == 0).all()


def test_offsets_are_seconds_from_a_token_to_both_ends():
    tick, span = torch.tensor([[20, 30]]), torch.tensor([[10, 40]])
    right = torch.tensor([[[2.0, 4.0], [4.0, 2.0]]])  # 10 ticks are 2 s
    evidence = torch.ones(1, 2, dtype=torch.bool)
    assert float(losses.offset_loss(right, tick, span, evidence, YES)) == 0
    late = losses.offset_loss(right + 5.0, tick, span, evidence, YES)
    assert float(late) == pytest.approx(2 * 0.5)  # smooth L1 of one scale (5 s), for start and end


def test_few_positives_weigh_as_much_as_many_negatives():
    logits = torch.full((1, 100), 0.7)
    positive, valid = torch.arange(100)[None] < 3, torch.ones(1, 100, dtype=torch.bool)
    expected = (math.log1p(math.exp(-0.7)) + math.log1p(math.exp(0.7))) / 2
    assert float(losses.balanced_loss(logits, positive, valid)) == pytest.approx(expected, rel=1e-5)


def test_each_loss_is_nothing_where_no_question_has_its_kind():
    logits, tick = torch.randn(1, 3), torch.tensor([[0, 5, 10]])
    none = torch.zeros(1, 3, dtype=torch.bool)
    costs = [
        losses.focal_loss(logits, torch.ones(1, 3), NO),
        losses.box_loss(torch.rand(1, 3, 4), torch.rand(1, 3, 4), none),
        losses.span_loss(logits, logits, tick, torch.tensor([[0, 5]]), NO),
        losses.pointer_loss(logits, ~none, NO),
        losses.offset_loss(torch.rand(1, 3, 2), tick, torch.tensor([[0, 5]]), ~none, NO),
        losses.balanced_loss(logits, none, none),
    ]
    assert [float(cost) for cost in costs] == [0.0] * 6


def test_what_is_masked_may_be_infinite():
    logits = torch.tensor([[0.3, 0.5], [math.inf, math.nan]])
    which = torch.tensor([True, False])
    found = losses.focal_loss(logits, torch.ones(2, 2), which)
    torch.testing.assert_close(found, losses.focal_loss(logits[:1], torch.ones(1, 2), YES))
    span, ticks = torch.tensor([[0, 5], [0, 5]]), torch.tensor([[0, 5], [0, 5]])
    found = losses.span_loss(logits, logits, ticks, span, which)
    torch.testing.assert_close(found, losses.span_loss(logits[:1], logits[:1], ticks[:1], span[:1], YES))
