"""Train the maker of queue entries first and freeze it, so that entries never become stale.

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
_EPSILON = 1e-5


@dataclass(frozen=True)
class VideoEntries:
    """The entries of a video's clips: text (n, T) classes, region (n, R, d), first and last tick (n, 2)."""

    text: NDArray[np.int32]
    region: NDArray[np.float32]
    span: NDArray[np.int64]


def label_clips(cache: VideoCache, network: NetworkConfig) -> NDArray[np.float32]:
    """Return the activities of each clip, (n, C): those of events with evidence in its candidates."""
    labels = np.zeros((cache.clips, network.activities), np.float32)
    for clip, events in enumerate(cache.event):
        labels[clip, cache.truth.activity[np.unique(events[events >= 0])]] = 1
    return labels


def fit_entries(
    maker: EntryMaker, videos: Sequence[VideoCache], network: NetworkConfig, steps: int, seed: int
) -> float:
    """Train `maker` in place on the activities of clips; return the mean loss of the last tenth of steps."""
    rng = np.random.default_rng([seed, 7])
    labels = [label_clips(video, network) for video in videos]
    place = np.array([(v, c) for v, video in enumerate(videos) for c in range(video.clips)])
    device = maker.queries.device
    optimiser = torch.optim.AdamW(maker.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=max(steps, 2))
    maker.train()
    losses = []
    for _ in range(steps):
        chosen = place[rng.integers(len(place), size=_BATCH)]
        entry = _run_maker(maker, [(videos[v], c) for v, c in chosen])
        target = torch.from_numpy(np.stack([labels[v][c] for v, c in chosen])).to(device)
        loss = functional.binary_cross_entropy(entry.activity.clamp(_EPSILON, 1 - _EPSILON), target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    maker.eval()
    return float(np.mean(losses[-max(1, steps // 10) :]))


@torch.no_grad()
def make_entries(maker: EntryMaker, cache: VideoCache, network: NetworkConfig) -> VideoEntries:
    """Return the entries of all clips of a video, as a device makes them."""
    trained = maker.training
    maker.eval()
    text = np.zeros((cache.clips, network.queue.text_slots), np.int32)
    region = np.zeros((cache.clips, network.queue.regions, network.d_backbone), np.float32)
    for first in range(0, cache.clips, _BATCH):
        clips = range(first, min(first + _BATCH, cache.clips))
        entries = _run_maker(maker, [(cache, clip) for clip in clips])
        for row, clip in enumerate(clips):
            outputs = {
                "clip_activity": entries.activity[row].cpu().numpy(),
                "clip_regions": entries.regions[row].cpu().numpy(),
            }
            entry = to_queue_entry(outputs, network)
            text[clip] = entry.get("text", 0)
            region[clip] = entry.get("region", 0)
    maker.train(trained)
    ticks = cache.ticks[: cache.clips * network.clip_frames].reshape(cache.clips, -1)
    return VideoEntries(text, region, ticks[:, [0, -1]])


def make_queue(
    entries: VideoEntries, clip: int, visited: NDArray[np.bool_], network: NetworkConfig
) -> dict[str, Any]:
    """Return the queues after clip number `clip`, with the entries of `visited` (n,) clips.

    `queue_span` (l, 2), `queue_valid` (l,), `queue_text` (l, T), `queue_region` (l, R, d).
    """
    at = clip + 1 - read_offsets(network.queue.length, network.queue.stride)  # (l,)
    valid = (at >= 0) & visited[np.maximum(at, 0)]
    at = np.maximum(at, 0)
    queue: dict[str, Any] = {"queue_span": entries.span[at], "queue_valid": valid}
    if "text" in network.context:
        queue["queue_text"] = entries.text[at]
    if "region" in network.context:
        queue["queue_region"] = entries.region[at]
    return queue


def queue_inputs(batch: Any, slot: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """Return the reader's queue inputs for questions about `slot` (Q,), ticks shifted by `shift` (Q, 1)."""
    if "queue_valid" not in batch:
        return {}
    start, end = batch["queue_span"][slot].unbind(-1)  # (Q, l)
    overlaps = (start <= batch["end"][:, None]) & (end >= batch["start"][:, None])
    valid = batch["queue_valid"][slot] & overlaps
    feeds = {name: batch[name][slot] for name in ("queue_text", "queue_region") if name in batch}
    return feeds | {"queue_tick": ((start + end) // 2 + shift) * valid, "queue_valid": valid}


def _run_maker(maker: EntryMaker, clips: Sequence[tuple[VideoCache, int]]) -> ClipEntry:
    device = maker.queries.device

    def stack(name: str) -> Tensor:
        stacked = np.stack([np.asarray(getattr(cache, name)[clip]) for cache, clip in clips])
        return torch.from_numpy(stacked).to(device)

    tick, features = stack("tick"), stack("features").float()
    entry: ClipEntry = maker(
        features,
        torch.ones(tick.shape, dtype=torch.bool, device=device),
        tick - tick[:, :1],
        stack("cell"),
        stack("novelty"),
    )
    return entry
