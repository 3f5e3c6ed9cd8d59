"""Use checkout worlds of a data folder as training videos: its records are the truth, pictures are drawn.

Letters: F frames at the sampling rate, S picture side, I instances, V pictures of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, to_tick
from edge_runtime.simulation.world import World
from engines.network_config import NetworkConfig
from export.data.records import NamedInstance, Video
from export.data.world_set import open_world
from export.training.data.world_pool import PHOTOS_PER_PRODUCT, make_query_photos

Images = NDArray[np.uint8]


class WorldFrames:
    """Pictures (S, S, 3) of a world at `ticks` (F,), drawn when they are used: they need no disk."""

    def __init__(self, world: World, ticks: NDArray[np.int64], size: int) -> None:
        self._world, self._ticks, self._size = world, ticks, size

    def __len__(self) -> int:
        return len(self._ticks)

    def __getitem__(self, at: int) -> Images:
        return self._world.frame(int(self._ticks[at]) / TICKS_PER_SECOND, (self._size, self._size))


@dataclass(frozen=True)
class WorldVideo:
    """A world's record, from which any process can draw its pictures."""

    video: Video
    network: NetworkConfig

    def ticks(self) -> NDArray[np.int64]:
        """Return the ticks of the frames, (F,)."""
        count = int(self.video.duration_s * self.network.sample_fps)
        return np.unique([to_tick(number / self.network.sample_fps) for number in range(count)]).astype(
            np.int64
        )

    def frames(self) -> WorldFrames:
        """Return the frames, which are drawn when they are used."""
        return WorldFrames(open_world(self.video), self.ticks(), self.network.image_size)

    def crops(self, instances: NDArray[np.int64]) -> Images:
        """Return the world's own photos of its products, (I, V, S, S, 3)."""
        world = open_world(self.video)
        photos = [make_query_photos(world, instance, self.network) for instance in instances.tolist()]
        size = self.network.image_size
        return np.array(photos, np.uint8).reshape(-1, PHOTOS_PER_PRODUCT, size, size, 3)


def list_real_products(
    videos: Iterable[Video], instances: Iterable[NamedInstance]
) -> dict[tuple[str, int], str]:
    """Return the names of worlds' real products by (video, instance): equal names are the same product."""
    worlds = {video.video for video in videos if video.products is not None}
    return {(item.video, item.id): item.name for item in instances if item.video in worlds and item.video}
