"""Shrink a picture to a longest side and encode it as JPEG: for the page, thumbnails and the catalogue."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB, (H, W, 3)."""


def shrink(image: Image, longest_px: float, *, shortest_px: int = 1) -> Image:
    """Return `image` with its longer side at most `longest_px`; the image itself where it already is.

    No side becomes shorter than `shortest_px`.
    """
    height, width = image.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return image
    size = (max(shortest_px, round(width * scale)), max(shortest_px, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def encode_jpeg(image: Image, quality: int = 80) -> bytes:
    """Return `image` as a JPEG without metadata."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done, "OpenCV encodes every uint8 picture"
    return data.tobytes()
