"""What a question shows of its object: a photograph of a catalogue, or the object in its own video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.world import World
from export.data.files import Tracks
from export.data.records import Crop, CropFile, CropInVideo, CropView

Window = tuple[float, float]
Crops = Callable[[np.random.Generator, int, Sequence[Window]], Crop | None]
"""A crop of an instance, from outside the given windows (seconds) where it comes from the video; or None."""


def view_crops(world: World) -> Crops:
    """Photographs of a checkout world's products that are never shown in it."""

    def crop(rng: np.random.Generator, instance: int, avoid: Sequence[Window]) -> Crop | None:
        views = world.query_views(instance)
        return CropView(view=views[int(rng.integers(len(views)))])

    return crop


def file_crops(photos: Mapping[int, Sequence[str]], otherwise: Crops | None = None) -> Crops:
    """Photographs by instance, as paths from the data folder; `otherwise` for instances without any."""

    def crop(rng: np.random.Generator, instance: int, avoid: Sequence[Window]) -> Crop | None:
        paths = photos.get(instance, ())
        if not paths:
            return otherwise(rng, instance, avoid) if otherwise else None
        return CropFile(path=paths[int(rng.integers(len(paths)))])

    return crop


def video_crops(tracks: Tracks) -> Crops:
    """One frame of the instance's own track: untouched if possible, and outside of what is asked about.

    ReST cuts its crops out of the test video itself; a frame of the answer would give the answer away.
    """

    def crop(rng: np.random.Generator, instance: int, avoid: Sequence[Window]) -> Crop | None:
        own = tracks.of(instance)
        t = own.tick5 / TICKS_PER_SECOND
        free = np.ones(len(t), bool)
        for start, end in avoid:
            free &= (t < start) | (t >= end)
        idle = free & ~own.active
        choice = np.flatnonzero(idle if idle.any() else free)
        if not choice.size:
            return None
        at = int(choice[int(rng.integers(choice.size))])
        x1, y1, x2, y2 = (round(float(side), 5) for side in own.box[at])
        return CropInVideo(tick5=int(own.tick5[at]), box=(x1, y1, x2, y2))

    return crop
