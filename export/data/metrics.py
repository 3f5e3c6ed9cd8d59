"""Compute the metrics of the three kinds of question, as LVM-Net reports them, and of calibration.

Q queries, C classes, L predicted ticks, F annotated ticks, E events, N tokens or samples.

Every function takes arrays and returns one number for each query or event; `export.evaluation.bootstrap`,
which knows the videos, computes means and intervals. Which cells of the 7 x 7 grid a box covers is the rule
by which a token is evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from engines.errors import LvmError
from engines.network_config import GRID
from export.data.records import EventRecord, TrackRecord

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

POSITIVE_IOU = 0.3
"""A box tube or a span counts as correct if its IoU is strictly greater."""
EVIDENCE_OVERLAP = 0.25
"""A cell shows the content of a box if they share at least this part of the smaller area."""


class Recall(NamedTuple):
    """Labels among a query's best classes; `labels` is the query's x."""

    hits: Floats  # (Q,)
    labels: Ints  # (Q,)

    @property
    def per_query(self) -> Floats:
        """Share of each query's labels that are hits, (Q,)."""
        return self.hits / self.labels

    @property
    def macro(self) -> float:
        """Mean over queries."""
        return float(self.per_query.mean())


def recall_at(scores: ArrayLike, truth: ArrayLike, multiple: int = 1) -> Recall:
    """Return Recall@`multiple`x: labels among the top `multiple` * x classes, x a query's number of labels.

    scores (Q, C), truth (Q, C) bool with at least one label a query. Classes that tie for the last places
    count by the mean over all orders, so that a constant answer gains nothing by its order. Raises LvmError
    if a query has no label: a negative has no recall.
    """
    values, labels = _as_floats("scores", scores), np.asarray(truth, bool)
    _check_same_shape("scores", values, "truth", labels)
    x = labels.sum(1)  # (Q,)
    if not x.all():
        raise LvmError(f"every query needs a label, query {int(x.argmin())} has none: leave negatives out")
    places = np.minimum(multiple * x, labels.shape[1])  # (Q,)
    threshold = np.take_along_axis(np.sort(values, 1)[:, ::-1], places[:, None] - 1, 1)  # (Q, 1)
    above, level = values > threshold, values == threshold  # (Q, C)
    share = (places - above.sum(1)) / level.sum(1)  # (Q,)
    return Recall((labels & above).sum(1) + (labels & level).sum(1) * share, x.astype(np.int64))


def box_iou(boxes: ArrayLike, others: ArrayLike) -> Floats:
    """Return the IoU of xyxy boxes (..., 4) with their counterparts (..., 4) -> (...); 0 if empty."""
    a, b = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    corners = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = _area(np.concatenate(corners, axis=-1))
    return _ratio(shared, _area(a) + _area(b) - shared)


def viou(ticks: ArrayLike, boxes: ArrayLike, truth_ticks: ArrayLike, truth_boxes: ArrayLike) -> float:
    """Return the mean IoU over the annotated ticks of an object query (TubeDETR's gt_vIoU: the window is
    given).

    Predicted ticks (L,) with xyxy boxes (L, 4), annotated truth_ticks (F,) with xyxy truth_boxes (F, 4).
    A box is valid for a second either way, interpolated towards the next one: answers list their boxes a
    second apart. A tick without a valid box counts 0, so an answer gains nothing by its gaps.
    """
    at, truth = np.asarray(truth_ticks), np.asarray(truth_boxes, np.float64)
    if not at.size:
        raise LvmError("an object query needs at least one annotated tick, got none: leave it out")
    if not np.size(ticks):
        return 0.0
    valid = np.abs(at[:, None] - np.asarray(ticks)[None]).min(axis=1) <= TICKS_PER_SECOND  # (F,)
    return float((box_iou(interpolate_boxes(ticks, boxes, at), truth) * valid).mean())


def interpolate_boxes(ticks: ArrayLike, boxes: ArrayLike, at: ArrayLike) -> Floats:
    """Interpolate boxes (L, 4) at ticks (L,), in any order, at other ticks (F,) -> (F, 4)."""
    known, where = np.unique(np.asarray(ticks), return_index=True)
    if len(known) != np.size(ticks):
        raise LvmError(f"one box a tick expected, got {np.size(ticks)} boxes for {len(known)} ticks")
    corners = np.asarray(boxes, np.float64)[where]  # (L, 4)
    return np.stack([np.interp(np.asarray(at), known, corner) for corner in corners.T], axis=-1)


def tiou(spans: ArrayLike, truths: ArrayLike) -> Floats:
    """Return the IoU of spans (..., 2), start and end in seconds, with the true ones (..., 2) -> (...)."""
    a, b = np.asarray(spans, np.float64), np.asarray(truths, np.float64)
    shared = np.maximum(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0)
    return _ratio(shared, (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - shared)


def is_positive(iou: ArrayLike, threshold: float = POSITIVE_IOU) -> Bools:
    """Return whether vIoU or tIoU is correct; their share is LVM-Net's Recall@1x for object and time."""
    return np.asarray(np.asarray(iou, np.float64) > threshold, bool)


class Tube(NamedTuple):
    """The boxes of an event's product while the event lasts."""

    ticks: Ints  # (F,) ascending
    boxes: Floats  # (F, 4) xyxy


def make_event_tubes(events: Sequence[EventRecord], tracks: Iterable[TrackRecord]) -> list[Tube]:
    """Return the active boxes of each event's product, in the order of `events`."""
    by_instance: dict[tuple[str, int], dict[int, tuple[float, ...]]] = defaultdict(dict)
    for track in tracks:
        if track.active:
            by_instance[track.video, track.instance][track.tick5] = track.box
    return [_make_tube(event, by_instance.get((event.video, event.instance), {})) for event in events]


def _make_tube(event: EventRecord, boxes: dict[int, tuple[float, ...]]) -> Tube:
    # Rounded: seconds that mean a whole tick may lie slightly above it.
    first, last = (round(t * TICKS_PER_SECOND, 6) for t in (event.t_s, event.t_e))
    ticks = sorted(tick for tick in boxes if first <= tick < last)
    corners = np.array([boxes[tick] for tick in ticks], np.float64).reshape(-1, 4)
    return Tube(np.array(ticks, np.int64), corners)


def is_evidence(tube: Tube, ticks: Ints, cells: Ints, grid: int = GRID) -> Bools:
    """Return which tokens, ticks (N,) and cells (N,), show the product of an event while it lasts. (N,)"""
    if not len(tube.ticks):
        return np.zeros(len(ticks), bool)
    row = np.minimum(np.searchsorted(tube.ticks, ticks), len(tube.ticks) - 1)  # (N,)
    return np.asarray((tube.ticks[row] == ticks) & evidence_cells(tube.boxes, grid)[row, cells])


def coverage(counts: ArrayLike, min_tokens: int = 1) -> float:
    """Return the share of events with at least `min_tokens` evidence tokens; counts (E,) of each event."""
    return float((np.asarray(counts) >= min_tokens).mean())


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error: mean |confidence - accuracy| over bins of equal mass.

    confidence (N,) in [0, 1], correct (N,) bool. Equal confidences share a bin, so the order does not matter.
    Chance alone gives about 0.8 sqrt(p (1 - p) bins / N): take no more bins than the samples can fill.
    """
    p, y = _as_floats("confidence", confidence), np.asarray(correct, np.float64)
    _check_same_shape("confidence", p, "correct", y)
    if not p.size:
        raise LvmError("calibration needs at least one sample, got none")
    place = np.searchsorted(np.sort(p), p)  # (N,) rank of the first equal value
    gap = np.bincount(place * bins // len(p), weights=p - y, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def auroc(score: ArrayLike, happened: ArrayLike) -> float:
    """Return the chance that a positive scores higher than a negative, ties counting half.

    score (N,), happened (N,) bool. Raises LvmError unless there are both positives and negatives.
    """
    s, y = _as_floats("score", score), np.asarray(happened, bool)
    _check_same_shape("score", s, "happened", y)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        raise LvmError(
            f"AUROC needs positives and negatives, got {positives} and {negatives}: ask about both"
        )
    _, value, count = np.unique(s, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[value]  # (N,) mean rank of equal scores, from 1
    wins = rank[y].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def _area(boxes: Floats) -> Floats:
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return part / whole; 0 where whole is 0."""
    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0))


def _as_floats(name: str, values: ArrayLike) -> Floats:
    """Return float64 values. Raises LvmError for a NaN, which would win or lose every comparison silently."""
    array = np.asarray(values, np.float64)
    if np.isnan(array).any():
        raise LvmError(f"{name} must be numbers, got {int(np.isnan(array).sum())} NaN: look at the network")
    return array


def _check_same_shape(name: str, a: NDArray[np.generic], other: str, b: NDArray[np.generic]) -> None:
    if a.shape != b.shape:
        raise LvmError(f"{name} and {other} must have one shape, got {a.shape} and {b.shape}")


def cell_shares(boxes: ArrayLike, grid: int = GRID) -> NDArray[np.float64]:
    """Return the overlap of xyxy boxes (..., 4) with each cell as a share of the smaller area. (..., 49)"""
    x1, y1, x2, y2 = np.moveaxis(np.asarray(boxes, np.float64)[..., None], -2, 0)  # (..., 1) each
    edges = np.arange(grid + 1) / grid
    wide = np.clip(np.minimum(x2, edges[1:]) - np.maximum(x1, edges[:-1]), 0, None)  # (..., 7) columns
    high = np.clip(np.minimum(y2, edges[1:]) - np.maximum(y1, edges[:-1]), 0, None)  # (..., 7) rows
    shared = (high[..., :, None] * wide[..., None, :]).reshape(*wide.shape[:-1], grid**2)
    area = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)  # (..., 1)
    smaller = np.minimum(area, 1 / grid**2)
    return np.asarray(np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0))


def evidence_cells(boxes: ArrayLike, grid: int = GRID) -> NDArray[np.bool_]:
    """Return which cells show the content of xyxy boxes (F, 4). (F, 49)"""
    # The tolerance is for rounded boxes that cover exactly a quarter.
    return np.asarray(cell_shares(boxes, grid) >= EVIDENCE_OVERLAP - 1e-6)
