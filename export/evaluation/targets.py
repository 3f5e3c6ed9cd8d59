"""What a query is about in its video, and how much of that is remembered.

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

LOOSE_LEAST_S = 30.0
"""A given window from this length on is `loose`: generated ones are the event's own or at least as long."""


def window_kind(query: QueryRecord) -> WindowKind | None:
    """How tightly the asked window was given; None for a time query, whose window is the query window."""
    if query.type == "time" or query.t_s is None or query.t_e is None:
        return None
    return "loose" if query.t_e - query.t_s >= LOOSE_LEAST_S else "tight"


def asked_window(query: QueryRecord) -> tuple[float, float]:
    """Seconds that the question names: the query window for time, else the property window where given."""
    if query.type == "time" or query.t_s is None or query.t_e is None:
        return query.q_s, query.q_e
    return query.t_s, query.t_e


def target_events(query: QueryRecord, truth: VideoTruth) -> NDArray[np.intp]:
    """Indices of the events that answer the query: right object and activity, sharing time with its truth."""
    if not query.happened:
        return np.zeros(0, np.intp)
    start, end = (query.q_s, query.q_e) if query.t_s is None or query.t_e is None else (query.t_s, query.t_e)
    found = (truth.start < end * TICKS_PER_SECOND) & (truth.end > start * TICKS_PER_SECOND)
    found &= np.isin(truth.activity, query.activities)
    if query.instance is not None:
        found &= truth.instance == query.instance
    return np.flatnonzero(found)


@dataclass(frozen=True)
class Remembered:
    """Ticks of the remembered tokens that show each event; `sampled` (F,) are all sampled ticks."""

    truth: VideoTruth
    shown: tuple[Whole, ...]
    sampled: Whole

    @classmethod
    def of(cls, truth: VideoTruth, tick: Whole, cell: NDArray[np.int32], sampled: Whole) -> Remembered:
        """`tick` and `cell` (N,) of everything that a question could read."""
        tubes = [_tube(truth, event) for event in range(len(truth))]
        cells = cell.astype(np.int64)
        shown = [np.sort(tick[is_evidence(tube, tick, cells)]) for tube in tubes]
        return cls(truth, tuple(shown), sampled)

    def counts(self) -> Whole:
        """Evidence tokens of each event, (E,)."""
        return np.array([len(ticks) for ticks in self.shown], np.int64)

    def of_query(self, query: QueryRecord) -> tuple[int, float | None]:
        """Evidence of the query's target inside the asked window, and the mean gap to it in seconds.

        The gap is None where nothing of the target is remembered or none of its moments was sampled.
        """
        start, end = (round(t * TICKS_PER_SECOND) for t in asked_window(query))
        count, gaps = 0, []
        for event in target_events(query, self.truth):
            ticks = self.shown[event]
            ticks = ticks[(ticks >= start) & (ticks <= end)]
            moments, _ = self.truth.boxes(int(event))
            moments = moments[(moments >= start) & (moments < end)]
            moments = moments[np.isin(moments, self.sampled)]
            count += len(ticks)
            if len(ticks) and len(moments):
                gaps.append(np.abs(moments[:, None] - ticks).min(1))
        gap = float(np.concatenate(gaps).mean()) / TICKS_PER_SECOND if gaps else None
        return count, gap


def _tube(truth: VideoTruth, event: int) -> Tube:
    ticks, boxes = truth.boxes(event)
    return Tube(ticks, boxes.astype(np.float64))
