"""Which videos are visited together: never one twice in a global batch.

A memory is changed by each visit, so two visits of one video in one step would each forget what the other did
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
    """Clip number `clip` of video number `video` is taken into its memory; `first` visits begin a memory."""

    video: int
    clip: int
    first: bool
    chronological: bool


def epoch_of_visits(
    clips: Sequence[int], batch: int, rng: np.random.Generator, *, chronological: float, at_most: int
) -> list[list[Visit]]:
    """Batches of visits to `batch` distinct videos until too few videos have clips left.

    `clips` of each video; `at_most` of them, one after the other from a random one on, are visited: in their
    order in a share `chronological` of the videos, in random order in the others. Videos are drawn by what
    they have left. Every member of a team derives the same epoch from the same generator.
    """
    if len(clips) < batch:
        raise LvmError(f"a batch of {batch} distinct videos needs as many videos, got {len(clips)}")
    plans = [
        list(_plan(video, count, rng, rng.random() < chronological, at_most))
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


def _plan(
    video: int, count: int, rng: np.random.Generator, chronological: bool, at_most: int
) -> Iterator[Visit]:
    length = min(count, at_most)
    start = int(rng.integers(count - length + 1))
    order: NDArray[np.int64] = np.arange(start, start + length)
    if not chronological:
        order = rng.permutation(order)
    for place, clip in enumerate(order):
        yield Visit(video, int(clip), place == 0, chronological)
