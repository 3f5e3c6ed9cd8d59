"""Raw outputs of the reader to what an answer says. numpy only, no query types, no I/O.

Letters: L decoder steps, n tokens, C classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import GRID, TICKS_PER_SECOND
from engines.manifest import Scaling

Real = NDArray[np.float32]
Ticks = NDArray[np.int64]
Span = tuple[float, float, float]
SPANS = 5
"""Of an answer at most."""
NEAR_S = 4.0
"""Evidence so close to a span is of the same event: a hand that pauses must not take two places of five.

Of 138 questions about products that were never trained on, one of the first five was right in 0.73, 0.78 and
0.83 with 0, 2 and 4 s (one photo; 0.59 with three places instead of five); the first place of questions with
an activity (384, four worlds) in 0.875, 0.880 and 0.883.
"""

_TURNED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8)[:, ::-1]).astype(np.uint8)
"""Each byte with its bits in reverse."""


def sigmoid(x: Real | float) -> Real:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), np.float32)


def calibrated(logits: Real | float, scaling: Scaling) -> Real:
    """Probabilities of logits of any shape."""
    x = np.asarray(logits, np.float32)
    if not scaling.points:
        return sigmoid(np.float32(scaling.a) * x + np.float32(scaling.b))
    known, honest = np.array(scaling.points, np.float32).T
    beyond = x - np.clip(x, known[0], known[-1])
    return sigmoid(np.interp(x, known, honest).astype(np.float32) + np.float32(scaling.a) * beyond)


def recalibrated(probability: float, scaling: Scaling) -> float:
    """A probability that comes from no logit of its own, scaled by way of one."""
    if scaling == Scaling():
        return probability
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return float(calibrated(math.log(p / (1 - p)), scaling))


def softmax(x: Real) -> Real:
    e = np.exp(x - x.max(initial=-np.inf))
    return np.asarray(e / e.sum(), np.float32)


def cell_box(cell: int) -> tuple[float, float, float, float]:
    """Normalised xyxy of a cell of the 7 × 7 grid."""
    row, column = divmod(cell, GRID)
    return column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID


def xyxy(boxes_cxcywh: Real) -> Real:
    """(…, 4) centre and size to corners, clipped to the picture."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.asarray(np.clip(np.concatenate([centre - half, centre + half], axis=-1), 0, 1))


def spread_ticks(first: int, last: int, steps: int) -> Ticks:
    """At most `steps` ticks from `first` to `last`, both included, evenly spread."""
    count = min(steps, last - first + 1)
    return np.unique(np.rint(np.linspace(first, last, count)).astype(np.int64))


def evidence_ticks(tick: Ticks, inside: NDArray[np.bool_], steps: int) -> Ticks:
    """The moments of remembered tokens for which `inside` holds, thinned to `steps`.

    Those stay whose ticks come first when read from their last bit: of steady moments every second, fourth
    or eighth. The order is the tick's own, so one token more or less moves one step; thinned evenly by rank
    it moved nearly all (docs/lab/gates.md).
    """
    moments = np.unique(tick[inside])
    if len(moments) <= steps:
        return moments
    turned = _TURNED[moments.astype("<u4").view(np.uint8)].view(">u4")
    return np.sort(moments[np.argsort(turned)[:steps]])


def spans_from_bins(start_logits: Real, end_logits: Real, ticks: Ticks, top: int = SPANS) -> list[Span]:
    """The best spans (start s, end s, probability) over L bins: argmax over s <= e of log p_s + log p_e.

    Bins stand for the time up to the next one, so the end is exclusive. Spans after the first do not overlap
    an earlier one.
    """
    p = np.triu(softmax(start_logits)[:, None] * softmax(end_logits)[None, :])  # (L, L)
    edges = np.append(ticks, ticks[-1] + (ticks[-1] - ticks[-2] if len(ticks) > 1 else 1))
    found: list[Span] = []
    for _ in range(top):
        s, e = np.unravel_index(int(p.argmax()), p.shape)
        if p[s, e] <= 0:
            break
        found.append((edges[s] / TICKS_PER_SECOND, edges[e + 1] / TICKS_PER_SECOND, float(p[s, e])))
        p[: e + 1, s:] = 0  # every span that begins before e+1 and ends at s or later
    return found


def spans_from_pointer(logits: Real, offsets: Real, tick: Ticks, top: int = SPANS) -> list[Span]:
    """The best spans by pointing at remembered tokens: the probability of a span is that of its tokens.

    `logits` (n,) with -1e9 for tokens that may not be pointed at, `offsets` (n, 2) seconds before and after
    the token's moment. Tokens inside a found span, or within `NEAR_S` of it, are added to it and out of the
    running.
    """
    p = softmax(logits).copy()
    t = tick / TICKS_PER_SECOND
    found: list[Span] = []
    for _ in range(top):
        best = int(p.argmax())
        if p[best] <= 0:
            break
        start, end = t[best] - offsets[best, 0], t[best] + offsets[best, 1]
        inside = (t >= start - NEAR_S) & (t <= end + NEAR_S)
        inside[best] = True
        found.append((float(start), float(end), float(p[inside].sum())))
        p[inside] = 0
    return sorted(found, key=lambda span: -span[2])


def bridged_boxes(
    boxes_xyxy: Real, ticks: Ticks, supported: NDArray[np.bool_], most_ticks: int
) -> list[tuple[int, Real, bool]]:
    """Boxes (tick, xyxy, interpolated) at the supported ticks, and each second between close ones.

    Where two supported ticks lie further apart than `most_ticks` nothing is said: no box is invented.
    """
    at = np.flatnonzero(supported)
    out: list[tuple[int, Real, bool]] = []
    for position, step in enumerate(at):
        out.append((int(ticks[step]), boxes_xyxy[step], False))
        if position + 1 == len(at):
            break
        following = at[position + 1]
        gap = int(ticks[following] - ticks[step])
        if gap > most_ticks:
            continue
        for tick in range(int(ticks[step]) + TICKS_PER_SECOND, int(ticks[following]), TICKS_PER_SECOND):
            share = np.float32((tick - ticks[step]) / gap)
            out.append((tick, (1 - share) * boxes_xyxy[step] + share * boxes_xyxy[following], True))
    return out
