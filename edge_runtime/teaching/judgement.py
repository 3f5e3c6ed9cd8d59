"""Judge taught classes by their own examples: how right each is about what it has not seen, taught with few
of them and with all.

What comes from one group (a video, a recording, or one time) is taught or judged, never both. An example is
judged by the mean of its samplings, and so is each span beside one. Intervals come from drawing the groups
anew (bootstrap), so that twenty clips of one recording prove no more than one.

Letters: n rows, w numbers of each, k items that are judged, g groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.teaching.examples import Example
from edge_runtime.teaching.linear_layer import Values, fit_layer
from edge_runtime.teaching.taught_classes import MIN_CONFIDENCE, ClassRows, collect_rows

SIZES = (1, 3, 5, 10, 20, 50, 100, 200)
"""Examples that a point of the curve is taught with, and as many of what is not the class."""
REPEATS = 6
"""Times that these are drawn."""
MIN_JUDGED = 3
"""Examples of each side that must be left to judge by."""
FOLDS = 5
BOOTSTRAPS = 200
COVERAGE = 0.9
"""Share of the interval."""

Interval = tuple[float, float, float]
"""A share, and the ends of its interval."""


@dataclass(frozen=True)
class Judgement:
    """How right a class is that was taught with `examples` of itself, by what comes from `groups` others.

    `auc`: how often it is surer of a random occurrence than of something else; `recall`: the share that it
    recognises; `false_rate`: the share of the rest that it takes for it.
    """

    name: str
    examples: int
    groups: int
    auc: Interval
    recall: Interval
    false_rate: Interval

    def as_json(self) -> dict[str, Any]:
        """Return it for the interfaces; shares are [share, low, high]."""
        shares = {"auc": self.auc, "recall": self.recall, "false_rate": self.false_rate}
        return {
            "name": self.name,
            "examples": self.examples,
            "judged_by": self.groups,
            **{key: [round(end, 3) for end in interval] for key, interval in shares.items()},
        }


def judge_classes(examples: Sequence[Example], model: str, *, curve: bool = False) -> list[Judgement]:
    """Judge each class that has examples of two groups and something to tell it from, without the group that
    is judged; with `curve` first as it is when taught with fewer."""
    usable = [example for example in examples if example.model == model]
    judgements = []
    for name in sorted({example.name for example in usable if example.shows}):
        rows = collect_rows(name, usable)
        if rows is None:
            continue
        if curve:
            judgements += _draw_curve(name, rows)
        if scores := _score_all(rows):
            count = len(np.unique(rows.example[rows.positive]))
            judgements.append(_summarise(name, count, rows, scores))
    return judgements


def _score_all(rows: ClassRows) -> list[Values]:
    """Return confidences (n,) by layers that were not fitted to the group of each row, none where there are
    too few groups.

    Where there are enough, each fold of the groups is judged by the layer of the others, and alone: scores of
    different layers compare badly, and with each group left out alone noise comes out worse than chance.
    """
    rng = np.random.default_rng(2)
    scores = []
    for _ in range(2 if rows.group.max() + 1 >= 2 * FOLDS else 0):
        fold = rng.permutation(int(rows.group.max()) + 1) % FOLDS
        scores += [_score_fold(rows, fold[rows.group] == number) for number in range(FOLDS)]
    if scores and all(score is not None for score in scores):
        return [score for score in scores if score is not None]
    left_out = fit_layer(rows.rows, rows.positive.tolist(), rows.group.tolist()).left_out
    return [] if left_out is None else [left_out]


def _score_fold(rows: ClassRows, judged: NDArray[np.bool_]) -> Values | None:
    """Return the confidences (n,) of the rows that are `judged` by a layer that was fitted to the others, NaN
    for those; None where they are all of one side."""
    taught = rows.take(~judged)
    if taught.positive.all() or not taught.positive.any():
        return None
    layer = fit_layer(taught.rows, taught.positive.tolist(), taught.group.tolist()).layer
    return np.where(judged, layer.score(rows.rows), np.nan)


def _draw_curve(name: str, rows: ClassRows) -> list[Judgement]:
    rng = np.random.default_rng(0)
    points = []
    for size in SIZES:
        scores: list[Values] = []
        for _ in range(4 * REPEATS):  # some draws leave too little to judge by
            if len(scores) < REPEATS and (score := _score_rest(rows, size, rng)) is not None:
                scores.append(score)
        if len(scores) == REPEATS:
            points.append(_summarise(name, size, rows, scores))
    return points


def _score_rest(rows: ClassRows, size: int, rng: np.random.Generator) -> Values | None:
    """Return the confidences (n,) of a layer that was fitted to `size` random examples of the class, what
    lies beside them, and `size` of what is not the class; NaN for the groups that these were drawn from.
    None where too little is left to fit or to judge."""
    order = rng.permutation(np.unique(rows.group))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))  # groups are numbered from 0
    itself = rows.beside == 0
    chosen = np.zeros(len(rows.rows), np.bool_)
    last = -1
    for positive in (True, False):
        candidates, first = np.unique(rows.example[itself & (rows.positive == positive)], return_index=True)
        where = place[rows.group[itself & (rows.positive == positive)][first]]
        if len(candidates) < size and (positive or len(candidates)):
            return None
        nearest = np.argsort(where, kind="stable")[:size]
        chosen |= np.isin(rows.example, candidates[nearest])
        last = max(last, int(where[nearest].max(initial=-1)))
    rest = place[rows.group] > last
    judged = [np.unique(rows.example[rest & (rows.positive == side)]) for side in (True, False)]
    if min(map(len, judged)) < MIN_JUDGED:
        return None
    taught = rows.take(chosen)
    if taught.positive.all():
        return None
    layer = fit_layer(taught.rows, taught.positive.tolist(), taught.group.tolist()).layer
    return np.where(rest, layer.score(rows.rows), np.nan)


def _summarise(name: str, size: int, rows: ClassRows, scores: Sequence[Values]) -> Judgement:
    """Return the means over `scores`, each (n,) confidences, with intervals over the groups."""
    key = np.stack([rows.example, rows.beside])
    _, first, item = np.unique(key, axis=1, return_index=True, return_inverse=True)
    item = item.ravel()
    positive, group = rows.positive[first], rows.group[first]
    by_item = [np.bincount(item, score) / np.bincount(item) for score in scores]  # (k,) each
    count = int(rows.group.max()) + 1
    rng = np.random.default_rng(1)
    draws = [np.ones(count)]
    draws += [
        np.bincount(rng.integers(count, size=count), minlength=count).astype(float) for _ in range(BOOTSTRAPS)
    ]
    shares = np.array(
        [[_measure(score, positive, draw[group]) for score in by_item] for draw in draws]
    )  # (draws, repeats, 3)
    known = ~np.isnan(shares)
    means = np.where(known, shares, 0).sum(1) / np.maximum(known.sum(1), 1)  # (draws, 3)
    means = means[known.any(axis=(1, 2))]  # a draw may be of one side only
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=0)
    auc, recall, false_rate = (
        (float(means[0, at]), float(low[at]), float(high[at])) for at in range(means.shape[1])
    )
    judged = len(np.unique(group[~np.isnan(by_item).all(0)]))
    return Judgement(name, size, judged, auc, recall, false_rate)


def _measure(score: Values, positive: NDArray[np.bool_], weight: NDArray[np.float64]) -> tuple[float, ...]:
    """Return area under the curve, recall and false rate of items (k,), NaN where they cannot be said."""
    weight = np.where(np.isnan(score), 0.0, weight)
    right, wrong = weight * positive, weight * ~positive
    if not right.sum() or not wrong.sum():
        return (np.nan, np.nan, np.nan)
    said = np.nan_to_num(score) >= MIN_CONFIDENCE
    # Each occurrence beats what is surely less like it, and half of what is as like it.
    values, place = np.unique(np.nan_to_num(score), return_inverse=True)
    wrong_at = np.bincount(place, wrong, len(values))
    below = np.cumsum(wrong_at) - wrong_at / 2
    auc = float((right * below[place]).sum() / (right.sum() * wrong.sum()))
    return auc, float((right * said).sum() / right.sum()), float((wrong * said).sum() / wrong.sum())
