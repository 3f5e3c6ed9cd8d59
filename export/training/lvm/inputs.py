"""Make a visit's input of the sampler: the video's memory, the clip's candidates, the recency buffer.

The bank holds the memories of all videos during an epoch, equal in every process.

Letters: B videos of a batch, m slots, K candidates, T frames of a clip, R recency tokens, r rank, d width,
V videos of the bank, b changed slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.memory.samplers import Sampler, make_sampler
from edge_runtime.memory.token_memory import TokenMemory, Tokens
from edge_runtime.memory.version import rank_candidates, select_novel
from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache
from export.training.loop.distributed import ProcessGroup
from export.training.lvm.visit_order import Visit

FIELDS = ("features", "tick", "cell", "event", "valid")


class MemoryBank:
    """Memories: `features` (V, m, d), `tick`, `cell`, `event` (V, m), `valid` (V, m).

    `event` is the event that a token is evidence of, -1 for none; a device does not know it. `carried`
    (V, layers, H, S) is the state of recurrent samplers after the last visit: detached, and computed with
    slightly older weights.
    """

    def __init__(self, videos: int, network: NetworkConfig, device: torch.device) -> None:
        m, d = network.memory_tokens, network.d_backbone
        self.features = torch.zeros(videos, m, d, device=device)
        self.tick = torch.zeros(videos, m, dtype=torch.int64, device=device)
        self.cell = torch.zeros(videos, m, dtype=torch.int64, device=device)
        self.event = torch.full((videos, m), -1, dtype=torch.int64, device=device)
        self.valid = torch.zeros(videos, m, dtype=torch.bool, device=device)
        self.fields: tuple[str, ...] = FIELDS
        if network.sampler == "s5":
            self.carried = torch.zeros(videos, *network.sampler_state, device=device)
            self.fields += ("carried",)

    def reset(self, video: int) -> None:
        """Empty the memory of a video."""
        self.valid[video] = False
        self.event[video] = -1
        if "carried" in self.fields:
            self.carried[video] = 0

    def write(self, videos: Tensor, changed: dict[str, Tensor], processes: ProcessGroup) -> None:
        """Store the new memories (b, m, ...) of the `videos` (b,) of every process."""
        where = processes.all_gather(videos)
        for name in self.fields:
            values = processes.all_gather(changed[name].to(torch.uint8) if name == "valid" else changed[name])
            field: Tensor = getattr(self, name)
            field[where] = values.to(field.dtype)

    def state(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.fields}

    def restore(self, state: dict[str, Tensor]) -> None:
        for name in self.fields:
            getattr(self, name).copy_(state[name])


class VisitState(NamedTuple):
    """A visit, and what its video has shown by then.

    Frames of the following clip before tick `until` (0: none), the `events` (E,) so far and those of them
    that are `fresh`, shown just now.
    """

    visit: Visit
    until: int
    events: NDArray[np.bool_]
    fresh: NDArray[np.bool_]


class TrainInputs:
    """Inputs of visits to `caches`; samplers other than the neural one compute their keys here."""

    def __init__(self, network: NetworkConfig, caches: Sequence[VideoCache], sampler: str) -> None:
        self._network, self._caches = network, caches
        self._host = None if sampler == "neural" else _make_host_sampler(sampler)

    def make(self, states: Sequence[VisitState], bank: MemoryBank) -> dict[str, Any]:
        """Return memory (B, m, ...), candidates (B, K, ...), recency (B, R, ...), summary (B, r, d)."""
        rows = [self._make_row(state.visit, state.until, bank) for state in states]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _make_row(self, visit: Visit, until: int, bank: MemoryBank) -> dict[str, Any]:
        cache, network = self._caches[visit.video], self._network
        memory = {name: getattr(bank, name)[visit.video].cpu().numpy() for name in FIELDS}
        clip, novelty, event = self._candidates(cache, visit.clip)
        background = cache.background(visit.clip, network)
        slots = Tokens(memory["features"], memory["tick"], memory["cell"].astype(np.int32))
        memory_novelty = np.zeros(len(slots), np.float32) if background is None else background.novelty(slots)
        out: dict[str, Any] = {f"memory_{name}": value for name, value in memory.items()}
        out["memory_novelty"] = memory_novelty
        out |= _pad_tokens("clip", clip, event, len(clip)) | {"clip_novelty": novelty}
        recent, recent_event = self._recent(cache, visit.clip + 1, until)
        out |= _pad_tokens("recent", recent, recent_event, network.recency_tokens)
        summary = cache.summary[visit.clip + 1]
        out |= {"basis": summary[:, :-1], "strength": summary[:, -1]}
        if network.sampler == "s5":
            out["carried"] = bank.carried[visit.video].cpu().numpy()
        if self._host is not None:
            out["keys"] = self._host.score(
                _to_memory(memory), clip, np.concatenate([memory_novelty, novelty])
            )
        return out

    def _candidates(
        self, cache: VideoCache, clip: int
    ) -> tuple[Tokens, NDArray[np.float32], NDArray[np.int32]]:
        """Return a clip's candidates, their novelty and events: all tokens unless the sampler prefilters."""
        if self._host is None or self._host.prefilters:
            features = cache.features[clip].astype(np.float32)
            return (
                Tokens(features, cache.tick[clip], cache.cell[clip]),
                cache.novelty[clip],
                cache.event[clip],
            )
        part = slice(clip * self._network.clip_frames, (clip + 1) * self._network.clip_frames)
        tokens = np.asarray(cache.tokens[part], np.float32)  # (T, 49, d)
        tick = np.repeat(cache.ticks[part], self._network.cells)
        cell = np.tile(np.arange(self._network.cells, dtype=np.int32), len(tokens))
        event = cache.truth.find_evidence(tick, cell, self._network.grid)
        return (
            Tokens(tokens.reshape(-1, tokens.shape[-1]), tick, cell),
            np.zeros(len(tick), np.float32),
            event,
        )

    def _recent(self, cache: VideoCache, clip: int, until: int) -> tuple[Tokens, NDArray[np.int32]]:
        """Return the most novel tokens (without an SVD: the newest) of the current clip before `until`."""
        following, count = min(clip, cache.clips - 1), self._network.recency_tokens
        rows = np.flatnonzero(cache.tick[following] < until)
        if self._network.svd_rank:
            tokens = Tokens(cache.features[following], cache.tick[following], cache.cell[following])
            ranks = rank_candidates(cache.novelty[following], tokens, self._network)
            rows = rows[select_novel(ranks[rows], count)]
        rows = rows[max(0, len(rows) - count) :]
        features = cache.features[following][rows].astype(np.float32)
        tokens = Tokens(features, cache.tick[following][rows], cache.cell[following][rows])
        return tokens, cache.event[following][rows]


def _pad_tokens(prefix: str, tokens: Tokens, event: NDArray[np.int32], length: int) -> dict[str, Any]:
    """Return the fields of `tokens`, padded to `length`."""
    free = length - len(tokens)
    return {
        f"{prefix}_features": np.pad(tokens.features, ((0, free), (0, 0))),
        f"{prefix}_tick": np.pad(tokens.tick, (0, free)),
        f"{prefix}_cell": np.pad(tokens.cell.astype(np.int64), (0, free)),
        f"{prefix}_event": np.pad(event.astype(np.int64), (0, free), constant_values=-1),
        f"{prefix}_valid": np.arange(length) < len(tokens),
    }


def _to_memory(memory: Mapping[str, NDArray[Any]]) -> TokenMemory:
    """Convert a video's slots, (m, ...) by field, to the runtime's memory."""
    slots = len(memory["tick"])
    return TokenMemory(
        memory["features"],
        memory["tick"],
        memory["cell"].astype(np.int32),
        np.zeros(slots, np.float32),
        memory["valid"],
    )


def _make_host_sampler(name: str) -> Sampler:
    """Make a sampler of the runtime that needs no engine."""
    return make_sampler(name, None)  # type: ignore[arg-type]
