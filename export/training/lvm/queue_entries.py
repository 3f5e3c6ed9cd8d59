"""Entries of queues in training: what makes them is learned first and frozen, so that none ever goes stale.

Letters: V videos, n clips of one, B clips of a batch, K candidates, l entries, T text slots, R regions, C
activities, d token width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_runtime.memory.recurrent_state import read_offsets, to_queue_entry
from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache
from export.networks.clip_entries import ClipEntry, EntryMaker

_BATCH = 32
_LEARNING_RATE = 1e-3
_LEAST = 1e-5


@dataclass(frozen=True)
class VideoEntries:
    """Of each clip of a video its entry, (n, T) classes and (n, R, d), and its first and last tick (n, 2)."""

    text: NDArray[np.int32]
    region: NDArray[np.float32]
    span: NDArray[np.int64]


def clip_activities(cache: VideoCache, network: NetworkConfig) -> NDArray[np.float32]:
    """Which activities each clip of a video shows, (n, C): of events of which a candidate is evidence."""
    shown = np.zeros((cache.clips, network.activities), np.float32)
    for clip, events in enumerate(cache.event):
        shown[clip, cache.truth.activity[np.unique(events[events >= 0])]] = 1
    return shown


def fit_entries(
    maker: EntryMaker, videos: Sequence[VideoCache], network: NetworkConfig, steps: int, seed: int
) -> float:
    """Train `maker` in place to tell what a clip shows; the mean loss of the last tenth of the steps."""
    rng = np.random.default_rng([seed, 7])
    labels = [clip_activities(video, network) for video in videos]
    place = np.array([(v, c) for v, video in enumerate(videos) for c in range(video.clips)])
    device = maker.queries.device
    optimiser = torch.optim.AdamW(maker.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=max(steps, 2))
    maker.train()
    losses = []
    for _ in range(steps):
        chosen = place[rng.integers(len(place), size=_BATCH)]
        said = _told(maker, [(videos[v], c) for v, c in chosen])
        wanted = torch.from_numpy(np.stack([labels[v][c] for v, c in chosen])).to(device)
        loss = functional.binary_cross_entropy(said.activity.clamp(_LEAST, 1 - _LEAST), wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    maker.eval()
    return float(np.mean(losses[-max(1, steps // 10) :]))


@torch.no_grad()
def entries_of(maker: EntryMaker, cache: VideoCache, network: NetworkConfig) -> VideoEntries:
    """The entries of all clips of a video, as a device makes them."""
    trained = maker.training
    maker.eval()
    text = np.zeros((cache.clips, network.queue.text_slots), np.int32)
    region = np.zeros((cache.clips, network.queue.regions, network.d_backbone), np.float32)
    for first in range(0, cache.clips, _BATCH):
        clips = range(first, min(first + _BATCH, cache.clips))
        said = _told(maker, [(cache, clip) for clip in clips])
        for row, clip in enumerate(clips):
            one = {
                "clip_activity": said.activity[row].cpu().numpy(),
                "clip_regions": said.regions[row].cpu().numpy(),
            }
            brought = to_queue_entry(one, network)
            text[clip] = brought.get("text", 0)
            region[clip] = brought.get("region", 0)
    maker.train(trained)
    ticks = cache.ticks[: cache.clips * network.clip_frames].reshape(cache.clips, -1)
    return VideoEntries(text, region, ticks[:, [0, -1]])


def queue_after(
    entries: VideoEntries, clip: int, visited: NDArray[np.bool_], network: NetworkConfig
) -> dict[str, Any]:
    """What the queues hold when clip number `clip` has ended, of the clips that were `visited` (n,).

    `queue_span` (l, 2), `queue_valid` (l,), `queue_text` (l, T), `queue_region` (l, R, d).
    """
    at = clip + 1 - read_offsets(network.queue.length, network.queue.stride)  # (l,)
    there = (at >= 0) & visited[np.maximum(at, 0)]
    at = np.maximum(at, 0)
    found: dict[str, Any] = {"queue_span": entries.span[at], "queue_valid": there}
    if "text" in network.context:
        found["queue_text"] = entries.text[at]
    if "region" in network.context:
        found["queue_region"] = entries.region[at]
    return found


def queue_inputs(batch: Any, slot: Tensor, moved: Tensor) -> dict[str, Tensor]:
    """The reader's feeds of the queues for questions about `slot` (Q,), their ticks `moved` by (Q, 1)."""
    if "queue_valid" not in batch:
        return {}
    start, end = batch["queue_span"][slot].unbind(-1)  # (Q, l)
    of_window = (start <= batch["end"][:, None]) & (end >= batch["start"][:, None])
    valid = batch["queue_valid"][slot] & of_window
    feeds = {name: batch[name][slot] for name in ("queue_text", "queue_region") if name in batch}
    return feeds | {"queue_tick": ((start + end) // 2 + moved) * valid, "queue_valid": valid}


def _told(maker: EntryMaker, clips: Sequence[tuple[VideoCache, int]]) -> ClipEntry:
    device = maker.queries.device

    def of(name: str) -> Tensor:
        stacked = np.stack([np.asarray(getattr(cache, name)[clip]) for cache, clip in clips])
        return torch.from_numpy(stacked).to(device)

    tick, features = of("tick"), of("features").float()
    said: ClipEntry = maker(
        features,
        torch.ones(tick.shape, dtype=torch.bool, device=device),
        tick - tick[:, :1],
        of("cell"),
        of("novelty"),
    )
    return said
