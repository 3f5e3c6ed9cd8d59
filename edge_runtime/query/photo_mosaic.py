"""Put a product's photo at three sizes into one picture for the backbone.

On a photo a product fills the picture; in a hand before the camera it fills a cell or two of 7 × 7. A network
of a few convolutions does not connect the two; at the sizes at which products occur in frames it does. Tokens
of the copies are pooled like those of one photo.

Letters: H, W photo, S side of the network's input.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.network_config import NetworkConfig

Image = NDArray[np.uint8]

_PARTS = 7
"""The picture's sides are divided into so many parts, each a cell or several."""
_COPIES: tuple[tuple[int, int, int], ...] = (
    (0, 0, 3),
    (4, 0, 3),
    *((row, column, 2) for row in (0, 2, 4) for column in (3, 5)),
    *((3, column, 1) for column in range(3)),
    *((6, column, 1) for column in range(3, 7)),
)
"""Row, column and side of each copy, in these parts; together they cover the picture.

Half of the tokens see copies of two cells, where a product is as large as in a hand at the counter.
"""
WHOLE = 5
"""Side in parts of the largest copy for networks that know the appearance of any picture; it is top left.

Of 70 panned photos, asked with crops of 35 to 60 %, the right one came first in 0.59 with a copy of 5 cells,
0.57 with 4, 0.54 with 3 and 0.55 with the whole picture.
"""
_COPIES_WITH_WHOLE = (
    (0, 0, WHOLE),
    *((row, 5, 2) for row in (0, 2, 4)),
    *((5, column, 2) for column in (0, 2)),
    *((row, 4, 1) for row in (5, 6)),
    *((6, column, 1) for column in (5, 6)),
)


def make_mosaic(photo: Image, network: NetworkConfig) -> Image:
    """Return the picture (S, S, 3) that shows a question's photo (H, W, 3) to the backbone of `network`."""
    return mosaic(photo, network.image_size, whole=network.appearance > 0)


def mosaic(photo: Image, size: int, *, whole: bool = False) -> Image:
    """Return (S, S, 3) with `photo` (H, W, 3), squashed to a square, at sides of 3, 2 and 1 cells, or with
    `whole` of 5, 2 and 1."""
    out = np.empty((size, size, 3), np.uint8)
    edges = np.rint(np.arange(_PARTS + 1) * size / _PARTS).astype(int)
    for row, column, cells in _COPIES_WITH_WHOLE if whole else _COPIES:
        top, bottom = edges[row], edges[row + cells]
        left, right = edges[column], edges[column + cells]
        out[top:bottom, left:right] = cv2.resize(
            photo, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA
        )
    return out


def take_whole(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the tokens (p, d) of the largest copy, of those of a mosaic (P, d); 25 of 49."""
    return tokens[find_whole(math.isqrt(len(tokens)))]


def find_whole(grid: int) -> NDArray[np.int64]:
    """Return the indices (p,) of the largest copy's cells among those of a mosaic of grid × grid cells."""
    side = WHOLE * grid // _PARTS
    return np.arange(grid * grid).reshape(grid, grid)[:side, :side].reshape(-1)
