"""Choose the picture of a question's object: a catalogue photo, a photo file or a crop of its own video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.world import World
from export.data.files import Tracks
from export.data.records import Crop, CropFile, CropInVideo, CropView

Window = tuple[float, float]
CropSource = Callable[[np.random.Generator, int, Sequence[Window]], Crop | None]
"""Choose a crop of an instance, or None. A crop of the video lies outside the given windows (seconds)."""


def make_catalogue_crops(world: World) -> CropSource:
    """Choose photos of a checkout world's products that the world itself never shows."""

    def crop(rng: np.random.Generator, instance: int, avoid: Sequence[Window]) -> Crop | None:
        views = world.query_views(instance)
        return CropView(view=views[int(rng.integers(len(views)))])

    return crop


def make_file_crops(photos: Mapping[int, Sequence[str]], fallback: CropSource | None = None) -> CropSource:
    """Choose photo files by instance (paths from the data folder); `fallback` serves other instances."""

    def crop(rng: np.random.Generator, instance: int, avoid: Sequence[Window]) -> Crop | None:
        paths = photos.get(instance, ())
        if not paths:
            return fallback(rng, instance, avoid) if fallback else None
        return CropFile(path=paths[int(rng.integers(len(paths)))])

    return crop


def make_video_crops(tracks: Tracks) -> CropSource:
    """Choose a frame of the instance's own track: untouched if possible, and outside the windows to avoid.

    ReST cuts its crops out of the test video itself; a frame of the answer would reveal the answer.
    """

    def crop(rng: np.random.Generator, instance: int, avoid: Sequence[Window]) -> Crop | None:
        track = tracks.select(instance)
        t = track.tick5 / TICKS_PER_SECOND
        free = np.ones(len(t), bool)
        for start, end in avoid:
            free &= (t < start) | (t >= end)
        idle = free & ~track.active
        choice = np.flatnonzero(idle if idle.any() else free)
        if not choice.size:
            return None
        at = int(choice[int(rng.integers(choice.size))])
        x1, y1, x2, y2 = (round(float(side), 5) for side in track.box[at])
        return CropInVideo(tick5=int(track.tick5[at]), box=(x1, y1, x2, y2))

    return crop
