"""Redundant tokens: which relevant tokens leave where more are relevant than the memory has slots.

A sampler's scores say what is relevant, and the ten tokens that show one moment all are. By score alone a few
events would hold all slots, and nothing would be left of others. So of the two relevant tokens that lie
closest together in time and place one leaves, and again, until the others fit: what stays is relevant and
new, as by maximal marginal relevance (Carbonell and Goldstein 1998), where distance is in time and place.

Letters: N tokens of memory and clip, n of them relevant, r rows of these and c others, m slots.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory.familiarity import is_strange_clip
from edge_runtime.memory.recurrent_state import Arrays
from edge_runtime.memory.samplers import Novelty, Sampler, SamplerOutput
from edge_runtime.memory.token_memory import Cells, Flags, Scores, Ticks, TokenMemory, Tokens
from engines.network_config import GRID, NetworkConfig

Whole = NDArray[np.int64]
Index = NDArray[np.intp]

RELEVANT = 0.0
"""Scores above it are relevant: a sampler that learned with guidance scores so what is likelier evidence than
not, both being equally frequent (`export/training/lvm/losses.py`, `balanced`)."""
REDUNDANT = np.finfo(np.float32).min
"""The score of a redundant token: none is lower, and the memory takes finite numbers only."""
_TICK_DISTANCE, _CELL_DISTANCE = 2, 5
"""Distances are tenths of a second: the next cell is as far as half a second. With 0.25, 1 and 2 s answers
were about as often right (docs/lab/bundle.md)."""
_INFINITE = np.iinfo(np.int64).max
_WINDOW = 16
_NEIGHBOURS = np.concatenate([np.arange(-_WINDOW, 0), np.arange(1, _WINDOW + 1)])
_ROWS = 256
"""Rows that are compared with all others at once: bounds what large memories need."""


def score_clip(
    sampler: Sampler,
    network: NetworkConfig,
    memory: TokenMemory,
    clip: Tokens,
    novelty: Novelty,
    state: Arrays,
    *,
    oldest_tick: int,
) -> SamplerOutput:
    """Run the sampler on memory and clip, and mark redundant tokens.

    `novelty` (m + k,) of slots and clip, `state` the recurrent state; tokens before `oldest_tick` leave
    anyway.
    """
    output = sampler.run(memory, clip, novelty, state)
    if sampler.scores_relevance and is_strange_clip(output.outputs):
        # The sampler never saw such pictures. What differs in time and place stays instead.
        output = replace(output, scores=np.ones_like(output.scores))
    return mark_redundant(output, sampler, network, memory, clip, oldest_tick=oldest_tick)


def mark_redundant(
    output: SamplerOutput,
    sampler: Sampler,
    network: NetworkConfig,
    memory: TokenMemory,
    clip: Tokens,
    *,
    oldest_tick: int,
) -> SamplerOutput:
    """Return the output with the score `REDUNDANT` for redundant tokens, where the network spreads them."""
    if not (network.spread and sampler.scores_relevance):
        return output
    tick, cell = np.concatenate([memory.tick, clip.tick]), np.concatenate([memory.cell, clip.cell])
    real = np.concatenate([memory.valid, np.ones(len(clip), np.bool_)]) & (tick >= oldest_tick)
    if not np.isfinite(output.scores[real]).all():
        return output  # the memory refuses them, and none may be hidden before
    redundant = find_redundant(output.scores, tick, cell, real, memory.slots, network.grid)
    return replace(output, scores=np.where(redundant, REDUNDANT, output.scores))


def find_redundant(scores: Scores, tick: Ticks, cell: Cells, real: Flags, m: int, grid: int = GRID) -> Flags:
    """Return which of N tokens leave so that m relevant ones stay; none where no more are relevant. (N,)

    `scores`, `tick`, `cell` and `real` are (N,). Of a closest pair the token leaves that is closer to a third
    one, and where both are as close, the earlier one. Scores decide only what is relevant, so an engine in
    half precision, whose scores differ in the third digit, keeps the same tokens. No two relevant tokens may
    have the same tick and cell, as none of a stream have; then their order makes no difference.
    """
    relevant = np.flatnonzero(real & (scores > RELEVANT))
    redundant = np.zeros(len(scores), np.bool_)
    if len(relevant) > m:
        relevant = relevant[np.lexsort((cell[relevant], tick[relevant]))]
        field = _Field(tick[relevant], cell[relevant], grid)
        for _ in range(len(relevant) - m):
            field.drop_token()
        redundant[relevant] = field.gone
    return redundant


class _Field:
    """n tokens in order of time; each that stays with its distances to the two nearest that stay."""

    def __init__(self, tick: Ticks, cell: Cells, grid: int) -> None:
        row, column = np.divmod(cell.astype(np.int64), grid)
        self._cell_distance = round(_CELL_DISTANCE * GRID / grid)
        self._tick, self._row, self._column = tick, row, column
        n = len(tick)
        self.gone = np.zeros(n, np.bool_)
        self._near, self._second = np.empty(n, np.int64), np.empty(n, np.int64)
        self._nearest = np.empty(n, np.intp)
        self._update_nearest(np.arange(n))

    def drop_token(self) -> None:
        """Let one token of the closest pair go."""
        first = int(self._near.argmin())
        second = int(self._nearest[first])
        gone = min(first, second, key=lambda i: (self._second[i], i))
        self.gone[gone] = True
        reach = self._distance(np.array([gone]), np.arange(len(self.gone))[None])[0]
        rows = np.flatnonzero((reach <= self._second) & ~self.gone)  # it was one of their two nearest
        self._near[gone] = self._second[gone] = _INFINITE
        self._update_nearest(rows)

    def _update_nearest(self, rows: Index) -> None:
        """Find the two nearest of `rows` (r,): among the neighbours in time, where these must hold them."""
        n = len(self._tick)
        self._search(rows, rows[:, None] + _NEIGHBOURS)
        before, after = rows - _WINDOW - 1, rows + _WINDOW + 1
        # Tokens beyond the neighbours are at least as far as the first of them in time.
        edge = np.minimum(
            np.where(before < 0, _INFINITE, _TICK_DISTANCE * (self._tick[rows] - self._tick[before.clip(0)])),
            np.where(
                after >= n, _INFINITE, _TICK_DISTANCE * (self._tick[after.clip(0, n - 1)] - self._tick[rows])
            ),
        )
        unsure = rows[self._second[rows] >= edge]
        for start in range(0, len(unsure), _ROWS):
            some = unsure[start : start + _ROWS]
            self._search(some, np.broadcast_to(np.arange(n), (len(some), n)))

    def _search(self, rows: Index, others: Index) -> None:
        """Note the two nearest of `rows` (r,) among `others` (r, c); places beyond the ends are left out."""
        n = len(self._tick)
        inside = (others >= 0) & (others < n) & (others != rows[:, None])
        others = others.clip(0, n - 1)
        distance = np.where(inside & ~self.gone[others], self._distance(rows, others), _INFINITE)
        self._nearest[rows] = np.take_along_axis(others, distance.argmin(1)[:, None], 1)[:, 0]
        self._near[rows], self._second[rows] = np.partition(distance, 1, axis=1)[:, :2].T

    def _distance(self, rows: Index, others: Index) -> Whole:
        """Return the distances from `rows` (r,) to `others` (r, c). (r, c)"""
        rows = rows[:, None]
        apart = np.maximum(
            abs(self._row[rows] - self._row[others]), abs(self._column[rows] - self._column[others])
        )
        return np.asarray(
            _TICK_DISTANCE * abs(self._tick[rows] - self._tick[others]) + self._cell_distance * apart
        )
