"""The catalogue test: is the moment found at which a product outside the training set was handled?

A *moment* is the time during which something was done with the product. A method ranks times; the first five
distinct times count, and a time is right if it lies in a moment, or at most `SLACK_S` outside. Every method
is scored by this rule, also chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edge_runtime.query.answers import Answer
from engines.errors import LvmError

SLACK_S = 1.0
"""Seconds before and after a moment that still count: one sampled frame."""
APART_S = 5.0
"""Two times closer than this count as the same: the second is no news to a person who checks."""
TOP = 5


class Moment(NamedTuple):
    """Something was done with a product from `start` up to `end` seconds."""

    start: float
    end: float
    activity: str

    def holds(self, t: float) -> bool:
        return self.start - SLACK_S <= t <= self.end + SLACK_S


class Place(NamedTuple):
    """A span that an answer names."""

    start: float
    end: float
    score: float

    @property
    def centre(self) -> float:
        return (self.start + self.end) / 2


class Outcome(BaseModel):
    """A product of a stream, asked with `photos` photographs: method -> measure -> value in 0..1.

    `closeup`: at least one of its moments was seen from near.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream: int
    product: str
    draw: int
    photos: int
    closeup: bool
    scores: dict[str, dict[str, float]]


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, object]:
        return {"value": self.value, "interval": [self.low, self.high]}


def rank_places(answer: Answer) -> list[Place]:
    """Return the spans of the answer to a time question, the likeliest first."""
    places = [Place(span.start, span.end, span.confidence) for span in answer.spans]
    return sorted(places, key=lambda place: -place.score)


def select_distinct(times: Sequence[float], limit: int = TOP) -> list[int]:
    """Return the indices of the first `limit` times of which each is at least `APART_S` from those
    before it."""
    chosen: list[int] = []
    for i, t in enumerate(times):
        if all(abs(t - times[other]) >= APART_S for other in chosen):
            chosen.append(i)
            if len(chosen) == limit:
                break
    return chosen


def score_times(times: Sequence[float], moments: Sequence[Moment]) -> dict[str, float]:
    """Score `times`, best first: is the first right, and is any of the first five distinct times?"""
    right = [any(moment.holds(times[i]) for moment in moments) for i in select_distinct(times)]
    return {"recall_at_1": float(bool(right) and right[0]), "recall_at_5": float(any(right))}


def rank_times(scores: NDArray[np.floating], times: NDArray[np.floating]) -> list[float]:
    """Sort `times` (F,) by falling `scores` (F,); equal scores keep their order."""
    return [float(t) for t in times[np.argsort(-scores, kind="stable")]]


def score_chance(
    times: NDArray[np.floating], moments: Sequence[Moment], *, seed: int, repeats: int = 500
) -> dict[str, float]:
    """Score random rankings of `times` (F,) by the same rule; the first place exactly."""
    rng = np.random.default_rng(seed)
    five = [score_times(rng.permutation(times).tolist(), moments)["recall_at_5"] for _ in range(repeats)]
    first = np.mean([any(moment.holds(float(t)) for moment in moments) for t in times])
    return {"recall_at_1": float(first), "recall_at_5": float(np.mean(five))}


def estimate_mean(
    outcomes: Sequence[Outcome], photos: int, method: str, measure: str, *, repeats: int = 2000, seed: int = 0
) -> Estimate:
    """Return the mean of a measure, with an interval over products and streams, both resampled (pigeonhole
    bootstrap).

    Raises LvmError where nothing was measured.
    """
    selected = [
        outcome
        for outcome in outcomes
        if outcome.photos == photos and measure in outcome.scores.get(method, {})
    ]
    if not selected:
        raise LvmError(f"nothing was measured of {method} {measure} with {photos} photos; ask longer streams")
    values = np.array([outcome.scores[method][measure] for outcome in selected])
    rng = np.random.default_rng(seed)
    weights = np.ones((repeats, len(selected)))
    for groups in ([outcome.product for outcome in selected], [outcome.stream for outcome in selected]):
        names, member = np.unique(groups, return_inverse=True)
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=repeats)
        weights *= counts[:, member]
    # A draw may leave no stream in which its products are.
    weights = weights[weights.sum(axis=1) > 0]
    means = weights @ values / weights.sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))
