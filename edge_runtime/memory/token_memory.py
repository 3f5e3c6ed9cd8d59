"""Token memory: m slots with the best tokens of everything seen so far.

Letters: m slots, k candidates of one clip, d width of a token.

A memory is immutable: `update` returns the next one, so a question is answered from the memory that it began
with. Selection happens here, on the host, for every backend alike: TensorRT's TopK stops at 3,840, and ties,
repeats and empty slots must be decided in one place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.network_config import MAX_GRID

Features = NDArray[np.float32]
Ticks = NDArray[np.int64]
Cells = NDArray[np.int32]
Scores = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Tokens:
    """Tokens with their stamps: `features` (k, d) float32, `tick` (k,) int64 of 1/5 s, `cell` (k,) int32."""

    features: Features  # (k, d)
    tick: Ticks  # (k,)
    cell: Cells  # (k,)

    def __post_init__(self) -> None:
        k = len(self.tick)
        if self.features.ndim != 2 or len(self.features) != k or self.cell.shape != (k,):
            raise ValueError(
                f"tokens must be features (k, d), tick (k,), cell (k,), got {self.features.shape}, "
                f"{self.tick.shape}, {self.cell.shape}"
            )

    def __len__(self) -> int:
        return len(self.tick)

    def take(self, index: NDArray[np.intp]) -> Tokens:
        return Tokens(self.features[index], self.tick[index], self.cell[index])


def empty_tokens(width: int) -> Tokens:
    return Tokens(np.zeros((0, width), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int32))


@dataclass(frozen=True)
class TokenMemory:
    """One version of the memory. Filled slots come first, in order of time and cell; the rest is zero.

    `features` (m, d) float32 in the steps of half precision, in which they are saved, `tick` (m,) int64,
    `cell` (m,) int32, `score` (m,) float32 the sampler's last score, `valid` (m,) bool.
    """

    features: Features  # (m, d)
    tick: Ticks  # (m,)
    cell: Cells  # (m,)
    score: Scores  # (m,)
    valid: Flags  # (m,)
    version: int = 0

    def __post_init__(self) -> None:
        for array in (self.features, self.tick, self.cell, self.score, self.valid):
            array.flags.writeable = False

    @classmethod
    def empty(cls, slots: int, width: int) -> TokenMemory:
        return cls(
            np.zeros((slots, width), np.float32),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int32),
            np.zeros(slots, np.float32),
            np.zeros(slots, np.bool_),
        )

    @property
    def slots(self) -> int:
        return len(self.tick)

    @property
    def filled(self) -> int:
        return int(np.count_nonzero(self.valid))

    def oldest_tick(self) -> int | None:
        """Return the tick of the oldest remembered token, None while nothing is remembered."""
        return int(self.tick[0]) if self.valid[0] else None

    def slots_as_tokens(self) -> Tokens:
        """Return all slots, also the empty ones (zeros)."""
        return Tokens(self.features, self.tick, self.cell)

    def tokens(self) -> Tokens:
        """Return the filled slots only."""
        n = self.filled
        return Tokens(self.features[:n], self.tick[:n], self.cell[:n])

    def update(self, clip: Tokens, scores: Scores, *, oldest_tick: int) -> TokenMemory:
        """Return the next version: the m best of memory and clip.

        `scores` (m + k,) for all slots and then the clip's tokens. Tokens before `oldest_tick` leave.
        Raises ValueError for a wrong shape, or NaN or Inf as the score of a real token.
        """
        if scores.shape != (self.slots + len(clip),):
            raise ValueError(f"scores must be ({self.slots + len(clip)},), got {scores.shape}")
        tick = np.concatenate([self.tick, clip.tick])
        cell = np.concatenate([self.cell, clip.cell])
        real = np.concatenate([self.valid, np.ones(len(clip), np.bool_)]) & (tick >= oldest_tick)
        if not np.isfinite(scores[real]).all():
            raise ValueError("scores must be finite, got NaN or Inf; the memory is unchanged")
        chosen = select(scores, tick, cell, real, self.slots)
        n, old = len(chosen), chosen < self.slots
        new = ~old
        features = np.zeros_like(self.features)
        features[:n] = self.features[np.where(old, chosen, 0)]
        features[:n][new] = clip.features[chosen[new] - self.slots]
        ticks, cells = np.zeros_like(self.tick), np.zeros_like(self.cell)
        score, valid = np.zeros_like(self.score), np.zeros_like(self.valid)
        ticks[:n], cells[:n], score[:n], valid[:n] = tick[chosen], cell[chosen], scores[chosen], True
        return TokenMemory(features, ticks, cells, score, valid, self.version + 1)


def select(scores: Scores, tick: Ticks, cell: Cells, real: Flags, m: int) -> NDArray[np.intp]:
    """Return the indices of the m best real tokens, ordered by (tick, cell).

    A repeated (tick, cell) counts once, its first place wins; equal scores go to the lower index.
    """
    candidates = np.flatnonzero(real)
    stamp = tick[candidates] * MAX_GRID**2 + cell[candidates]
    _, first = np.unique(stamp, return_index=True)
    candidates = candidates[np.sort(first)]
    best = candidates[np.argsort(-scores[candidates], kind="stable")[:m]]
    return np.asarray(best[np.lexsort((cell[best], tick[best]))])
