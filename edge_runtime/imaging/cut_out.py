"""Cut the product out of a photograph, along its outline.

Letters: H, W photograph; S side of a square.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_SIDE_PX = 96
"""GrabCut runs on a photograph of at most this size: about 40 ms."""
_ROUNDS = 2
_BORDER = 0.04
_CERTAIN = 0.25
_MIN_SHARE, _MAX_SHARE = 0.08, 0.85
"""Of the photograph. Outside it was not the product that was found."""
_MIN_FILL = 0.35
"""Of its bounding box: less is a scatter of pieces."""


def outline_product(photo: Image) -> Image | None:
    """Return the opacity (H, W) of the product in the middle of `photo` (H, W, 3) RGB, with a soft edge.

    None where nothing stands out from what is around it. GrabCut (Rother, Kolmogorov and Blake 2004); the
    middle is the product, the border is not, what lies between is decided by colour. A hand that holds the
    product often comes along.
    """
    height, width = photo.shape[:2]
    shrunk = min(1.0, _SIDE_PX / max(height, width))
    size = max(round(width * shrunk), 8), max(round(height * shrunk), 8)
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    labels = _guess_labels(size[1], size[0])
    cv2.setRNGSeed(0)  # GrabCut draws the start of its clusters: equal photographs have equal outlines
    try:
        before, after = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, labels, (0, 0, 0, 0), before, after, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return None  # too few colours for its clusters: one colour has no outline
    found = np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), np.uint8)
    found = np.asarray(cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(found, connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    area = statistics[largest, cv2.CC_STAT_AREA]
    box = statistics[largest, cv2.CC_STAT_WIDTH] * statistics[largest, cv2.CC_STAT_HEIGHT]
    if not _MIN_SHARE <= area / found.size <= _MAX_SHARE or area / box < _MIN_FILL:
        return None
    piece = np.asarray(pieces == largest, np.uint8)
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(piece, outlines, -1, 255, cv2.FILLED)  # without holes
    soft = cv2.GaussianBlur(cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR), (0, 0), 1.0)
    # Hardly visible pixels must not count as product.
    return np.where(soft < 32, 0, soft).astype(np.uint8)


def find_extent(mask: Image) -> tuple[slice, slice]:
    """Return the rows and columns of a mask (H, W) that hold all that is not zero; something must be."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def cut_square(photo: Image, mask: Image) -> Image:
    """Return (S, S, 4) RGBA, as large as the longer side of the mask (H, W), which is in its middle."""
    rows, columns = find_extent(mask)
    rgba = np.dstack([photo[rows, columns], mask[rows, columns]])
    height, width = rgba.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 4), np.uint8)
    square[top : top + height, left : left + width] = rgba
    return square


def _guess_labels(height: int, width: int) -> Image:
    """Return GrabCut's labels (H, W): the middle for sure, an oval around it perhaps, never the border."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot((x + 0.5) / width * 2 - 1, (y + 0.5) / height * 2 - 1)
    labels = np.where(radius < 1, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[radius < _CERTAIN] = cv2.GC_FGD
    border = max(round(_BORDER * min(height, width)), 2)
    labels[:border] = labels[-border:] = cv2.GC_BGD
    labels[:, :border] = labels[:, -border:] = cv2.GC_BGD
    return labels
