"""Everything that was known at one moment, which is all that a question ever reads.

Letters: f frames of the running clip, T of a whole one, P = 49 cells, d width of a token, k tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import CELLS
from edge_runtime.memory.background_model import Background
from edge_runtime.memory.coverage import Coverage
from edge_runtime.memory.recurrent_state import Carried, nothing_carried
from edge_runtime.memory.step import beaten
from edge_runtime.memory.token_memory import Features, TokenMemory, Tokens, no_tokens
from engines.network_config import NetworkConfig


@dataclass(frozen=True)
class Version:
    """Everything that was known at one moment. Immutable, so readers need no lock.

    `pending` are the features (f, 49, d) of the running clip's frames, f < T, at `pending_ticks`, and
    `pending_residual` their residuals (f, 49) against the background, all 0 in the first clip. Tokens that
    can neither be remembered nor read any more are zero (`without_beaten`). `carried` changes with each clip.
    """

    memory: TokenMemory
    background: Background | None
    coverage: Coverage = Coverage()
    pending: tuple[Features, ...] = ()  # f × (49, d)
    pending_residual: tuple[Features, ...] = ()  # f × (49,)
    pending_ticks: tuple[int, ...] = ()
    last_tick: int | None = None
    frames: int = 0
    carried: Carried = field(default_factory=dict)

    def clip(self) -> Tokens:
        """Tokens of the running clip, frame by frame. (f * 49)"""
        if not self.pending:
            return no_tokens(self.memory.features.shape[1])
        return clip_tokens(np.stack(self.pending), self.pending_ticks)

    def clip_novelty(self) -> NDArray[np.float32]:
        """Novelty of `clip()`, token by token. (f * 49)"""
        known, cells = self.known_background(), np.tile(np.arange(CELLS, dtype=np.int32), len(self.pending))
        if known is None or not self.pending:
            return np.zeros(len(cells), np.float32)
        residual = np.stack(self.pending_residual)
        if known is not self.background:
            residual = known.residual_of(np.stack(self.pending))
        return known.standardised(residual.ravel(), cells)

    def known_background(self) -> Background | None:
        """The background, or during the very first clip what its frames so far make of one."""
        if self.background is None or self.background.cell_means is not None or not self.pending:
            return self.background
        return self.background.update(np.stack(self.pending))


def empty_version(network: NetworkConfig) -> Version:
    """Before the first frame."""
    background = None
    if network.svd_rank:
        background = Background.empty(network.svd_rank, network.d_backbone, network.svd_forgetting)
    memory = TokenMemory.empty(network.memory_tokens, network.d_backbone)
    return Version(memory, background, carried=nothing_carried(network))


def without_beaten(version: Version, network: NetworkConfig) -> Version:
    """The version with zeros for the running clip's tokens that can never matter again.

    A sampler that sees all candidates must not be used with it. During the first clip all may matter.
    """
    most = max(network.clip_candidates, network.recency_tokens)
    learned = version.background is not None and version.background.cell_means is not None
    if not learned or len(version.pending) * CELLS <= most:
        return version
    lost = beaten(version.clip_novelty(), most, network.clip_frames)  # (f, 49)
    pending = list(version.pending)
    for i in np.flatnonzero(lost.any(axis=1)):
        if pending[i][lost[i]].any():
            pending[i] = np.where(lost[i][:, None], np.float32(0), pending[i])
    return replace(version, pending=tuple(pending))


def clip_tokens(frames: Features, ticks: Sequence[int]) -> Tokens:
    """Features (F, 49, d) with their ticks as tokens, frame by frame and cell by cell. (F * 49)"""
    f, p, d = frames.shape
    tick = np.repeat(np.asarray(ticks, np.int64), p)
    cell = np.tile(np.arange(CELLS, dtype=np.int32), f)
    return Tokens(frames.reshape(f * p, d), tick, cell)


def most_novel(novelty: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """Indices of the `most` highest, in their order; equal ones by the lower index."""
    return np.sort(np.argsort(-novelty, kind="stable")[:most])
