"""Judging taught classes: by groups that were not taught, with intervals over groups, and learning curves."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.teaching import judgement
from edge_runtime.teaching.examples import Example
from edge_runtime.teaching.judgement import _measure, judge_classes

W = 30


def make_examples(count: int, *, shift: float, by_group: float = 0.0, clips: int = 1, seed: int = 0):
    """Return `count` examples of each of two classes, `clips` of a class in a group, which have looks of
    their own: `by_group` is how much. Classes differ by `shift`."""
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(2 * count):
        name, group = "ab"[number % 2], number // (2 * clips)
        looks = by_group * np.random.default_rng(1000 + group).normal(size=W)
        rows = rng.normal(size=(1, W)) + 0.1 * rng.normal(size=(3, W)) + looks
        rows[:, :5] += shift * (name == "a")
        examples.append(
            Example(
                number + 1, name, True, f"{number}.mp4", None, "m", ((0.0, 3.0),) * 3,
                rows.astype(np.float32), 3, 0.0, f"digest {number}", f"source {group}",
            )
        )  # fmt: skip
    return examples


def test_what_is_told_apart_is_and_noise_is_not():
    for shift, low, high in ((3.0, 0.97, 1.0), (0.0, 0.2, 0.7)):
        first, second = judge_classes(make_examples(30, shift=shift), "m")
        assert (first.name, second.name, first.examples, first.groups) == ("a", "b", 30, 30)
        assert low <= first.auc[0] <= high
        assert first.auc[1] <= first.auc[0] <= first.auc[2]
        assert first.as_json()["auc"] == [round(end, 3) for end in first.auc]
    assert judge_classes(make_examples(30, shift=3.0), "another bundle") == []


def test_more_examples_are_better_and_the_interval_is_over_groups():
    alone = judge_classes(make_examples(40, shift=0.8), "m", curve=True)
    points = [point for point in alone if point.name == "a"]
    assert [point.examples for point in points] == [1, 3, 5, 10, 20, 40]
    assert points[0].auc[0] < points[3].auc[0] < points[-1].auc[0] + 0.05
    # Forty clips of four recordings prove less than forty of forty, at the same share.
    rows = make_examples(40, shift=0.8, by_group=1.0, clips=10)
    (few,) = [one for one in judge_classes(rows, "m") if one.name == "a"]
    (many,) = [one for one in alone if one.name == "a" and one.examples == 40]
    assert few.groups == 4 and many.groups == 40
    assert few.auc[2] - few.auc[1] > 0


def test_nothing_of_a_group_that_is_judged_was_taught(monkeypatch):
    """Each clip is there twice, in one group: whoever taught one of them would know the other by heart."""
    rng = np.random.default_rng(3)
    examples = []
    for number in range(120):
        rows = np.random.default_rng(number // 2).normal(size=(1, W)).repeat(3, 0).astype(np.float32)
        examples.append(
            Example(
                number + 1, "ab"[int(np.random.default_rng(7).permutation(60)[number // 2]) % 2], True, "v",
                None, "m", ((0.0, 3.0),) * 3, rows, 3, 0.0, f"digest {number}", f"source {number // 2}",
            )
        )  # fmt: skip
    rng.shuffle(examples)
    fitted = []
    real = judgement.fit_layer
    monkeypatch.setattr(judgement, "fit_layer", lambda *given: fitted.append(given) or real(*given))
    points = judge_classes(examples, "m", curve=True)
    assert len(fitted) > 20
    assert all(point.auc[0] < 0.75 for point in points), "pairs of one clip were told by heart"


def test_the_area_under_the_curve_is_that_of_all_pairs(rng):
    score = np.round(rng.random(40), 1)  # with ties
    positive = rng.random(40) < 0.4
    weight = rng.integers(0, 3, 40).astype(float)
    score[::7] = np.nan
    pairs = [
        (weight[i] * weight[j], float(score[i] > score[j]) + 0.5 * float(score[i] == score[j]))
        for i in np.flatnonzero(positive & ~np.isnan(score))
        for j in np.flatnonzero(~positive & ~np.isnan(score))
    ]
    auc = sum(w * value for w, value in pairs) / sum(w for w, _ in pairs)
    assert _measure(score, positive, weight)[0] == pytest.approx(auc)
    assert np.isnan(_measure(score, np.ones(40, bool), weight)).all()
