"""A video as another camera would have shown it: mirrored, a little nearer, in another light.

LVM-Net augments each clip with a probability of its own, which a memory cannot bear: what it keeps of one
clip would be of another camera than the next. So a look is of a whole video, and what is asked with goes with
it: a mirrored product is another one, unless its photo is mirrored too.

Letters: H, W, S picture sides, B boxes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from export.data.video_labels import VideoTruth
from export.training.data.photo_augmentation import relit

Image = NDArray[np.uint8]
LOOKS = 2
"""Version of what a number stands for. 2: edges of crops are not dark."""
_EDGE = cv2.BORDER_REPLICATE
"""Pixels half beyond the picture: black ones would mark every crop at its edge."""
_LEAST_SIDE = 0.85
_LEAST_SEEN = 0.25
"""Share of a box that must be left in sight."""


@dataclass(frozen=True)
class Look:
    """`left`, `top` and `side` of what is in sight, in shares of the picture; `light` seeds its colours, None
    leaves them."""

    mirrored: bool = False
    left: float = 0.0
    top: float = 0.0
    side: float = 1.0
    light: int | None = None

    def frame(self, image: Image) -> Image:
        """(H, W, 3) as it is then."""
        height, width = image.shape[:2]
        if self.side < 1:
            # In floating point: a crop by whole pixels would move boxes by up to half of one.
            scale = np.array([[self.side, 0, self.left * width], [0, self.side, self.top * height]])
            scale[:, 2] += (self.side - 1) / 2  # centres of pixels, not corners
            how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image = np.asarray(
                cv2.warpAffine(image, scale, (width, height), flags=how, borderMode=_EDGE), np.uint8
            )
        if self.light is not None:
            image = relit(image, np.random.default_rng(self.light))
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image

    def photos(self, photos: Sequence[Sequence[Image]]) -> list[list[Image]]:
        """Of the same products. Their light is the photographer's."""
        if not self.mirrored:
            return [list(views) for views in photos]
        return [[np.ascontiguousarray(photo[:, ::-1]) for photo in views] for views in photos]

    def truth(self, truth: VideoTruth) -> VideoTruth:
        """The same events, with boxes (B, 4) where the product is in sight.

        An event that has none left (one of 400 in checkout worlds) has still happened, as one behind a back.
        """
        box = (truth.box - np.array([self.left, self.top] * 2, np.float32)) / np.float32(self.side)
        if self.mirrored:
            box[:, [0, 2]] = 1 - box[:, [2, 0]]
        inside = np.clip(box, 0, 1)
        whole, seen = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (box, inside))
        there = seen >= _LEAST_SEEN * whole
        return replace(
            truth, box_event=truth.box_event[there], box_tick=truth.box_tick[there], box=inside[there]
        )

    def frames(self, frames: Iterator[tuple[float, Image]]) -> Iterator[tuple[float, Image]]:
        """Frames with their times."""
        return ((t, self.frame(image)) for t, image in frames)


AS_FILMED = Look()


def said_of(showing: int, mirrored: bool = True) -> str:
    """What tells the tokens of a showing from those of others; nothing as filmed."""
    return f" showing {showing} of looks {LOOKS}{'' if mirrored else ', none mirrored'}" if showing else ""


def look_of(video: str, showing: int, mirrored: bool = True) -> Look:
    """Showing 0 is as filmed, every other one of a video has a look of its own; half of them are mirrored,
    unless they may not be."""
    if not showing:
        return AS_FILMED
    rng = np.random.default_rng([zlib.crc32(video.encode()), showing, LOOKS])
    side = rng.uniform(_LEAST_SIDE, 1)
    left, top = rng.uniform(0, 1 - side, 2)
    turned = bool(rng.integers(2))
    return Look(turned and mirrored, float(left), float(top), float(side), int(rng.integers(2**31)))
