"""Find the events that a query is about, and how much of them is remembered.

Letters: E events, N remembered tokens, F sampled moments of an event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from export.data.metrics import Tube, is_evidence
from export.data.records import QueryRecord
from export.data.video_labels import VideoTruth
from export.evaluation.results import WindowKind

Whole = NDArray[np.int64]

MIN_LOOSE_S = 30.0
"""Windows of at least this length are `loose`: generated windows are the event's own or at least as long."""


def classify_window(query: QueryRecord) -> WindowKind | None:
    """Return how tightly the asked window was given; None for a time query, whose window is the
    query window."""
    if query.type == "time" or query.t_s is None or query.t_e is None:
        return None
    return "loose" if query.t_e - query.t_s >= MIN_LOOSE_S else "tight"


def find_asked_window(query: QueryRecord) -> tuple[float, float]:
    """Return the seconds that the question names: the query window for time, else the property window where
    given."""
    if query.type == "time" or query.t_s is None or query.t_e is None:
        return query.q_s, query.q_e
    return query.t_s, query.t_e


def find_target_events(query: QueryRecord, truth: VideoTruth) -> NDArray[np.intp]:
    """Return the indices of the events that answer the query: right object and activity, overlapping its
    truth in time."""
    if not query.happened:
        return np.zeros(0, np.intp)
    start, end = (query.q_s, query.q_e) if query.t_s is None or query.t_e is None else (query.t_s, query.t_e)
    matches = (truth.start < end * TICKS_PER_SECOND) & (truth.end > start * TICKS_PER_SECOND)
    matches &= np.isin(truth.activity, query.activities)
    if query.instance is not None:
        matches &= truth.instance == query.instance
    return np.flatnonzero(matches)


@dataclass(frozen=True)
class EvidenceIndex:
    """Ticks of the remembered tokens that show each event; `sampled` (F,) are all sampled ticks."""

    truth: VideoTruth
    evidence_ticks: tuple[Whole, ...]
    sampled: Whole

    @classmethod
    def build(cls, truth: VideoTruth, tick: Whole, cell: NDArray[np.int32], sampled: Whole) -> EvidenceIndex:
        """Index `tick` and `cell` (N,) of everything that a question could read."""
        tubes = [_make_tube(truth, event) for event in range(len(truth))]
        cells = cell.astype(np.int64)
        evidence_ticks = [np.sort(tick[is_evidence(tube, tick, cells)]) for tube in tubes]
        return cls(truth, tuple(evidence_ticks), sampled)

    def count_by_event(self) -> Whole:
        """Return the number of evidence tokens of each event, (E,)."""
        return np.array([len(ticks) for ticks in self.evidence_ticks], np.int64)

    def measure_query(self, query: QueryRecord) -> tuple[int, float | None]:
        """Return the evidence of the query's target inside the asked window, and the mean gap to it in
        seconds.

        The gap is None where nothing of the target is remembered or none of its moments was sampled.
        """
        start, end = (round(t * TICKS_PER_SECOND) for t in find_asked_window(query))
        count, gaps = 0, []
        for event in find_target_events(query, self.truth):
            ticks = self.evidence_ticks[event]
            ticks = ticks[(ticks >= start) & (ticks <= end)]
            moments, _ = self.truth.select_boxes(int(event))
            moments = moments[(moments >= start) & (moments < end)]
            moments = moments[np.isin(moments, self.sampled)]
            count += len(ticks)
            if len(ticks) and len(moments):
                gaps.append(np.abs(moments[:, None] - ticks).min(1))
        gap = float(np.concatenate(gaps).mean()) / TICKS_PER_SECOND if gaps else None
        return count, gap


def _make_tube(truth: VideoTruth, event: int) -> Tube:
    ticks, boxes = truth.select_boxes(event)
    return Tube(ticks, boxes.astype(np.float64))
