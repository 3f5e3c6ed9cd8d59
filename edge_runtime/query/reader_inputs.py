"""Make the reader's inputs of a version: memory, recency buffer, summary of the background.

Letters: n = m + R tokens (memory and recency), d token width, r SVD rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.memory.diversity import RELEVANT
from edge_runtime.memory.recurrent_state import read_entries
from edge_runtime.memory.token_memory import Tokens
from edge_runtime.memory.version import Version, select_novel
from engines.network_config import NetworkConfig
from engines.spec import Array

MAX_TICKS = 2**30
"""Ticks between the oldest and the newest token that are read, 6.8 years: the reader counts in 32 bits."""


@dataclass(frozen=True)
class Context:
    """The reader's inputs that depend on the version only, made once for each version.

    `features` (n, d) float32, `tick` (n,) absolute int64, `cell` (n,), `valid` (n,), `relevant` (n,) what the
    sampler scored as likely evidence, and the running clip; `origin` the oldest tick, from which the reader
    counts; `svd` feeds of the summary tokens, empty where the bundle has none, and `queue` the entries of the
    queues with the ticks that each stands for (`queues.read_entries`).
    """

    features: NDArray[np.float32]  # (n, d)
    tick: NDArray[np.int64]  # (n,)
    cell: NDArray[np.int32]  # (n,)
    valid: NDArray[np.bool_]  # (n,)
    relevant: NDArray[np.bool_]  # (n,)
    origin: int
    svd: dict[str, Array]
    queue: dict[str, Array]

    def queue_feeds(self, windows: Sequence[tuple[int, int] | None]) -> dict[str, Array]:
        """Return feeds of the queues for questions about `windows` (first and last tick).

        A question reads entries of its window only, as it does of the memory. Empty without queues.
        """
        if not self.queue:
            return {}
        start, end = self.queue["span"].T  # (l,)
        shared = {name: array for name, array in self.queue.items() if name in ("text", "region")}
        middle = np.clip((start + end) // 2 - self.origin, -MAX_TICKS, MAX_TICKS)
        there = np.stack(
            [
                np.zeros(len(start), np.bool_)
                if window is None
                else self.queue["there"] & (start <= window[1]) & (end >= window[0])
                for window in windows
            ]
        )  # (Q, l)
        feeds = {
            f"queue_{name}": np.repeat(array[None], len(windows), axis=0) for name, array in shared.items()
        }
        return feeds | {"queue_tick": np.where(there, middle, 0).astype(np.int32), "queue_valid": there}


def make_context(version: Version, network: NetworkConfig) -> Context:
    """Gather the memory and the running clip's most novel tokens (the recency buffer)."""
    recent = _recent(version, network)
    n, m = network.reader_tokens, network.memory_tokens
    features = np.zeros((n, network.d_backbone), np.float32)
    tick, cell = np.zeros(n, np.int64), np.zeros(n, np.int32)
    valid, relevant = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    features[:m] = version.memory.features
    tick[:m], cell[:m], valid[:m] = version.memory.tick, version.memory.cell, version.memory.valid
    relevant[:m] = version.memory.score > RELEVANT
    stop = m + len(recent)
    features[m:stop] = recent.features
    tick[m:stop], cell[m:stop], valid[m:stop] = recent.tick, recent.cell, True
    # A sampler that does not score relevance, as fifo, finds nothing relevant: then everything may be.
    relevant[m if relevant.any() else 0 : stop] = True
    if valid.any():
        # Where the clock was set, years may lie between frames. The end of the clip drops what lies before.
        valid &= tick >= tick[valid].max() - MAX_TICKS
    origin = int(tick[valid].min()) if valid.any() else 0
    svd, queue = _svd_feeds(version, network.summary_rank), read_entries(version.recurrent_state, network)
    return Context(features, tick, cell, valid, relevant, origin, svd, queue)


def _recent(version: Version, network: NetworkConfig) -> Tokens:
    """Return the recency buffer: the first candidates of the running clip, or the newest tokens."""
    clip, count = version.clip(), network.recency_tokens
    if version.background is None:
        return clip.take(np.arange(max(0, len(clip) - count), len(clip)))
    return clip.take(select_novel(version.clip_ranks(network), count))


def _svd_feeds(version: Version, rank: int) -> dict[str, Array]:
    """Return the summary tokens: basis and strength of each direction; absent rows have strength 0."""
    if rank == 0:
        return {}
    assert version.background is not None
    svd = version.background.svd
    basis = np.zeros((rank, svd.basis.shape[1]), np.float32)
    strength = np.zeros(rank, np.float32)
    r = len(svd.strength)
    basis[:r], strength[:r] = svd.basis, svd.summary_strength()
    return {"svd_basis": basis, "svd_strength": strength}
