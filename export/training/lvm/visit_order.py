"""Plan which videos are visited together: never the same video twice in a global batch.

Each visit changes the video's memory, so of two visits to a video in one step one change would be lost
(LVM-Net's data sampler).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import LvmError


@dataclass(frozen=True)
class Visit:
    """Clip number `clip` of video number `video` enters its memory; a `first` visit begins the memory.

    The order of the fields is that of checkpoints.
    """

    video: int
    clip: int
    first: bool
    chronological: bool


def plan_epoch(
    clips: Sequence[int], batch: int, rng: np.random.Generator, *, chronological: float, max_clips: int
) -> list[list[Visit]]:
    """Return batches of visits to `batch` distinct videos until too few videos have clips left.

    `clips` is each video's number of clips. Up to `max_clips` successive clips from a random one on are
    visited, in order in a share `chronological` of the videos, in random order in the others. Videos are
    drawn in proportion to their remaining clips. Every process derives the same epoch from an equal
    generator.
    """
    if len(clips) < batch:
        raise LvmError(f"a batch of {batch} distinct videos needs as many videos, got {len(clips)}")
    plans = [
        list(_plan_video(video, count, rng, rng.random() < chronological, max_clips))
        for video, count in enumerate(clips)
    ]
    left = np.array([len(plan) for plan in plans], np.float64)
    done = np.zeros(len(plans), np.int64)
    batches = []
    while np.count_nonzero(left) >= batch:
        chosen = rng.choice(len(plans), batch, replace=False, p=left / left.sum())
        batches.append([plans[video][done[video]] for video in chosen])
        done[chosen] += 1
        left[chosen] -= 1
    return batches


def _plan_video(
    video: int, count: int, rng: np.random.Generator, chronological: bool, max_clips: int
) -> Iterator[Visit]:
    length = min(count, max_clips)
    start = int(rng.integers(count - length + 1))
    order: NDArray[np.int64] = np.arange(start, start + length)
    if not chronological:
        order = rng.permutation(order)
    for number, clip in enumerate(order):
        yield Visit(video, int(clip), number == 0, chronological)
