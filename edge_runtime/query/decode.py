"""Decode the reader's raw outputs. numpy only, no query types, no I/O.

Letters: L decoder steps, n tokens, C classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from engines.manifest import Scaling

Real = NDArray[np.float32]
Ticks = NDArray[np.int64]
Span = tuple[float, float, float]
SPANS = 5
"""Spans of one answer at most."""
NEAR_S = 4.0
"""Evidence so close to a span belongs to the same event: a hand that pauses must not take two of five places.

Of 138 questions about products that were never trained on, one of the first five was right in 0.73, 0.78 and
0.83 with 0, 2 and 4 s (one photo; 0.59 with three places instead of five); the first place of questions with
an activity (384, four worlds) in 0.875, 0.880 and 0.883.
"""

_FLIPPED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8)[:, ::-1]).astype(
    np.uint8
)
"""Each byte with its bits in reverse."""


def sigmoid(x: Real | float) -> Real:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), np.float32)


def calibrated(logits: Real | float, scaling: Scaling) -> Real:
    """Return the probabilities of logits of any shape."""
    x = np.asarray(logits, np.float32)
    if not scaling.points:
        return sigmoid(np.float32(scaling.a) * x + np.float32(scaling.b))
    logit, calibrated_logit = np.array(scaling.points, np.float32).T
    beyond = x - np.clip(x, logit[0], logit[-1])
    return sigmoid(np.interp(x, logit, calibrated_logit).astype(np.float32) + np.float32(scaling.a) * beyond)


def recalibrated(probability: float, scaling: Scaling) -> float:
    """Scale a probability that has no logit of its own, through one."""
    if scaling == Scaling():
        return probability
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return float(calibrated(math.log(p / (1 - p)), scaling))


def softmax(x: Real) -> Real:
    e = np.exp(x - x.max(initial=-np.inf))
    return np.asarray(e / e.sum(), np.float32)


def cell_box(cell: int, grid: int) -> tuple[float, float, float, float]:
    """Return the normalised xyxy box of a cell of a grid of so many rows and columns."""
    row, column = divmod(cell, grid)
    return column / grid, row / grid, (column + 1) / grid, (row + 1) / grid


def xyxy(boxes_cxcywh: Real) -> Real:
    """Convert centre and size (…, 4) to corners, clipped to the picture."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.asarray(np.clip(np.concatenate([centre - half, centre + half], axis=-1), 0, 1))


def spread_ticks(first: int, last: int, steps: int) -> Ticks:
    """Return at most `steps` ticks from `first` to `last`, both included, evenly spread."""
    count = min(steps, last - first + 1)
    return np.unique(np.rint(np.linspace(first, last, count)).astype(np.int64))


def evidence_ticks(tick: Ticks, inside: NDArray[np.bool_], steps: int) -> Ticks:
    """Return the ticks of the tokens where `inside` holds, thinned to `steps`.

    Ticks are sorted by their bits in reverse and the first ones stay: of regular ticks every second, fourth
    or eighth. The order depends on the tick alone, so one token more or less moves one step; thinned evenly
    by rank it moved nearly all (docs/lab/gates.md).
    """
    ticks = np.unique(tick[inside])
    if len(ticks) <= steps:
        return ticks
    reversed_bits = _FLIPPED[ticks.astype("<u4").view(np.uint8)].view(">u4")
    return np.sort(ticks[np.argsort(reversed_bits)[:steps]])


def spans_from_bins(start_logits: Real, end_logits: Real, ticks: Ticks, top: int = SPANS) -> list[Span]:
    """Return the best spans (start s, end s, probability) over L bins, by log p_s + log p_e with s <= e.

    A bin stands for the time up to the next bin, so the end is exclusive. Spans do not overlap.
    """
    p = np.triu(softmax(start_logits)[:, None] * softmax(end_logits)[None, :])  # (L, L)
    edges = np.append(ticks, ticks[-1] + (ticks[-1] - ticks[-2] if len(ticks) > 1 else 1))
    spans: list[Span] = []
    for _ in range(top):
        s, e = np.unravel_index(int(p.argmax()), p.shape)
        if p[s, e] <= 0:
            break
        spans.append((edges[s] / TICKS_PER_SECOND, edges[e + 1] / TICKS_PER_SECOND, float(p[s, e])))
        p[: e + 1, s:] = 0  # every span that begins before e+1 and ends at s or later
    return spans


def spans_from_pointer(logits: Real, offsets: Real, tick: Ticks, top: int = SPANS) -> list[Span]:
    """Return the best spans by pointing at remembered tokens: a span's probability is that of its tokens.

    `logits` (n,) is -1e9 for tokens that may not be pointed at, `offsets` (n, 2) are seconds before and after
    the token's time. Tokens inside a span, or within `NEAR_S` of it, belong to it and start no other.
    """
    p = softmax(logits).copy()
    t = tick / TICKS_PER_SECOND
    spans: list[Span] = []
    for _ in range(top):
        best = int(p.argmax())
        if p[best] <= 0:
            break
        start, end = t[best] - offsets[best, 0], t[best] + offsets[best, 1]
        inside = (t >= start - NEAR_S) & (t <= end + NEAR_S)
        inside[best] = True
        spans.append((float(start), float(end), float(p[inside].sum())))
        p[inside] = 0
    return sorted(spans, key=lambda span: -span[2])


def bridged_boxes(
    boxes_xyxy: Real, ticks: Ticks, supported: NDArray[np.bool_], max_gap: int
) -> list[tuple[int, Real, bool]]:
    """Return boxes (tick, xyxy, interpolated) at the supported ticks, and each second between close ones.

    Between supported ticks that lie further apart than `max_gap` ticks no box is invented.
    """
    at = np.flatnonzero(supported)
    out: list[tuple[int, Real, bool]] = []
    for position, step in enumerate(at):
        out.append((int(ticks[step]), boxes_xyxy[step], False))
        if position + 1 == len(at):
            break
        following = at[position + 1]
        gap = int(ticks[following] - ticks[step])
        if gap > max_gap:
            continue
        for tick in range(int(ticks[step]) + TICKS_PER_SECOND, int(ticks[following]), TICKS_PER_SECOND):
            share = np.float32((tick - ticks[step]) / gap)
            out.append((tick, (1 - share) * boxes_xyxy[step] + share * boxes_xyxy[following], True))
    return out
