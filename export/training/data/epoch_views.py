"""In which look each training video is shown: one a video and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from export.data.token_cache import VideoCache


class Showings(Sequence[VideoCache]):
    """The videos of one epoch; `turn` begins another.

    `ways` are the same videos in different looks, as filmed first: the same clips, times and events.
    """

    def __init__(self, ways: Sequence[Sequence[VideoCache]], seed: int) -> None:
        self.ways = [list(videos) for videos in ways]
        self._seed = seed
        self.way: NDArray[np.int64] = np.zeros(len(self.ways[0]), np.int64)
        """In which way each video is shown now."""

    @classmethod
    def of(cls, videos: Sequence[VideoCache], seed: int) -> Showings:
        """As they are where they are showings already, else always as filmed."""
        return videos if isinstance(videos, Showings) else cls([videos], seed)

    def turn(self, epoch: int) -> None:
        """Show the videos of `epoch`, each in any of its looks."""
        self.way = np.random.default_rng([self._seed, 9, epoch]).integers(len(self.ways), size=len(self.way))

    def any_of(self, video: int, rng: np.random.Generator) -> VideoCache:
        """One video in any look, whatever the epoch."""
        return self.ways[int(rng.integers(len(self.ways))) if len(self.ways) > 1 else 0][video]

    def everything(self) -> list[VideoCache]:
        """All videos in all looks."""
        return [video for way in self.ways for video in way]

    def __len__(self) -> int:
        return len(self.ways[0])

    @overload
    def __getitem__(self, index: int) -> VideoCache: ...
    @overload
    def __getitem__(self, index: slice) -> list[VideoCache]: ...
    def __getitem__(self, index: int | slice) -> VideoCache | list[VideoCache]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return self.ways[int(self.way[index])][index]
