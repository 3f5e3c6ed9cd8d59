"""Checkout worlds of a data folder as videos to learn from: its records are the truth, pictures are drawn.

Letters: F frames at the sampling rate, S picture side, I instances, V pictures of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, to_tick
from edge_runtime.simulation.world import World
from export.data.records import NamedInstance, Video
from export.data.world_set import world_of
from export.training.data.world_videos import PHOTOS, photos_to_ask_with

Images = NDArray[np.uint8]


class WorldFrames:
    """Pictures (S, S, 3) of a world at `ticks` (F,), drawn when they are asked for: they cost no disk."""

    def __init__(self, world: World, ticks: NDArray[np.int64], size: int) -> None:
        self._world, self._ticks, self._size = world, ticks, size

    def __len__(self) -> int:
        return len(self._ticks)

    def __getitem__(self, at: int) -> Images:
        return self._world.frame(int(self._ticks[at]) / TICKS_PER_SECOND, (self._size, self._size))


@dataclass(frozen=True)
class WorldVideo:
    """What any process makes the pictures of a world from."""

    video: Video
    size: int
    sample_fps: float

    def ticks(self) -> NDArray[np.int64]:
        """(F,)"""
        count = int(self.video.duration_s * self.sample_fps)
        return np.unique([to_tick(number / self.sample_fps) for number in range(count)]).astype(np.int64)

    def frames(self) -> WorldFrames:
        return WorldFrames(world_of(self.video), self.ticks(), self.size)

    def crops(self, instances: NDArray[np.int64]) -> Images:
        """The world's own photographs of its products, (I, V, S, S, 3)."""
        world = world_of(self.video)
        shown = [photos_to_ask_with(world, one, self.size) for one in instances.tolist()]
        return np.array(shown, np.uint8).reshape(-1, PHOTOS, self.size, self.size, 3)


def real_products(videos: Iterable[Video], named: Iterable[NamedInstance]) -> dict[tuple[str, int], str]:
    """What worlds of real products sell, names by (video, instance): of one name it is one product."""
    of_folder = {video.video for video in videos if video.products is not None}
    return {(one.video, one.id): one.name for one in named if one.video in of_folder and one.video}
