"""Recognise what was done in a window of the stream: one object question a class, and the answers' evidence.

The reader has no question "what is being done now". But for each activity it says whether it was seen in a
window (`presence`, trained with windows in which it was not), and which remembered tokens are the evidence.
The times of those tokens are the time of the activity. Two activities with the same evidence are one
occurrence, named after the likelier one. docs/lab/activities.md has the figures.

Letters: n tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.memory.familiarity import is_familiar
from edge_runtime.memory.version import Version
from edge_runtime.query import decode
from edge_runtime.query.executor import AnswerWithOutputs, Asker
from edge_runtime.query.schema import BoxInFrame, ObjectQuery, Photos, Product
from edge_runtime.system.errors import QueryError
from engines.manifest import Manifest
from engines.spec import Engine

QUESTIONS_PER_RUN = 2
"""Questions of one reader run: a person's question waits behind them, and more together are no faster."""
TICK_SHARE = 0.1
"""A tick counts if it has at least this share of the strongest tick's attention."""
GROUP_SHARE = 0.2
"""A group of ticks counts if it has at least this share of the strongest group's attention."""
SAME_EVIDENCE = 0.3
"""Two activities that share this much of their attention and time are one occurrence with two names."""

ACCUSATION_CONFIDENCE = 0.97
"""What accuses somebody is logged from this confidence on, or from that of the settings, if it is higher."""
_MAX_GAP_S = 4.0
"""Times of one activity that lie closer together are one occurrence. The last seconds are remembered densely,
so it is shorter than the gap that boxes are bridged over."""


@dataclass(frozen=True)
class Detection:
    """An activity in time. `scores` maps each class that it may be to its confidence; times in seconds."""

    scores: dict[int, float]
    start: float
    end: float

    @property
    def best(self) -> int:
        return max(self.scores, key=lambda activity: self.scores[activity])


@dataclass(frozen=True)
class _Candidate:
    activity: int
    presence: float
    strength: float
    start: float
    end: float
    evidence: NDArray[np.float64]  # (n,) sums to 1


class ActivityRecogniser:
    """Recognises activities in versions of a memory. For one thread."""

    def __init__(self, manifest: Manifest, reader: Engine) -> None:
        self._manifest = manifest
        self._asker = Asker(manifest, reader, _NoObjects())
        self.names = tuple(activity.name for activity in manifest.classes)
        self.doing = tuple(activity.doing for activity in manifest.classes)

    def detect(
        self,
        version: Version,
        start: float,
        end: float,
        *,
        min_confidence: float,
        class_confidence: Mapping[str, float] | None = None,
        period: float | None = None,
    ) -> list[Detection]:
        """Return what was done in [start, end) seconds with at least `min_confidence`, by start.

        `class_confidence` replaces it for the classes that it names. A class that accuses somebody needs at
        least `ACCUSATION_CONFIDENCE` otherwise, and counts only where no other class has the same evidence.
        `period` is the time in seconds that a frame stands for. Nothing on an unfamiliar camera: its
        activities are not those of the training. Raises EngineFault.
        """
        if not is_familiar(version.recurrent_state):
            return []
        period = period or 1 / self._manifest.network.sample_fps
        minima = self._list_confidences(min_confidence, class_confidence or {})
        candidates = [
            candidate
            for result in self._ask(version, start, end)
            for candidate in self._find_candidates(result, minima, period)
        ]
        return sorted(_merge(self._acquit(candidates)), key=lambda detection: detection.start)

    def estimate_presence(self, version: Version, start: float, end: float) -> NDArray[np.float64]:
        """Return for each class the confidence that it was done in [start, end) seconds. (C,)"""
        return np.array([result.answer.confidence for result in self._ask(version, start, end)])

    def list_presence_logits(self, version: Version, start: float, end: float) -> list[float | None]:
        """Return each class's logit of having been done in [start, end) seconds, None where nothing was
        remembered."""
        return [
            float(result.outputs["presence_logit"]) if result.outputs else None
            for result in self._ask(version, start, end)
        ]

    def forget(self) -> None:
        """Drop what was derived from a version."""
        self._asker.forget()

    def max_gap(self, period: float) -> float:
        """Return the longest time in seconds between two moments of one occurrence."""
        return max(_MAX_GAP_S, 2 * period)

    def _ask(self, version: Version, start: float, end: float) -> Iterator[AnswerWithOutputs]:
        window = {"from": start, "to": end}
        queries = [ObjectQuery.model_validate({"activity": name, **window}) for name in self.names]
        for first in range(0, len(queries), QUESTIONS_PER_RUN):
            yield from self._asker.answer_with_outputs(queries[first : first + QUESTIONS_PER_RUN], version)

    def _list_confidences(self, min_confidence: float, class_confidence: Mapping[str, float]) -> list[float]:
        """Return the confidence that each class needs."""
        return [
            class_confidence.get(
                activity.name,
                max(min_confidence, ACCUSATION_CONFIDENCE) if activity.accuses else min_confidence,
            )
            for activity in self._manifest.classes
        ]

    def _acquit(self, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Leave out accusations that have the evidence of something else."""
        accuses = [activity.accuses for activity in self._manifest.classes]
        honest = [candidate for candidate in candidates if not accuses[candidate.activity]]
        return [
            candidate
            for candidate in candidates
            if not accuses[candidate.activity]
            or not any(_has_same_evidence(candidate, other) for other in honest)
        ]

    def _find_candidates(
        self, result: AnswerWithOutputs, minima: Sequence[float], period: float
    ) -> Iterator[_Candidate]:
        if not result.outputs:
            return
        activity = result.resolved.activity
        assert activity is not None, "an object question names an activity"
        presence = float(
            decode.calibrated(result.outputs["presence_logit"], self._manifest.thresholds.presence_scaling)
        )
        if presence < minima[activity]:
            return
        weight = np.where(result.resolved.inside, result.outputs["evidence"], 0).astype(np.float64)  # (n,)
        times = result.context.tick / TICKS_PER_SECOND  # (n,)
        groups = _group(times, weight, self.max_gap(period))
        strongest = max((share for _, _, share in groups), default=0.0)
        for low, high, share in groups:
            if share < GROUP_SHARE * strongest:
                continue
            own = np.where((times >= low) & (times <= high), weight, 0)
            yield _Candidate(
                activity=activity,
                presence=presence,
                strength=float(result.outputs["presence_logit"]) + float(np.log(share / strongest)),
                start=max(low - period / 2, result.resolved.covered.start or 0.0),
                end=high + period / 2,
                evidence=own / own.sum(),
            )


def _group(
    times: NDArray[np.float64], weight: NDArray[np.float64], gap: float
) -> list[tuple[float, float, float]]:
    """Group times (n,) that are at most `gap` s apart. Returns first and last time and weight of each."""
    moments, index = np.unique(times, return_inverse=True)
    shares = np.bincount(index, weight)
    if not shares.size or shares.max() <= 0:
        return []
    groups: list[tuple[float, float, float]] = []
    for moment, share in zip(moments, shares, strict=True):
        if share < TICK_SHARE * shares.max():
            continue
        if groups and moment - groups[-1][1] <= gap:
            low, _, before = groups.pop()
            groups.append((low, float(moment), before + float(share)))
        else:
            groups.append((float(moment), float(moment), float(share)))
    return groups


def _merge(candidates: Sequence[_Candidate]) -> list[Detection]:
    """Merge candidates with the same evidence at the same time, under the strongest of them."""
    merged: list[tuple[_Candidate, dict[int, float]]] = []
    for candidate in sorted(candidates, key=lambda candidate: -candidate.strength):
        for stronger, scores in merged:
            if _has_same_evidence(candidate, stronger):
                scores.setdefault(candidate.activity, min(candidate.presence, scores[stronger.activity]))
                break
        else:
            merged.append((candidate, {candidate.activity: candidate.presence}))
    return [Detection(scores, strongest.start, strongest.end) for strongest, scores in merged]


def _has_same_evidence(a: _Candidate, b: _Candidate) -> bool:
    shared = min(a.end, b.end) - max(a.start, b.start)
    union = max(a.end, b.end) - min(a.start, b.start)
    return shared >= SAME_EVIDENCE * union and np.minimum(a.evidence, b.evidence).sum() >= SAME_EVIDENCE


class _NoObjects:
    """An encoder for questions that show no object."""

    def encode(self, object_: Photos | BoxInFrame | Product) -> NDArray[np.float32]:
        raise QueryError("recognising asks without a photo")
