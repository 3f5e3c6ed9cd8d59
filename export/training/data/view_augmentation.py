"""Augment whole videos: mirrored, a little nearer, in another light, as another camera would show them.

LVM-Net augments each clip separately. A memory would then mix tokens of different cameras, so here a view
applies to a whole video, and to the photos of its queries: a mirrored product is another one unless its photo
is mirrored too. `EpochViews` chooses the view of each training video for each epoch.

Letters: H, W picture sides, B boxes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import cv2
import numpy as np
from numpy.typing import NDArray

from export.data.token_cache import VideoCache
from export.data.video_labels import VideoTruth
from export.training.data.photo_augmentation import relight

Image = NDArray[np.uint8]
VIEW_VERSION = 2
"""Version of the views that numbers stand for. 2: edges of crops are not dark."""
_EDGE = cv2.BORDER_REPLICATE
"""For pixels partly outside the picture: black ones would mark the edge of every crop."""
_MIN_SIDE = 0.85
_MIN_VISIBLE = 0.25
"""Minimum share of a box inside the view."""


@dataclass(frozen=True)
class ViewAugmentation:
    """A view: `left`, `top` and `side` of its visible part in shares of the picture; `light` seeds the change
    of colours, None leaves them."""

    mirrored: bool = False
    left: float = 0.0
    top: float = 0.0
    side: float = 1.0
    light: int | None = None

    def augment_frame(self, image: Image) -> Image:
        """Return the picture (H, W, 3) in this view."""
        height, width = image.shape[:2]
        if self.side < 1:
            # In floating point: a crop by whole pixels would move boxes by up to half a pixel.
            scale = np.array([[self.side, 0, self.left * width], [0, self.side, self.top * height]])
            scale[:, 2] += (self.side - 1) / 2  # centres of pixels, not corners
            how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image = np.asarray(
                cv2.warpAffine(image, scale, (width, height), flags=how, borderMode=_EDGE), np.uint8
            )
        if self.light is not None:
            image = relight(image, np.random.default_rng(self.light))
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image

    def augment_photos(self, photos: Sequence[Sequence[Image]]) -> list[list[Image]]:
        """Return photos of the products, mirrored if the view is; their light does not change."""
        if not self.mirrored:
            return [list(of_product) for of_product in photos]
        return [[np.ascontiguousarray(photo[:, ::-1]) for photo in of_product] for of_product in photos]

    def augment_truth(self, truth: VideoTruth) -> VideoTruth:
        """Return the events with the boxes (B, 4) of visible products.

        An event without any box (one of 400 in checkout worlds) still happened, like one behind a person's
        back.
        """
        box = (truth.box - np.array([self.left, self.top] * 2, np.float32)) / np.float32(self.side)
        if self.mirrored:
            box[:, [0, 2]] = 1 - box[:, [2, 0]]
        inside = np.clip(box, 0, 1)
        area, visible_area = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (box, inside))
        keep = visible_area >= _MIN_VISIBLE * area
        return replace(
            truth, box_event=truth.box_event[keep], box_tick=truth.box_tick[keep], box=inside[keep]
        )

    def augment_frames(self, frames: Iterator[tuple[float, Image]]) -> Iterator[tuple[float, Image]]:
        """Yield frames in this view with their times."""
        return ((t, self.augment_frame(image)) for t, image in frames)


ORIGINAL_VIEW = ViewAugmentation()


def describe_view(view: int, mirrored: bool = True) -> str:
    """Return the view's part of a cache key ("" as filmed); another text would lose existing caches."""
    if not view:
        return ""
    return f" showing {view} of looks {VIEW_VERSION}" + ("" if mirrored else ", none mirrored")


def make_view(video: str, view: int, mirrored: bool = True) -> ViewAugmentation:
    """Return view `view` of a video: 0 as filmed, others random, half of them mirrored if allowed."""
    if not view:
        return ORIGINAL_VIEW
    rng = np.random.default_rng([zlib.crc32(video.encode()), view, VIEW_VERSION])
    side = rng.uniform(_MIN_SIDE, 1)
    left, top = rng.uniform(0, 1 - side, 2)
    flip = bool(rng.integers(2))
    return ViewAugmentation(flip and mirrored, float(left), float(top), float(side), int(rng.integers(2**31)))


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
