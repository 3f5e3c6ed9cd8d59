"""What a visit brings before the sampler: the video's memory, the clip's candidates, the recency buffer.

Letters: B videos of a batch, m slots, K candidates, T frames of a clip, R recency tokens, r rank, d width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import CELLS
from edge_runtime.memory.samplers import Sampler, make_sampler
from edge_runtime.memory.token_memory import TokenMemory, Tokens
from edge_runtime.memory.version import select_novel
from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache
from export.training.lvm.memory_bank import FIELDS, MemoryBank
from export.training.lvm.visit_order import Visit


class Shown(NamedTuple):
    """A visit, and what has been seen of its video by then: frames of the following clip before tick `until`
    (0: none), and which events (E,), of which `fresh` ones just now."""

    visit: Visit
    until: int
    events: NDArray[np.bool_]
    fresh: NDArray[np.bool_]


class Slots:
    """Feeds of the sampler for visits to `caches`; all samplers but the neural one judge here."""

    def __init__(self, network: NetworkConfig, caches: Sequence[VideoCache], sampler: str) -> None:
        self._network, self._caches = network, caches
        self._host = None if sampler == "neural" else _host_sampler(sampler)

    def of(self, shown: Sequence[Shown], bank: MemoryBank) -> dict[str, Any]:
        """Memory (B, m, ...), candidates (B, K, ...), recency buffer (B, R, ...), SVD summary (B, r, d)."""
        slots = [self._one(one.visit, one.until, bank) for one in shown]
        return {name: np.stack([slot[name] for slot in slots]) for name in slots[0]}

    def _one(self, visit: Visit, until: int, bank: MemoryBank) -> dict[str, Any]:
        cache, network = self._caches[visit.video], self._network
        memory = {name: getattr(bank, name)[visit.video].cpu().numpy() for name in FIELDS}
        clip, novelty, event = self._candidates(cache, visit.clip)
        known = cache.background(visit.clip, network)
        slots = Tokens(memory["features"], memory["tick"], memory["cell"].astype(np.int32))
        of_memory = np.zeros(len(slots), np.float32) if known is None else known.novelty(slots)
        out: dict[str, Any] = {f"memory_{name}": value for name, value in memory.items()}
        out["memory_novelty"] = of_memory
        out |= _named("clip", clip, event, len(clip)) | {"clip_novelty": novelty}
        recent, of_recent = self._recent(cache, visit.clip + 1, until)
        out |= _named("recent", recent, of_recent, network.recency_tokens)
        summary = cache.summary[visit.clip + 1]
        out |= {"basis": summary[:, :-1], "strength": summary[:, -1]}
        if network.sampler == "s5":
            out["carried"] = bank.carried[visit.video].cpu().numpy()
        if self._host is not None:
            out["keys"] = self._host.score(_as_memory(memory), clip, np.concatenate([of_memory, novelty]))
        return out

    def _candidates(
        self, cache: VideoCache, clip: int
    ) -> tuple[Tokens, NDArray[np.float32], NDArray[np.int32]]:
        """Tokens of one clip that compete, their novelty and events: thinned where the sampler wants that."""
        if self._host is None or self._host.prefilters:
            features = cache.features[clip].astype(np.float32)
            return (
                Tokens(features, cache.tick[clip], cache.cell[clip]),
                cache.novelty[clip],
                cache.event[clip],
            )
        part = slice(clip * self._network.clip_frames, (clip + 1) * self._network.clip_frames)
        tokens = np.asarray(cache.tokens[part], np.float32)  # (T, 49, d)
        tick = np.repeat(cache.ticks[part], CELLS)
        cell = np.tile(np.arange(CELLS, dtype=np.int32), len(tokens))
        event = cache.truth.evidence(tick, cell)
        return (
            Tokens(tokens.reshape(-1, tokens.shape[-1]), tick, cell),
            np.zeros(len(tick), np.float32),
            event,
        )

    def _recent(self, cache: VideoCache, clip: int, until: int) -> tuple[Tokens, NDArray[np.int32]]:
        """The most novel of what the running clip showed before `until`; the newest without an SVD."""
        following, most = min(clip, cache.clips - 1), self._network.recency_tokens
        seen = np.flatnonzero(cache.tick[following] < until)
        if self._network.svd_rank:
            seen = seen[select_novel(cache.novelty[following][seen], most)]
        seen = seen[max(0, len(seen) - most) :]
        features = cache.features[following][seen].astype(np.float32)
        tokens = Tokens(features, cache.tick[following][seen], cache.cell[following][seen])
        return tokens, cache.event[following][seen]


def _named(prefix: str, tokens: Tokens, event: NDArray[np.int32], length: int) -> dict[str, Any]:
    """Fields of `tokens`, padded to `length`."""
    free = length - len(tokens)
    return {
        f"{prefix}_features": np.pad(tokens.features, ((0, free), (0, 0))),
        f"{prefix}_tick": np.pad(tokens.tick, (0, free)),
        f"{prefix}_cell": np.pad(tokens.cell.astype(np.int64), (0, free)),
        f"{prefix}_event": np.pad(event.astype(np.int64), (0, free), constant_values=-1),
        f"{prefix}_valid": np.arange(length) < len(tokens),
    }


def _as_memory(memory: Mapping[str, NDArray[Any]]) -> TokenMemory:
    """One video's slots, (m, ...) by field, as the runtime's samplers take them."""
    slots = len(memory["tick"])
    return TokenMemory(
        memory["features"],
        memory["tick"],
        memory["cell"].astype(np.int32),
        np.zeros(slots, np.float32),
        memory["valid"],
    )


def _host_sampler(name: str) -> Sampler:
    """One of the runtime's samplers that need no engine."""
    return make_sampler(name, None)  # type: ignore[arg-type]
