"""Choose the augmented view of each training video for each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from export.data.token_cache import VideoCache


class EpochViews(Sequence[VideoCache]):
    """The videos of an epoch, each in one of its views; `begin_epoch` draws the views of another epoch.

    `views` are the same videos in different views, as filmed first: with the same clips, times and events.
    """

    def __init__(self, views: Sequence[Sequence[VideoCache]], seed: int) -> None:
        self.views = [list(videos) for videos in views]
        self._seed = seed
        self.view: NDArray[np.int64] = np.zeros(len(self.views[0]), np.int64)
        """The number of each video's view in this epoch."""

    @classmethod
    def wrap(cls, videos: Sequence[VideoCache], seed: int) -> EpochViews:
        """Return `videos` if they have views already, else their single view as filmed."""
        return videos if isinstance(videos, EpochViews) else cls([videos], seed)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the view of each video for `epoch`."""
        views = len(self.views)
        self.view = np.random.default_rng([self._seed, 9, epoch]).integers(views, size=len(self.view))

    def draw_view(self, video: int, rng: np.random.Generator) -> VideoCache:
        """Return a video in a random view, independent of the epoch."""
        return self.views[int(rng.integers(len(self.views))) if len(self.views) > 1 else 0][video]

    def all_views(self) -> list[VideoCache]:
        """Return all videos in all views."""
        return [video for videos in self.views for video in videos]

    def __len__(self) -> int:
        return len(self.views[0])

    @overload
    def __getitem__(self, index: int) -> VideoCache: ...
    @overload
    def __getitem__(self, index: slice) -> list[VideoCache]: ...
    def __getitem__(self, index: int | slice) -> VideoCache | list[VideoCache]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self.views[int(self.view[index])][index]
