"""Match what a question shows with what is remembered, by looks alone: no training of ours is involved.

Of each number of a token's appearance its mean over the memory is subtracted: what all of a camera's
pictures have in common says nothing. A remembered moment is as similar as the cells of the photo are to the
most similar of its tokens, on average (late interaction: Khattab and Zaharia 2020). Which moment is most
similar says when; whether it was there at all, similarity hardly says (docs/lab/real-eyes.md), so nothing is
withheld for it.

Letters: n tokens, M moments, a numbers of an appearance, p cells of the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.query.decode import NEAR_S, SPANS, Span

Real = NDArray[np.float32]
Ticks = NDArray[np.int64]

TEMPERATURE = 0.03
"""Of the cosine; a span's probability is that of its moments, if what the photo shows was there at all. On
average it is 0.65 and 0.58 where the answer is right in 0.76 and 0.51 (docs/lab/real-eyes.md)."""


@dataclass(frozen=True)
class Match:
    """Similarity (M,) of remembered moments, at their ticks (M,) ascending; `tokens` (n,) of each token."""

    ticks: Ticks
    similarity: Real
    tokens: Real

    def spans(self, period: float) -> list[Span]:
        """Return the best spans (start s, end s, probability), best first; a moment lasts `period` seconds.

        A span grows from its best moment over neighbours that are nearer to it than to the usual similarity.
        """
        t = self.ticks / TICKS_PER_SECOND
        share = np.exp((self.similarity - self.similarity.max()) / TEMPERATURE)
        share /= share.sum()
        free = np.ones(len(t), np.bool_)
        spans: list[Span] = []
        for _ in range(SPANS):
            if not free.any():
                break
            best = int(np.where(free, self.similarity, -np.inf).argmax())
            good = free & (self.similarity >= (self.similarity[best] + np.median(self.similarity)) / 2)
            first = last = best
            while first > 0 and good[first - 1] and t[first] - t[first - 1] <= NEAR_S:
                first -= 1
            while last + 1 < len(t) and good[last + 1] and t[last + 1] - t[last] <= NEAR_S:
                last += 1
            start, end = float(t[first]), float(t[last]) + period
            own = free & (t >= start - NEAR_S) & (t <= end + NEAR_S)
            spans.append((start, end, float(share[own].sum())))
            free &= ~own
        return spans


def match_appearance(features: Real, ticks: Ticks, inside: NDArray[np.bool_], photo: Real) -> Match:
    """Match the appearance of a photo's cells (p, a) with remembered ones (n, a) at `ticks` (n,).

    Only tokens that are `inside` (n,) the question's window are matched; at least one must be.
    """
    mean = features[inside].mean(axis=0)
    similar = _normalise(photo - mean) @ _normalise(features[inside] - mean).T  # (p, k)
    order = np.argsort(ticks[inside], kind="stable")
    moments, first = np.unique(ticks[inside][order], return_index=True)
    similarity = np.maximum.reduceat(similar[:, order], first, axis=1).mean(axis=0)  # (M,)
    tokens = np.zeros(len(features), np.float32)
    tokens[inside] = similar.max(axis=0)
    return Match(moments, np.asarray(similarity, np.float32), tokens)


def _normalise(x: Real) -> Real:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6), np.float32)
