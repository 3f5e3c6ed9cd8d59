"""Who scores memory and clip when the memory is full. Higher stays; the memory does the choosing.

Letters: m slots, k candidates of one clip, N = m + k.

`neural`       the trained sampler of the bundle (LVM-Net)
`svd-novelty`  the novelty against the background; nothing is learned
`random`       a reservoir: every token ever seen is kept with equal probability, by a fixed random priority
`fifo`         the newest tokens

All but `neural` are stateless functions of the tokens, so a resumed run decides as the uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory import Scores, TokenMemory, Tokens
from engines.errors import LvmError
from engines.spec import Engine

Novelty = NDArray[np.float32]


class Score(Protocol):
    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        """Scores (m + k,) of all slots and then of the clip; `novelty` (m + k,) comes in the same order."""


@dataclass(frozen=True)
class Sampler:
    """`thins`: the clip is first reduced to its most novel tokens, because every candidate costs."""

    name: str
    score: Score
    thins: bool


def thins(name: str) -> bool:
    """Whether the sampler called `name` is given a clip's most novel tokens only."""
    return name in ("neural", "svd-novelty")


def make_sampler(name: str, engine: Engine) -> Sampler:
    """The sampler called `name`; `engine` is the bundle's sampler graph, used by `neural` only."""
    plain: dict[str, Callable[[], Sampler]] = {
        "neural": lambda: Sampler(name, _Neural(engine), thins(name)),
        "svd-novelty": lambda: Sampler(name, _novelty, thins(name)),
        "random": lambda: Sampler(name, _reservoir, thins(name)),
        "fifo": lambda: Sampler(name, _newest, thins(name)),
    }
    if name not in plain:
        raise LvmError(f"sampler must be one of {', '.join(plain)}, got {name!r}")
    return plain[name]()


class _Neural:
    """Feeds memory and clip side by side, padded to the graph's size, in buffers that are made once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._feeds = {
            spec.name: np.zeros([1, *(int(side) for side in spec.shape[1:])], spec.dtype)
            for spec in engine.inputs
        }

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        m, k = memory.slots, len(clip)
        parts = {
            "features": (memory.features, clip.features),
            "cell": (memory.cell, clip.cell),
            "novelty": (novelty[:m], novelty[m:]),
            "valid": (memory.valid, True),
        }
        for name, buffer in self._feeds.items():
            remembered, new = parts[name]
            buffer[0, :m], buffer[0, m : m + k], buffer[0, m + k :] = remembered, new, 0
        return np.asarray(self._engine(self._feeds)["score"][0, : m + k])


def _novelty(memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
    return novelty


def _newest(memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
    newest = int(clip.tick.max(initial=0))
    # Relative to the newest tick: float32 counts ticks exactly for 38 days back.
    return np.asarray(np.concatenate([memory.tick, clip.tick]) - newest, np.float32)


def _reservoir(memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
    tick = np.concatenate([memory.tick, clip.tick]).astype(np.uint64)
    cell = np.concatenate([memory.cell, clip.cell]).astype(np.uint64)
    return np.asarray(_mixed(tick * np.uint64(64) + cell) >> np.uint64(40), np.float32)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: a uniform number for each token, the same in every run."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
