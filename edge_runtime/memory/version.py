"""Everything known at one moment, and the step that leads to the next moment.

A question reads a `Version` and nothing else. Engines compute a `Step` (`edge_runtime.ingest.pipeline`);
`apply` turns a version and a step into the next version without an engine. Live frames, training and the
replay of a journal after a kill all go through `apply`, so they agree bit for bit.

Letters: B frames of a step, f frames of the running clip, T of a whole one, P cells, d width of a token,
m slots, k tokens or candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count as count_from

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import MAX_T, MAX_TICK, TICKS_PER_SECOND, to_tick
from edge_runtime.memory.background_model import Background, learning_stride
from edge_runtime.memory.coverage import Coverage
from edge_runtime.memory.recurrent_state import Arrays, initial_state, update_state
from edge_runtime.memory.token_memory import Features, Scores, TokenMemory, Tokens, empty_tokens
from engines.network_config import NetworkConfig


@dataclass(frozen=True)
class Version:
    """Everything known at one moment. Immutable, so readers need no lock.

    `pending` are the features (f, 49, d) of the running clip's frames, f < T, at `pending_ticks`, and
    `pending_residual` their residuals (f, 49) against the background, all 0 in the first clip. Tokens that
    can neither be remembered nor read any more are zero (`prune_tokens`). `recurrent_state` changes with each
    clip.
    """

    memory: TokenMemory
    background: Background | None
    coverage: Coverage = Coverage()
    pending: tuple[Features, ...] = ()  # f × (49, d)
    pending_residual: tuple[Features, ...] = ()  # f × (49,)
    pending_ticks: tuple[int, ...] = ()
    last_tick: int | None = None
    frames: int = 0
    recurrent_state: Arrays = field(default_factory=dict)

    def clip(self) -> Tokens:
        """Return the tokens of the running clip, frame by frame. (f * 49)"""
        if not self.pending:
            return empty_tokens(self.memory.features.shape[1])
        return clip_tokens(np.stack(self.pending), self.pending_ticks)

    def clip_novelty(self) -> NDArray[np.float32]:
        """Return the novelty of `clip()`, token by token. (f * 49)"""
        background = self.clip_background()
        if background is None or not self.pending:
            return np.zeros(sum(map(len, self.pending)), np.float32)
        residual = np.stack(self.pending_residual)
        if background is not self.background:
            residual = background.frame_residual(np.stack(self.pending))
        cells = np.tile(np.arange(residual.shape[1], dtype=np.int32), len(residual))
        return background.standardise(residual.ravel(), cells)

    def clip_ranks(self, network: NetworkConfig) -> NDArray[np.float32]:
        """Return the order in which tokens of `clip()` are candidates: the highest first. (f * 49)"""
        return rank_candidates(self.clip_novelty(), self.clip(), network)

    def clip_background(self) -> Background | None:
        """Return the background that the running clip is compared with.

        During the very first clip it is what the frames so far make of one.
        """
        if self.background is None or self.background.cell_means is not None or not self.pending:
            return self.background
        return self.background.update(np.stack(self.pending))

    def learn_clip(self) -> Background | None:
        """Return the background after the running clip, which is at its end."""
        if self.background is None or self.background.cell_means is None:
            return self.clip_background()
        return self.background.update(np.stack(self.pending), np.stack(self.pending_residual))

    def oldest_tick(self, network: NetworkConfig) -> int:
        """Return the first tick that the memory may hold after the running clip."""
        return self.pending_ticks[-1] - round(network.horizon_s * TICKS_PER_SECOND)


def empty_version(network: NetworkConfig) -> Version:
    """Return the version before the first frame."""
    background = None
    if network.svd_rank:
        background = Background.empty(network.svd_rank, network.d_backbone, network.svd_forgetting)
    memory = TokenMemory.empty(network.memory_tokens, network.d_backbone)
    return Version(memory, background, recurrent_state=initial_state(network))


# -- steps --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClipUpdate:
    """What engines computed at the end of a clip.

    `candidates` (k,) are the clip's tokens that the sampler was given, None for all. By `scores` (m + k,) the
    memory selects: those of the sampler, redundant tokens marked (`edge_runtime.memory.diversity`).
    `outputs` are for the recurrent state. `background` is the one after the clip where it was computed
    already (beside the sampler); it follows from the frames, so no journal holds it.
    """

    candidates: NDArray[np.intp] | None  # (k,)
    scores: Scores  # (m + k,)
    outputs: Arrays = field(default_factory=dict)
    background: Background | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Step:
    """One batch of frames and what engines computed of it: enough to apply it again, bit for bit.

    `features` (B, 49, d) with zeros for pruned tokens, `residual` (B, 49) against the background, `times`
    (B,) seconds, each frame standing for `period`; `clip_update` where the batch ends a clip.
    """

    features: Features  # (B, 49, d)
    residual: NDArray[np.float32]  # (B, 49)
    times: Sequence[float]
    period: float
    clip_update: ClipUpdate | None = None


def apply(version: Version, step: Step, network: NetworkConfig) -> Version:
    """Return the version after a step. Calls no engine.

    Raises ValueError where the step does not continue this version.
    """
    version = add_frames(version, step, network)
    update, missing = step.clip_update, network.clip_frames - len(version.pending)
    if missing < 0 or (update is None) != (missing > 0):
        raise ValueError("a step must have a clip update where a clip ends, and nowhere else")
    if update is None:
        return version
    clip, ticks = version.clip(), version.pending_ticks
    if update.candidates is not None:
        clip = clip.take(update.candidates)
    return replace(
        version,
        memory=version.memory.update(clip, update.scores, oldest_tick=version.oldest_tick(network)),
        background=update.background or version.learn_clip(),
        pending=(),
        pending_residual=(),
        pending_ticks=(),
        recurrent_state=update_state(version.recurrent_state, update.outputs, network, (ticks[0], ticks[-1])),
    )


def add_frames(version: Version, step: Step, network: NetworkConfig) -> Version:
    """Return the version with the step's frames in its running clip. Raises ValueError as `check_order`."""
    ticks = [to_tick(t) for t in step.times]
    check_order(version, ticks)
    coverage = version.coverage
    for t in step.times:
        coverage = coverage.observe(t, step.period, network.horizon_s)
    return replace(
        version,
        coverage=coverage,
        pending=(*version.pending, *step.features),
        pending_residual=(*version.pending_residual, *step.residual),
        pending_ticks=(*version.pending_ticks, *ticks),
        last_tick=ticks[-1],
        frames=version.frames + len(ticks),
    )


def check_order(version: Version, ticks: Sequence[int]) -> None:
    """Raise ValueError unless frames at `ticks` follow the newest one, each newer than the one before."""
    last = version.last_tick
    for tick in ticks:
        if last is not None and tick <= last:
            raise ValueError(f"frames must be newer than tick {last}, got tick {tick}")
        if abs(tick) > MAX_TICK:  # no state could be read with it
            raise ValueError(f"frames must be within ±{MAX_T:g} s of the stream's zero, got tick {tick}")
        last = tick


# -- tokens of a clip ---------------------------------------------------------------------------------------


def prune_tokens(version: Version, network: NetworkConfig) -> Version:
    """Return the version with zeros for the running clip's tokens that can never matter again.

    A clip offers at most so many of its most novel tokens to the memory and to the reader. A token that as
    many others exceed already is lost, unless it lies in a frame from which the background learns. During the
    first clip all may matter. Not for a sampler that sees all candidates. Pruning again changes nothing, and
    `apply` gives the same with and without it: it makes journals and snapshots small.
    """
    count = max(network.clip_candidates, network.recency_tokens)
    learned = version.background is not None and version.background.cell_means is not None
    if not learned or len(version.pending) * network.cells <= count:
        return version
    novelty = version.clip_ranks(network)
    lost = np.ones((len(version.pending), network.cells), np.bool_)
    lost.flat[np.argsort(-novelty, kind="stable")[:count]] = False
    lost[:: learning_stride(network.clip_frames)] = False
    pending = list(version.pending)
    for i in np.flatnonzero(lost.any(axis=1)):
        if pending[i][lost[i]].any():
            pending[i] = np.where(lost[i][:, None], np.float32(0), pending[i])
    return replace(version, pending=tuple(pending))


def clip_tokens(frames: Features, ticks: Sequence[int]) -> Tokens:
    """Return features (F, 49, d) at their ticks as tokens, frame by frame and cell by cell. (F * 49)"""
    f, p, d = frames.shape
    tick = np.repeat(np.asarray(ticks, np.int64), p)
    cell = np.tile(np.arange(p, dtype=np.int32), f)
    return Tokens(frames.reshape(f * p, d), tick, cell)


def rank_candidates(
    novelty: NDArray[np.float32], tokens: Tokens, network: NetworkConfig
) -> NDArray[np.float32]:
    """Return the rank of each token as a candidate: its novelty (k,), but above all others for `even_tokens`
    of each frame. (k,)

    These take turns, so every cell of a still picture is a candidate once in ten frames.
    """
    if not network.even_tokens:
        return novelty
    # Of each frame so many cells as asked, spread over the picture.
    stride = next(step for step in count_from(10) if math.gcd(step, network.cells) == 1)
    even = (stride * tokens.cell + 3 * tokens.tick) % network.cells < network.even_tokens
    return np.where(even, np.float32(2), novelty)


def select_novel(novelty: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` highest, ascending; equal values go to the lower index."""
    return np.sort(np.argsort(-novelty, kind="stable")[:count])
