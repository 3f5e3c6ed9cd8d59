"""Put a product's photo at three sizes into one picture for the backbone.

On a photo a product fills the picture; in a hand before the camera it fills a cell or two of 7 × 7. A network
of a few convolutions does not connect the two; at the sizes at which products occur in frames it does. Tokens
of the copies are pooled like those of one photo.

Letters: H, W photo, S side of the network's input.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_CELLS = 7
_COPIES = (
    (0, 0, 3),
    (4, 0, 3),
    *((row, column, 2) for row in (0, 2, 4) for column in (3, 5)),
    *((3, column, 1) for column in range(3)),
    *((6, column, 1) for column in range(3, 7)),
)
"""Row, column and side of each copy, in cells; together they cover the picture.

Half of the tokens see copies of two cells, where a product is as large as in a hand at the counter.
"""


def mosaic(photo: Image, size: int) -> Image:
    """Return (S, S, 3) with `photo` (H, W, 3), squashed to a square, at sides of 3, 2 and 1 cells."""
    out = np.empty((size, size, 3), np.uint8)
    edges = np.rint(np.arange(_CELLS + 1) * size / _CELLS).astype(int)
    for row, column, cells in _COPIES:
        top, bottom = edges[row], edges[row + cells]
        left, right = edges[column], edges[column + cells]
        out[top:bottom, left:right] = cv2.resize(
            photo, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA
        )
    return out
