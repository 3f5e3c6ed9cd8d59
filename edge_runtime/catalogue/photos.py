"""A photo as the catalogue keeps it: upright, cropped, of a bounded size, nothing in the file but pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.queries import QueryError

Image = NDArray[np.uint8]

MAX_SIDE_PX = 1024
"""The backbone sees a product at a fraction of this; the rest is for people."""
MIN_SIDE_PX = 8
_QUALITY = 95


def cut_out(image: Image, box: Sequence[float]) -> Image:
    """The part of `image` (H, W, 3) in `box`, xyxy in 0..1; at least one pixel, however thin the box."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    left, top = int(x1 * width), int(y1 * height)
    right, bottom = max(left + 1, round(x2 * width)), max(top + 1, round(y2 * height))
    return np.ascontiguousarray(image[top:bottom, left:right])


def encoded(image: Image) -> bytes:
    """`image` (H, W, 3) RGB as a JPEG without metadata, its longer side at most 1024 pixels.

    Raises QueryError for one that is too small to show anything.
    """
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise QueryError(
            f"a photo must be at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels, got {width} x {height}; "
            "take a larger one or a larger box"
        )
    scale = MAX_SIDE_PX / max(height, width)
    if scale < 1:
        size = (max(MIN_SIDE_PX, round(width * scale)), max(MIN_SIDE_PX, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done, "an array of pixels can always be encoded"
    return bytes(data)
