"""Scores of memory and clip, by which a full memory selects: higher stays.

The memory does the selecting; where more is relevant than fits, `edge_runtime.memory.diversity` comes before.

`neural`       the trained sampler of the bundle: attention (LVM-Net), or state-space layers (S5)
`svd-novelty`  the novelty against the background; nothing is learned
`random`       a reservoir: every token ever seen is kept with equal probability, by a fixed random priority
`fifo`         the newest tokens

The scores of all but `neural` are stateless functions of the tokens. What a trained sampler hands on from
clip to clip is part of the version (`recurrent_state`), so a resumed run decides as the uninterrupted one.

Letters: m slots, k candidates of one clip, N = m + k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory.recurrent_state import STRANGENESS, Arrays
from edge_runtime.memory.token_memory import Scores, TokenMemory, Tokens
from edge_runtime.memory.version import select_novel
from engines.errors import LvmError
from engines.spec import Engine

Novelty = NDArray[np.float32]


@dataclass(frozen=True)
class SamplerOutput:
    """`scores` (m + k,), and all other outputs of the sampler's graph for a clip, without the batch axis."""

    scores: Scores
    outputs: Arrays = field(default_factory=dict)


class ScoreFunction(Protocol):
    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        """Return scores (m + k,) of all slots and then of the clip; `novelty` (m + k,) has the same order."""


class GraphFunction(Protocol):
    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, state: Arrays) -> SamplerOutput:
        """As `ScoreFunction`, by a graph with further outputs, which may be fed the recurrent `state`."""


@dataclass(frozen=True)
class Sampler:
    """A way to score memory and clip.

    `prefilters`: the clip is first reduced to its most novel tokens, because every candidate costs. `graph`
    is there where a graph has more outputs than scores. `scores_relevance`: scores say what is relevant at
    all, not only an order (`edge_runtime.memory.diversity`).
    """

    name: str
    score: ScoreFunction
    prefilters: bool
    graph: GraphFunction | None = None
    scores_relevance: bool = False

    def run(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, state: Arrays) -> SamplerOutput:
        """Return the scores of memory and clip with all other outputs for the clip."""
        if self.graph is None:
            return SamplerOutput(self.score(memory, clip, novelty))
        return self.graph(memory, clip, novelty, state)


def prefilters(name: str) -> bool:
    """Return whether the sampler called `name` is given a clip's most novel tokens only."""
    return name in ("neural", "svd-novelty")


def make_sampler(name: str, engine: Engine) -> Sampler:
    """Return the sampler called `name`. Raises LvmError for an unknown name.

    `engine` is the bundle's sampler graph, used by `neural` and, for other samplers, where queues need the
    graph's outputs for each clip.
    """
    if name == "neural":
        graph = _Graph(engine)
        return Sampler(name, graph.score, prefilters(name), graph, scores_relevance=True)
    plain: dict[str, ScoreFunction] = {
        "svd-novelty": _score_novelty,
        "random": _score_reservoir,
        "fifo": _score_newest,
    }
    if name not in plain:
        hint = "; a bundle that was trained with s5 has it as its neural one" if name == "s5" else ""
        raise LvmError(f"sampler must be one of neural, {', '.join(plain)}, got {name!r}{hint}")
    return make_score_sampler(name, plain[name], engine, prefilters=prefilters(name))


def make_score_sampler(name: str, score: ScoreFunction, engine: Engine, *, prefilters: bool) -> Sampler:
    """Return a sampler with the scores of `score`; the bundle's graph runs beside it where the state needs
    its other outputs."""
    outputs = () if engine is None else tuple(spec.name for spec in engine.outputs)
    beside = "clip_activity" in outputs or STRANGENESS in outputs
    return Sampler(name, score, prefilters, _GraphBeside(score, _Graph(engine)) if beside else None)


class _Graph:
    """Feeds memory and clip side by side, padded to the graph's size, in buffers that are allocated once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._feeds = {
            spec.name: np.zeros([1, *(int(side) for side in spec.shape[1:])], spec.dtype)
            for spec in engine.inputs
        }
        self.candidates = self._feeds["features"].shape[1]
        """N: memory and clip together."""

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, state: Arrays) -> SamplerOutput:
        m, k = memory.slots, len(clip)
        parts = {
            "features": (memory.features, clip.features),
            "cell": (memory.cell, clip.cell),
            "novelty": (novelty[:m], novelty[m:]),
            "valid": (memory.valid, True),
        }
        for name, buffer in self._feeds.items():
            if name in parts:
                of_memory, of_clip = parts[name]
                buffer[0, :m], buffer[0, m : m + k], buffer[0, m + k :] = of_memory, of_clip, 0
            elif name == "clip_tick":
                buffer[0, :k], buffer[0, k:] = clip.tick - clip.tick[:1], 0
            else:
                buffer[0] = state[name]
        outputs = {name: array[0] for name, array in self._engine(self._feeds).items()}
        return SamplerOutput(np.asarray(outputs.pop("score")[: m + k]), outputs)

    def score(self, memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
        """Return the scores alone, of a graph without recurrent state."""
        return self(memory, clip, novelty, {}).scores


class _GraphBeside:
    """A plain sampler's scores, with the graph's outputs for the most novel part of the clip."""

    def __init__(self, score: ScoreFunction, graph: _Graph) -> None:
        self._score, self._graph = score, graph

    def __call__(self, memory: TokenMemory, clip: Tokens, novelty: Novelty, state: Arrays) -> SamplerOutput:
        m = memory.slots
        best = select_novel(novelty[m:], self._graph.candidates - m)
        graph_novelty = np.concatenate([novelty[:m], novelty[m:][best]])
        outputs = self._graph(memory, clip.take(best), graph_novelty, state).outputs
        return SamplerOutput(self._score(memory, clip, novelty), outputs)


def _score_novelty(memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
    return novelty


def _score_newest(memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
    newest = int(clip.tick.max(initial=0))
    # Relative to the newest tick: float32 counts ticks exactly for 38 days back.
    return np.asarray(np.concatenate([memory.tick, clip.tick]) - newest, np.float32)


def _score_reservoir(memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
    tick = np.concatenate([memory.tick, clip.tick]).astype(np.uint64)
    cell = np.concatenate([memory.cell, clip.cell]).astype(np.uint64)
    return np.asarray(_mix(tick * np.uint64(64) + cell) >> np.uint64(40), np.float32)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a uniform number for each token, the same in every run: splitmix64's finaliser."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
