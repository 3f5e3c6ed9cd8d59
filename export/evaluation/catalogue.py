"""The catalogue test: was the moment found at which a product was handled that nobody was trained on?

A *moment* is the time during which something was done with the product. A method ranks places in time;
the first five distinct ones count, and one is right if it lies in a moment, or at most `SLACK_S` outside.
Every method is judged by this one rule, also chance.
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
"""Seconds before and after a moment that still count as it: one sampled frame."""
APART_S = 5.0
"""Two places in time closer than this are one: the second says nothing new to a person who looks."""
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
    """One product of one stream, asked with `photos` photographs: method -> measure -> value in 0..1.

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

    def as_json(self) -> dict[str, object]:
        return {"value": self.value, "interval": [self.low, self.high]}


def ranked(answer: Answer) -> list[Place]:
    """Spans of the answer to a time question, the likeliest first."""
    places = [Place(span.start, span.end, span.confidence) for span in answer.spans]
    return sorted(places, key=lambda place: -place.score)


def distinct(times: Sequence[float], most: int = TOP) -> list[int]:
    """Indices of the first `most` times of which each is at least `APART_S` from those before it."""
    chosen: list[int] = []
    for i, t in enumerate(times):
        if all(abs(t - times[other]) >= APART_S for other in chosen):
            chosen.append(i)
            if len(chosen) == most:
                break
    return chosen


def recalls(times: Sequence[float], moments: Sequence[Moment]) -> dict[str, float]:
    """Whether the first, and whether one of the first five distinct `times`, best first, is right."""
    right = [any(moment.holds(times[i]) for moment in moments) for i in distinct(times)]
    return {"recall_at_1": float(bool(right) and right[0]), "recall_at_5": float(any(right))}


def times_by_score(scores: NDArray[np.floating], times: NDArray[np.floating]) -> list[float]:
    """`times` (F,), the one with the highest of `scores` (F,) first; equal ones in their order."""
    return [float(t) for t in times[np.argsort(-scores, kind="stable")]]


def chance(
    times: NDArray[np.floating], moments: Sequence[Moment], *, seed: int, repeats: int = 500
) -> dict[str, float]:
    """What rankings of `times` (F,) by lot reach under the same rule; the first place exactly."""
    rng = np.random.default_rng(seed)
    five = [recalls(rng.permutation(times).tolist(), moments)["recall_at_5"] for _ in range(repeats)]
    first = np.mean([any(moment.holds(float(t)) for moment in moments) for t in times])
    return {"recall_at_1": float(first), "recall_at_5": float(np.mean(five))}


def estimate(
    outcomes: Sequence[Outcome], photos: int, method: str, measure: str, *, repeats: int = 2000, seed: int = 0
) -> Estimate:
    """Mean of a measure, with an interval over products and streams, both drawn anew (pigeonhole bootstrap).

    Raises LvmError where nothing was measured.
    """
    found = [one for one in outcomes if one.photos == photos and measure in one.scores.get(method, {})]
    if not found:
        raise LvmError(f"nothing was measured of {method} {measure} with {photos} photos; ask longer streams")
    values = np.array([one.scores[method][measure] for one in found])
    rng = np.random.default_rng(seed)
    weights = np.ones((repeats, len(found)))
    for groups in ([one.product for one in found], [one.stream for one in found]):
        names, member = np.unique(groups, return_inverse=True)
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=repeats)
        weights *= counts[:, member]
    # A draw may leave no stream in which its products are.
    weights = weights[weights.sum(axis=1) > 0]
    means = weights @ values / weights.sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))
