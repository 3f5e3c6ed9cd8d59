"""What the reader gets of a version besides the question: memory, recency buffer, summary of the background.

Letters: n = m + R tokens (memory and recency), d token width, r SVD rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.ingest import Version, most_novel
from edge_runtime.memory import Tokens
from engines.manifest import NetworkConfig
from engines.spec import Array

MOST_TICKS = 2**30
"""Between the oldest and the newest token that are read, 6.8 years: the reader counts in 32 bits."""


@dataclass(frozen=True)
class Context:
    """What the reader gets of a version, made once for each version.

    `features` (n, d) float32, `tick` (n,) absolute int64, `cell` (n,), `valid` (n,); `origin` the oldest
    tick, from which the reader counts; `svd` feeds of the summary tokens, empty where the bundle has none.
    """

    features: NDArray[np.float32]  # (n, d)
    tick: NDArray[np.int64]  # (n,)
    cell: NDArray[np.int32]  # (n,)
    valid: NDArray[np.bool_]  # (n,)
    origin: int
    svd: dict[str, Array]


def make_context(version: Version, network: NetworkConfig) -> Context:
    """Memory and the running clip's most novel tokens (the recency buffer) as the reader wants them."""
    recent = _recent(version, network.recency_tokens)
    n, m = network.reader_tokens, network.memory_tokens
    features = np.zeros((n, network.d_backbone), np.float32)
    tick, cell = np.zeros(n, np.int64), np.zeros(n, np.int32)
    valid = np.zeros(n, np.bool_)
    features[:m] = version.memory.features
    tick[:m], cell[:m], valid[:m] = version.memory.tick, version.memory.cell, version.memory.valid
    stop = m + len(recent)
    features[m:stop] = recent.features
    tick[m:stop], cell[m:stop], valid[m:stop] = recent.tick, recent.cell, True
    if valid.any():
        # A clock that was set has put years between frames. The next end of a clip drops what lies before.
        valid &= tick >= tick[valid].max() - MOST_TICKS
    origin = int(tick[valid].min()) if valid.any() else 0
    return Context(features, tick, cell, valid, origin, _svd_feeds(version, network.svd_rank))


def _recent(version: Version, most: int) -> Tokens:
    """The recency buffer: the most novel tokens of the running clip, the newest where novelty is unknown."""
    clip = version.clip()
    if version.background is None:
        return clip.take(np.arange(max(0, len(clip) - most), len(clip)))
    return clip.take(most_novel(version.clip_novelty(), most))


def _svd_feeds(version: Version, rank: int) -> dict[str, Array]:
    """Summary tokens: the basis and how strong each direction is; absent rows have strength 0."""
    if rank == 0:
        return {}
    assert version.background is not None
    svd = version.background.svd
    basis = np.zeros((rank, svd.basis.shape[1]), np.float32)
    strength = np.zeros(rank, np.float32)
    r = len(svd.strength)
    basis[:r], strength[:r] = svd.basis, svd.summary_strength()
    return {"svd_basis": basis, "svd_strength": strength}
