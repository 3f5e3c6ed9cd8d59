"""Control samplers and readers that cheat or are blind: they bound the value of a learned memory.

`oracle`          ground-truth evidence first, spread evenly over the events: the upper bound of any sampler
`uniform-frames`  whole frames, evenly spread over the video, whose length it knows beforehand
query-blind       object tokens zeroed: what remains is a leak
memory-blind      no token valid: what remains is a prior

Letters: F frames, P = 49 cells, m slots, k candidates of one clip.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory.samplers import Novelty, Sampler, make_sampler, make_score_sampler
from edge_runtime.memory.token_memory import Scores, TokenMemory, Tokens
from engines.errors import LvmError
from engines.spec import Array, Engine, Feeds
from export.data.token_cache import VideoCache
from export.evaluation.cost_model import choose_uniform_frames

BlindTo = Literal["query", "memory"]
Real = NDArray[np.float32]

EVALUATION_ONLY = ("oracle", "uniform-frames")
SAMPLERS = ("neural", "random", "fifo", "svd-novelty", *EVALUATION_ONLY)


def make_control_sampler(name: str, engine: Engine, cache: VideoCache, slots: int) -> Sampler:
    """Make a sampler of the runtime, or one that knows the truth or the length of this video."""
    if name == "oracle":
        return make_score_sampler(
            name, _FixedScores(cache.ticks, make_oracle_scores(cache)), engine, prefilters=False
        )
    if name == "uniform-frames":
        verdicts = _FixedScores(
            cache.ticks, make_uniform_scores(len(cache.ticks), slots, cache.tokens.shape[1])
        )
        return make_score_sampler(name, verdicts, engine, prefilters=False)
    if name not in SAMPLERS:
        raise LvmError(f"sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    return make_sampler(name, engine)


def make_oracle_scores(cache: VideoCache) -> Real:
    """Return scores (F, 49): minus the rank of each token among its event's evidence, in random order; then
    all others."""
    frames, cells = cache.tokens.shape[:2]
    tick, cell = np.repeat(cache.ticks, cells), np.tile(np.arange(cells), frames)
    event = cache.truth.find_evidence(tick, cell, math.isqrt(cells))  # (F * 49,)
    order = np.random.default_rng(0).permutation(len(event))
    by_event = order[np.argsort(event[order], kind="stable")]  # random within each event
    ordered = event[by_event]
    first = np.searchsorted(ordered, ordered)
    scores = np.empty(len(event), np.float32)
    scores[by_event] = first - np.arange(len(event))
    # Below the last rank of any event, and in random order too.
    scores[event < 0] -= len(event)
    return scores.reshape(-1, cells)


def make_uniform_scores(frames: int, slots: int, cells: int) -> Real:
    """Return scores (F, 49): 1 for the tokens of as many whole frames as fit, spread over the video."""
    scores = np.zeros((frames, cells), np.float32)
    scores[choose_uniform_frames(frames, slots // cells)] = 1
    return scores


class _FixedScores:
    """Scores that were fixed before the video began: `scores` (F, 49) at `ticks` (F,) ascending."""

    def __init__(self, ticks: NDArray[np.int64], scores: Real) -> None:
        self._ticks, self._scores = ticks, scores

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        tick = np.concatenate([memory.tick, clip.tick])
        cell = np.concatenate([memory.cell, clip.cell])
        row = np.minimum(np.searchsorted(self._ticks, tick), len(self._ticks) - 1)
        return np.asarray(self._scores[row, cell], np.float32)  # scores of empty slots are never read


class BlindReader(Engine):
    """A reader that does not get the object or the memory."""

    def __init__(self, reader: Engine, blind: BlindTo) -> None:
        self.backend, self.inputs, self.outputs = reader.backend, reader.inputs, reader.outputs
        self._reader = reader
        hidden = {"query": ("object_tokens",), "memory": ("memory_valid", "svd_strength")}
        self._hidden = hidden[blind]

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        blank = {name: np.zeros_like(feeds[name]) for name in self._hidden if name in feeds}
        return self._reader({**feeds, **blank})
