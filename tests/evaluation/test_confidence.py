"""Scaling fitted on made-up validation answers, and what it does to made-up test answers."""

from typing import Any

import numpy as np
import pytest

from engines.manifest import Scaling, Thresholds
from export.evaluation.confidence import (
    calibrate,
    choose_time_head,
    collect_samples,
    logit,
    measure_calibration,
)
from export.evaluation.results import Result
from tests.evaluation.test_report import result


def overconfident(seed: int, count: int = 1200, **changes: Any) -> list[Result]:
    """Says presence with logit x where the honest one is x / 3 - 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 4, count)
    happened = rng.random(count) < 1 / (1 + np.exp(-(x / 3 - 1)))
    return [
        result("abcd"[i % 4], i, presence_logit=float(x[i]), happened=bool(happened[i]), **changes)
        for i in range(count)
    ]


def spans(bins: float, pointer: float, confidence: float = 0.5) -> dict[str, dict[str, float]]:
    return {
        name: {"tiou": tiou, "confidence": confidence}
        for name, tiou in (("bins", bins), ("pointer", pointer))
    }


def test_scaling_makes_the_test_answers_honest() -> None:
    thresholds = calibrate(overconfident(0))
    assert thresholds.presence_scaling.a == pytest.approx(1 / 3, abs=0.06)
    assert thresholds.presence_scaling.b == pytest.approx(-1, abs=0.2)
    found = measure_calibration(overconfident(1), {0: thresholds})["presence"]
    assert found.samples == 1200
    assert found.before.estimate > 0.12 and found.after.estimate < 0.05
    assert found.after.low <= found.after.estimate <= found.after.high


def test_not_seen_is_said_where_it_is_likelier_than_not() -> None:
    assert calibrate(overconfident(0)).presence == 0.5


def test_without_negatives_nothing_is_scaled_and_nothing_abstains() -> None:
    found = calibrate([result("a", 0, presence_logit=1.0), result("a", 1, presence_logit=-1.0)])
    assert found.presence_scaling == Scaling() and found.presence == 0


def test_each_seed_is_scaled_as_its_own_manifest_says() -> None:
    both = overconfident(1) + [one.model_copy(update={"seed": 5}) for one in overconfident(1)]
    own = calibrate(overconfident(0))
    found = {
        seed: measure_calibration(both, {0: own, 5: other}) for seed, other in ((0, Thresholds()), (5, own))
    }
    assert found[5]["presence"].after.estimate < 0.05 < found[0]["presence"].after.estimate


def test_activities_are_right_where_the_first_one_is_a_label() -> None:
    some = [
        result("a", 0, class_logits=(0.5, 2.0), labels=(1,)),
        result("a", 1, class_logits=(3.0, 2.0), labels=(1,)),
        result("a", 2, class_logits=(3.0, 2.0), labels=(), happened=False),
    ]
    known = collect_samples(some, "bins")["activity"]
    assert known.logits.tolist() == [2, 3, 3] and known.right.tolist() == [True, False, False]


def test_spans_are_scaled_by_way_of_their_probability() -> None:
    some = [result("a", 0, type="time", spans=spans(0.1, 0.5, confidence=0.8))]
    known = collect_samples(some, "pointer")["span"]
    assert known.logits == pytest.approx([float(logit(0.8))]) and known.right.tolist() == [True]
    assert collect_samples(some, "bins")["span"].right.tolist() == [False]


def test_the_manifest_names_the_head_that_finds_more() -> None:
    bins, pointer, both = (
        [result("a", 0, type="time", spans=spans(*tious))] for tious in ((1, 0), (0, 1), (1, 1))
    )
    assert [choose_time_head(one) for one in (bins, pointer, both)] == ["bins", "pointer", "pointer"]


def test_with_the_scaling_of_identity_nothing_changes() -> None:
    found = measure_calibration(overconfident(2, 300), {0: Thresholds()})["presence"]
    assert found.before == found.after


def test_points_are_taken_where_two_numbers_do_not_do() -> None:
    def stepped(seed: int) -> list[Result]:
        """Right in 30 of 100 below 0 and in 90 above, however sure it says it is."""
        rng = np.random.default_rng(seed)
        x = rng.normal(0, 4, 1200)
        right = rng.random(1200) < np.where(x < 0, 0.3, 0.9)
        return [
            result("abcd"[i % 4], i, presence_logit=float(x[i]), happened=bool(right[i])) for i in range(1200)
        ]

    thresholds = calibrate(stepped(0))
    assert thresholds.presence_scaling.points
    found = measure_calibration(stepped(1), {0: thresholds})["presence"]
    assert found.before.estimate > 0.12 and found.after.estimate < 0.05
    assert not calibrate(overconfident(0)).presence_scaling.points  # where the line is the truth


def test_few_samples_show_an_error_even_where_every_confidence_is_honest() -> None:
    few, many = (measure_calibration(overconfident(3, n), {0: Thresholds()})["presence"] for n in (200, 4000))
    assert (
        0.02 < few.honest_error < 0.1
        and many.honest_error < few.honest_error / 2
        and many.honest_error < many.after.estimate
    )
