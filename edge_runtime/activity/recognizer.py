"""What was done in a window of the stream: one object question a class, and what its answer rests on.

The reader has no question "what is being done now". But it tells for each activity whether it was seen in a
window (`presence`, trained with windows in which it was not), and which remembered tokens say so. The moments
of those tokens are the time; two activities that rest on the same tokens are one occurrence, of which the
likelier gives the name. docs/lab/activities.md has the figures.

Letters: n tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.memory.version import Version
from edge_runtime.query import decode
from edge_runtime.query.executor import AnswerWithOutputs, Asker
from edge_runtime.query.schema import BoxInFrame, ObjectQuery, Photos, Product
from edge_runtime.system.errors import QueryError
from engines.manifest import Manifest
from engines.spec import Engine

QUESTIONS_AT_ONCE = 2
"""Of one reader run: a person's question waits behind two of them, and more together are no faster."""
TICK_SHARE = 0.1
"""A moment counts that carries at least this share of the attention of the strongest."""
GROUP_SHARE = 0.2
"""Of several groups of moments those count that carry this share of the strongest one's attention."""
SAME_EVIDENCE = 0.3
"""Two activities that share so much of attention and of time are one occurrence with two names."""

_ONE_OCCURRENCE_S = 4.0
"""Moments of one activity that lie closer together are of one occurrence; the last seconds are remembered
densely, so it is less than boxes are bridged over."""


@dataclass(frozen=True)
class Detection:
    """`scores` are the activities that it may be, by their class, with their confidence; times in seconds."""

    scores: dict[int, float]
    start: float
    end: float

    @property
    def best(self) -> int:
        return max(self.scores, key=lambda one: self.scores[one])


@dataclass(frozen=True)
class _Candidate:
    activity: int
    presence: float
    strength: float
    start: float
    end: float
    evidence: NDArray[np.float64]  # (n,) sums to 1


class Recogniser:
    """Looks at versions. For one thread."""

    def __init__(self, manifest: Manifest, reader: Engine) -> None:
        self._manifest = manifest
        self._asker = Asker(manifest, reader, _NoObjects())
        self.names = tuple(one.name for one in manifest.classes)
        self.doing = tuple(one.doing for one in manifest.classes)

    def look(
        self, version: Version, start: float, end: float, *, least: float, period: float | None = None
    ) -> list[Detection]:
        """What was done in [start, end) seconds with a confidence of at least `least`, by start.

        `period` is the time in seconds that a frame stands for. Raises EngineFault.
        """
        period = period or 1 / self._manifest.network.sample_fps
        candidates = [
            one for told in self._told(version, start, end) for one in self._candidates(told, least, period)
        ]
        return sorted(_named(candidates), key=lambda one: one.start)

    def presences(self, version: Version, start: float, end: float) -> NDArray[np.float64]:
        """How certain it is of each class that it was done in [start, end) seconds. (C,)"""
        return np.array([told.answer.confidence for told in self._told(version, start, end)])

    def forget(self) -> None:
        """Let go of what was kept of a version."""
        self._asker.forget()

    def gap(self, period: float) -> float:
        """Seconds between two moments up to which they belong to one occurrence."""
        return max(_ONE_OCCURRENCE_S, 2 * period)

    def _told(self, version: Version, start: float, end: float) -> Iterator[AnswerWithOutputs]:
        window = {"from": start, "to": end}
        queries = [ObjectQuery.model_validate({"activity": name, **window}) for name in self.names]
        for first in range(0, len(queries), QUESTIONS_AT_ONCE):
            yield from self._asker.answer_with_outputs(queries[first : first + QUESTIONS_AT_ONCE], version)

    def _candidates(self, told: AnswerWithOutputs, least: float, period: float) -> Iterator[_Candidate]:
        if not told.outputs:
            return
        presence = float(
            decode.calibrated(told.outputs["presence_logit"], self._manifest.thresholds.presence_scaling)
        )
        if presence < least:
            return
        weight = np.where(told.resolved.inside, told.outputs["evidence"], 0).astype(np.float64)  # (n,)
        times = told.context.tick / TICKS_PER_SECOND  # (n,)
        groups = _groups(times, weight, self.gap(period))
        strongest = max((share for _, _, share in groups), default=0.0)
        activity = told.resolved.activity
        assert activity is not None, "an object question names an activity"
        for low, high, share in groups:
            if share < GROUP_SHARE * strongest:
                continue
            own = np.where((times >= low) & (times <= high), weight, 0)
            yield _Candidate(
                activity=activity,
                presence=presence,
                strength=float(told.outputs["presence_logit"]) + float(np.log(share / strongest)),
                start=max(low - period / 2, told.resolved.covered.start or 0.0),
                end=high + period / 2,
                evidence=own / own.sum(),
            )


def _groups(
    times: NDArray[np.float64], weight: NDArray[np.float64], gap: float
) -> list[tuple[float, float, float]]:
    """times (n,) and weight (n,) -> first and last moment and weight of what is at most `gap` s apart."""
    moments, place = np.unique(times, return_inverse=True)
    shares = np.bincount(place, weight)
    if not shares.size or shares.max() <= 0:
        return []
    found: list[tuple[float, float, float]] = []
    for moment, share in zip(moments, shares, strict=True):
        if share < TICK_SHARE * shares.max():
            continue
        if found and moment - found[-1][1] <= gap:
            low, _, before = found.pop()
            found.append((low, float(moment), before + float(share)))
        else:
            found.append((float(moment), float(moment), float(share)))
    return found


def _named(candidates: Sequence[_Candidate]) -> list[Detection]:
    """One detection for what rests on the same tokens at the same time, named after the strongest."""
    kept: list[tuple[_Candidate, dict[int, float]]] = []
    for one in sorted(candidates, key=lambda candidate: -candidate.strength):
        for other, scores in kept:
            if _same(one, other):
                scores.setdefault(one.activity, min(one.presence, scores[other.activity]))
                break
        else:
            kept.append((one, {one.activity: one.presence}))
    return [Detection(scores, one.start, one.end) for one, scores in kept]


def _same(a: _Candidate, b: _Candidate) -> bool:
    shared = min(a.end, b.end) - max(a.start, b.start)
    union = max(a.end, b.end) - min(a.start, b.start)
    return shared >= SAME_EVIDENCE * union and np.minimum(a.evidence, b.evidence).sum() >= SAME_EVIDENCE


class _NoObjects:
    """Object questions show none."""

    def encode(self, wanted: Photos | BoxInFrame | Product) -> NDArray[np.float32]:
        raise QueryError("recognising asks without a photo")
