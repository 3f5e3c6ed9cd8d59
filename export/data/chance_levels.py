"""What answers without looking are worth: the level above which a figure says anything.

Activity: always the classes that are most frequent. Object: always the median box. Time: always an interval
of median length in the middle of the query window. What is frequent or median is learned from `prior`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.data.candidates import DURATIONS, TYPES
from export.data.metrics import box_iou, positive, recall_at, tiou
from export.data.records import QueryRecord


def chance_levels(
    queries: Sequence[QueryRecord], classes: int, prior: Sequence[QueryRecord] | None = None
) -> dict[str, dict[str, Any]]:
    """By `type/duration`: how many questions and negatives, and the metrics of the type at chance level.

    `prior` are the questions from which to learn (training questions; default: the same ones). A type of
    which `prior` knows nothing has its counts only.
    """
    levels: dict[str, dict[str, Any]] = {}
    for kind in TYPES:
        known = [one for one in (queries if prior is None else prior) if one.type == kind and one.happened]
        for duration in DURATIONS:
            cell = [one for one in queries if (one.type, one.duration) == (kind, duration)]
            if not cell:
                continue
            asked = [one for one in cell if one.happened]
            level: dict[str, Any] = {"queries": len(cell), "negatives": len(cell) - len(asked)}
            if known and asked:
                level |= _LEVELS[kind](asked, known, classes)
            levels[f"{kind}/{duration}"] = level
    return levels


def _activity(asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int) -> dict[str, Any]:
    counts = Counter(activity for one in known for activity in one.activities)
    prior = np.array([counts[activity] for activity in range(classes)], float)
    truth = np.array([[activity in one.activities for activity in range(classes)] for one in asked])
    scores = np.broadcast_to(prior, truth.shape)
    return {f"recall_at_{x}x": round(recall_at(scores, truth, x).macro, 4) for x in (1, 3)}


def _object(asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int) -> dict[str, Any]:
    box = np.median([box for one in known for box in one.boxes.values()], axis=0)  # (4,)
    ious = [float(box_iou(box, list(one.boxes.values())).mean()) for one in asked]
    return {
        "mean_viou": round(float(np.mean(ious)), 4),
        "viou_at_0.3": round(float(positive(ious).mean()), 4),
        "median_box": [round(float(side), 4) for side in box],
    }


def _time(asked: Sequence[QueryRecord], known: Sequence[QueryRecord], classes: int) -> dict[str, Any]:
    half = float(np.median([_span(one)[1] - _span(one)[0] for one in known])) / 2
    middle = np.array([(one.q_s + one.q_e) / 2 for one in asked])
    spans = np.stack([middle - half, middle + half], axis=-1)
    ious = tiou(spans, [_span(one) for one in asked])
    return {
        "mean_tiou": round(float(ious.mean()), 4),
        "tiou_at_0.3": round(float(positive(ious).mean()), 4),
        "median_seconds": round(2 * half, 3),
    }


def _span(query: QueryRecord) -> tuple[float, float]:
    if query.t_s is None or query.t_e is None:
        raise ValueError(f"{query.qid} has no t_s and t_e")
    return query.t_s, query.t_e


_LEVELS = {"activity": _activity, "object": _object, "time": _time}
