"""Compute chance levels: the metrics of answers that ignore the video.

Activity: always the most frequent classes. Object: always the median box. Time: always an interval of median
length in the middle of the query window. Frequencies and medians are those of the questions `prior`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.data.candidates import DURATIONS, TYPES
from export.data.metrics import box_iou, is_positive, recall_at, tiou
from export.data.records import QueryRecord


def compute_chance_levels(
    queries: Sequence[QueryRecord], classes: int, prior: Sequence[QueryRecord] | None = None
) -> dict[str, dict[str, Any]]:
    """Return, by `type/duration`, the numbers of questions and negatives and the chance level of the metrics.

    `prior` are the questions to take frequencies and medians from, usually training questions (default:
    `queries`). A type that `prior` lacks has counts only.
    """
    levels: dict[str, dict[str, Any]] = {}
    for kind in TYPES:
        known = [
            query for query in (queries if prior is None else prior) if query.type == kind and query.happened
        ]
        for duration in DURATIONS:
            cell = [query for query in queries if (query.type, query.duration) == (kind, duration)]
            if not cell:
                continue
            asked = [query for query in cell if query.happened]
            level: dict[str, Any] = {"queries": len(cell), "negatives": len(cell) - len(asked)}
            if known and asked:
                level |= _LEVELS[kind](asked, known, classes)
            levels[f"{kind}/{duration}"] = level
    return levels


def _activity_level(
    asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int
) -> dict[str, Any]:
    counts = Counter(activity for query in known for activity in query.activities)
    prior = np.array([counts[activity] for activity in range(classes)], float)
    truth = np.array([[activity in query.activities for activity in range(classes)] for query in asked])
    scores = np.broadcast_to(prior, truth.shape)
    return {f"recall_at_{x}x": round(recall_at(scores, truth, x).macro, 4) for x in (1, 3)}


def _object_level(asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int) -> dict[str, Any]:
    box = np.median([box for query in known for box in query.boxes.values()], axis=0)  # (4,)
    ious = [float(box_iou(box, list(query.boxes.values())).mean()) for query in asked]
    return {
        "mean_viou": round(float(np.mean(ious)), 4),
        "viou_at_0.3": round(float(is_positive(ious).mean()), 4),
        "median_box": [round(float(side), 4) for side in box],
    }


def _time_level(asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int) -> dict[str, Any]:
    half = float(np.median([_span(query)[1] - _span(query)[0] for query in known])) / 2
    middle = np.array([(query.q_s + query.q_e) / 2 for query in asked])
    spans = np.stack([middle - half, middle + half], axis=-1)
    ious = tiou(spans, [_span(query) for query in asked])
    return {
        "mean_tiou": round(float(ious.mean()), 4),
        "tiou_at_0.3": round(float(is_positive(ious).mean()), 4),
        "median_seconds": round(2 * half, 3),
    }


def _span(query: QueryRecord) -> tuple[float, float]:
    if query.t_s is None or query.t_e is None:
        raise ValueError(f"{query.qid} has no t_s and t_e")
    return query.t_s, query.t_e


_LEVELS = {"activity": _activity_level, "object": _object_level, "time": _time_level}
