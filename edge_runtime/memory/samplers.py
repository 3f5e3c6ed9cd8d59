"""Who scores memory and clip when the memory is full. Higher stays; the memory does the choosing, and where
more is relevant than fits, `edge_runtime.memory.diversity` before it.

Letters: m slots, k candidates of one clip, N = m + k.

`neural`       the trained sampler of the bundle: attention (LVM-Net), or state-space layers (S5)
`svd-novelty`  the novelty against the background; nothing is learned
`random`       a reservoir: every token ever seen is kept with equal probability, by a fixed random priority
`fifo`         the newest tokens

The scores of all but `neural` are stateless functions of the tokens. What a trained one carries from clip to
clip is part of the version (`carried`), so a resumed run decides as the uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory.token_memory import Scores, TokenMemory, Tokens
from edge_runtime.memory.version import most_novel
from engines.errors import LvmError
from engines.spec import Array, Engine

Novelty = NDArray[np.float32]
Said = Mapping[str, Array]


@dataclass(frozen=True)
class Judged:
    """`scores` (m + k,), and whatever else the sampler's graph says of a clip, without the batch axis."""

    scores: Scores
    said: Said = field(default_factory=dict)


class Score(Protocol):
    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        """Scores (m + k,) of all slots and then of the clip; `novelty` (m + k,) comes in the same order."""


class Judge(Protocol):
    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, carried: Said) -> Judged:
        """As `Score`, by a graph that says more than scores and may be fed what is `carried` by its name."""


@dataclass(frozen=True)
class Sampler:
    """`thins`: the clip is first reduced to its most novel tokens, because every candidate costs. `judge` is
    there where a graph says more than scores. `tells_relevance`: scores say what is relevant at all, not only
    what before what (`edge_runtime.memory.diversity`)."""

    name: str
    score: Score
    thins: bool
    judge: Judge | None = None
    tells_relevance: bool = False

    def judged(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, carried: Said) -> Judged:
        """Scores of memory and clip, and what else is said of the clip."""
        if self.judge is None:
            return Judged(self.score(memory, clip, novelty))
        return self.judge(memory, clip, novelty, carried)


def thins(name: str) -> bool:
    """Whether the sampler called `name` is given a clip's most novel tokens only."""
    return name in ("neural", "svd-novelty")


def make_sampler(name: str, engine: Engine) -> Sampler:
    """The sampler called `name`; `engine` is the bundle's sampler graph, used by `neural` and where queues
    want to know of each clip what only the graph says."""
    plain: dict[str, Callable[[], Score]] = {
        "neural": lambda: _Neural(engine).score,
        "svd-novelty": lambda: _novelty,
        "random": lambda: _reservoir,
        "fifo": lambda: _newest,
    }
    if name not in plain:
        hint = "; a bundle that was trained with s5 has it as its neural one" if name == "s5" else ""
        raise LvmError(f"sampler must be one of {', '.join(plain)}, got {name!r}{hint}")
    score = plain[name]()
    if name == "neural":
        return Sampler(name, score, thins(name), _Neural(engine), tells_relevance=True)
    return scored_by(name, score, engine, thins=thins(name))


def scored_by(name: str, score: Score, engine: Engine, *, thins: bool) -> Sampler:
    """A sampler of its own, beside which the bundle's graph is run where clips leave entries in queues."""
    entries = engine is not None and any(spec.name == "clip_activity" for spec in engine.outputs)
    return Sampler(name, score, thins, _Beside(score, _Neural(engine)) if entries else None)


class _Neural:
    """Feeds memory and clip side by side, padded to the graph's size, in buffers that are made once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._feeds = {
            spec.name: np.zeros([1, *(int(side) for side in spec.shape[1:])], spec.dtype)
            for spec in engine.inputs
        }
        self.candidates = self._feeds["features"].shape[1]
        """N: memory and clip together."""

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, carried: Said) -> Judged:
        m, k = memory.slots, len(clip)
        parts = {
            "features": (memory.features, clip.features),
            "cell": (memory.cell, clip.cell),
            "novelty": (novelty[:m], novelty[m:]),
            "valid": (memory.valid, True),
        }
        for name, buffer in self._feeds.items():
            if name in parts:
                remembered, new = parts[name]
                buffer[0, :m], buffer[0, m : m + k], buffer[0, m + k :] = remembered, new, 0
            elif name == "clip_tick":
                buffer[0, :k], buffer[0, k:] = clip.tick - clip.tick[:1], 0
            else:
                buffer[0] = carried[name]
        said = {name: array[0] for name, array in self._engine(self._feeds).items()}
        return Judged(np.asarray(said.pop("score")[: m + k]), said)

    def score(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        """The scores alone, of a graph that is fed nothing that is carried."""
        return self(memory, clip, novelty, {}).scores


class _Beside:
    """A plain sampler's scores, and what the graph says of the most novel part of the clip."""

    def __init__(self, score: Score, graph: _Neural) -> None:
        self._score, self._graph = score, graph

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, carried: Said) -> Judged:
        m = memory.slots
        kept = most_novel(novelty[m:], self._graph.candidates - m)
        of_all = np.concatenate([novelty[:m], novelty[m:][kept]])
        said = self._graph(memory, clip.take(kept), of_all, carried).said
        return Judged(self._score(memory, clip, novelty), said)


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
