"""Which relevant tokens go where they are more than the memory has slots: those that lie close to another.

A sampler's scores say what is relevant, and the ten tokens that show one moment all are. Kept by score alone,
a few events would hold all slots, and of others nothing would be left. So of the two relevant tokens that lie
closest together in time and place one goes, and again, until the others fit: what is kept is relevant and
new, as by maximal marginal relevance (Carbonell and Goldstein 1998), where distance is in time and place.

Letters: N tokens of memory and clip, n of them relevant, r rows of these and c others, m slots.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import GRID
from edge_runtime.memory.samplers import Judged, Sampler
from edge_runtime.memory.token_memory import Cells, Flags, Scores, Ticks, TokenMemory, Tokens
from engines.network_config import NetworkConfig

Whole = NDArray[np.int64]
Index = NDArray[np.intp]

RELEVANT = 0.0
"""A sampler that learned with guidance scores above it what is likelier evidence than not, both being equally
frequent (`export/training/lvm/losses.py`, `balanced`)."""
GONE = np.finfo(np.float32).min
"""The score of a token that has to go: no other is lower, and the memory takes numbers only."""
_OF_TICK, _OF_CELL = 2, 5
"""Distances are tenths of a second: the next cell is as far as half a second. With 0.25, 1 and 2 s answers
were about as often right (docs/measurements.md)."""
_NEVER = np.iinfo(np.int64).max
_WINDOW = 16
_NEIGHBOURS = np.concatenate([np.arange(-_WINDOW, 0), np.arange(1, _WINDOW + 1)])
_ROWS = 256
"""Rows that are compared with all others at once: bounds what large memories need."""


def settled(
    judged: Judged,
    sampler: Sampler,
    network: NetworkConfig,
    memory: TokenMemory,
    clip: Tokens,
    *,
    oldest_tick: int,
) -> Judged:
    """What the memory is to choose by: where the network spreads it, crowded tokens have the score `GONE`."""
    if not (network.spread and sampler.tells_relevance):
        return judged
    tick, cell = np.concatenate([memory.tick, clip.tick]), np.concatenate([memory.cell, clip.cell])
    real = np.concatenate([memory.valid, np.ones(len(clip), np.bool_)]) & (tick >= oldest_tick)
    if not np.isfinite(judged.scores[real]).all():
        return judged  # the memory refuses them, and none may be hidden before
    gone = crowded(judged.scores, tick, cell, real, memory.slots)
    return replace(judged, scores=np.where(gone, GONE, judged.scores))


def crowded(scores: Scores, tick: Ticks, cell: Cells, real: Flags, m: int) -> Flags:
    """Which of N tokens go, so that m relevant ones are left; none where no more are. All arguments (N,).

    Of a closest pair the one goes that is closer to a third token, and where both are as close, the earlier
    one: scores say only what is relevant, so that an engine in halves, whose scores are others in the third
    digit, keeps the same. No two of the relevant may have the same tick and cell, as none of a stream have;
    then the order in which they come makes no difference.
    """
    relevant = np.flatnonzero(real & (scores > RELEVANT))
    gone = np.zeros(len(scores), np.bool_)
    if len(relevant) > m:
        relevant = relevant[np.lexsort((cell[relevant], tick[relevant]))]
        field = _Field(tick[relevant], cell[relevant])
        for _ in range(len(relevant) - m):
            field.thin()
        gone[relevant] = field.gone
    return gone


class _Field:
    """n tokens in order of time, and how far the two nearest of those left are from each that is left."""

    def __init__(self, tick: Ticks, cell: Cells) -> None:
        row, column = np.divmod(cell.astype(np.int64), GRID)
        self._tick, self._row, self._column = tick, row, column
        n = len(tick)
        self.gone = np.zeros(n, np.bool_)
        self._near, self._second = np.empty(n, np.int64), np.empty(n, np.int64)
        self._nearest = np.empty(n, np.intp)
        self._look(np.arange(n))

    def thin(self) -> None:
        """Let one token go."""
        one = int(self._near.argmin())
        other = int(self._nearest[one])
        gone = min(one, other, key=lambda i: (self._second[i], i))
        self.gone[gone] = True
        reach = self._distance(np.array([gone]), np.arange(len(self.gone))[None])[0]
        missed = np.flatnonzero((reach <= self._second) & ~self.gone)  # of these it was a nearest
        self._near[gone] = self._second[gone] = _NEVER
        self._look(missed)

    def _look(self, rows: Index) -> None:
        """Find the two nearest of `rows` (r,), among the neighbours in time where they must be there."""
        n = len(self._tick)
        self._find(rows, rows[:, None] + _NEIGHBOURS)
        before, after = rows - _WINDOW - 1, rows + _WINDOW + 1
        # Who lies beyond the neighbours is as far as the first of those in time, at least.
        edge = np.minimum(
            np.where(before < 0, _NEVER, _OF_TICK * (self._tick[rows] - self._tick[before.clip(0)])),
            np.where(after >= n, _NEVER, _OF_TICK * (self._tick[after.clip(0, n - 1)] - self._tick[rows])),
        )
        unsure = rows[self._second[rows] >= edge]
        for start in range(0, len(unsure), _ROWS):
            some = unsure[start : start + _ROWS]
            self._find(some, np.broadcast_to(np.arange(n), (len(some), n)))

    def _find(self, rows: Index, others: Index) -> None:
        """The two nearest of `rows` (r,) among `others` (r, c), places beyond the ends left out."""
        n = len(self._tick)
        there = (others >= 0) & (others < n) & (others != rows[:, None])
        others = others.clip(0, n - 1)
        distance = np.where(there & ~self.gone[others], self._distance(rows, others), _NEVER)
        self._nearest[rows] = np.take_along_axis(others, distance.argmin(1)[:, None], 1)[:, 0]
        self._near[rows], self._second[rows] = np.partition(distance, 1, axis=1)[:, :2].T

    def _distance(self, rows: Index, others: Index) -> Whole:
        """(r, c) from `rows` (r,) to `others` (r, c)."""
        rows = rows[:, None]
        apart = np.maximum(
            abs(self._row[rows] - self._row[others]), abs(self._column[rows] - self._column[others])
        )
        return np.asarray(_OF_TICK * abs(self._tick[rows] - self._tick[others]) + _OF_CELL * apart)
