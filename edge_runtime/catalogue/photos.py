"""Prepare photos for the catalogue: cropped, limited in size, and as a JPEG without metadata."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_runtime.imaging.jpeg import Image, encode_jpeg, shrink
from edge_runtime.system.errors import QueryError

MAX_SIDE_PX = 1024
"""The backbone needs only a fraction of this; the rest is for people."""
MIN_SIDE_PX = 8
_QUALITY = 95
MAX_PHOTOS = 16
"""Per product, and per question."""


def crop_image(image: Image, box: Sequence[float]) -> Image:
    """Return the part of `image` (H, W, 3) in `box`, xyxy in 0..1; at least one pixel wide and high."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    left, top = int(x1 * width), int(y1 * height)
    right, bottom = max(left + 1, round(x2 * width)), max(top + 1, round(y2 * height))
    return np.ascontiguousarray(image[top:bottom, left:right])


def encode_photo(image: Image) -> bytes:
    """Return `image` (H, W, 3) RGB as a JPEG without metadata, its longer side at most 1024 pixels.

    Raises QueryError if it is too small.
    """
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise QueryError(
            f"a photo must be at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels, got {width} x {height}; "
            "take a larger one or a larger box"
        )
    return encode_jpeg(shrink(image, MAX_SIDE_PX, shortest_px=MIN_SIDE_PX), _QUALITY)
