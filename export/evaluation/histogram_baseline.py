"""Baselines without learning: colour histograms and raw backbone features, matched frame by frame.

Letters: F frames, W windows, G = 7 cells a side, d width of a feature, B bins, Q questions, n tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.network_config import GRID

Real = NDArray[np.float32]
Image = NDArray[np.uint8]

_HUES, _SATURATIONS, _VALUES = 12, 4, 4
BINS = _HUES * _SATURATIONS * _VALUES
_MIDDLE = 0.75
"""Share of a photo's sides whose colours count: people put the product in the middle."""
_BATCH_FRAMES = 64


def make_cell_histograms(image: Image) -> Real:
    """Count the pixels of each colour (hue, saturation, value) in each cell of (S, S, 3) RGB. (49, B)"""
    code, size = _encode_colours(image), image.shape[0]
    cell = np.arange(size) * GRID // size
    flat = (cell[:, None] * GRID + cell[None]) * BINS + code
    counts = np.bincount(flat.ravel(), minlength=GRID * GRID * BINS)
    return np.asarray(counts.reshape(GRID * GRID, BINS), np.float32)


def make_photo_histogram(photos: Sequence[Image]) -> Real:
    """Return the mean colour histogram of the middles of photos (H, W, 3), ready for
    `score_histograms`. (B,)"""
    histograms = [
        np.bincount(_encode_colours(_cut_middle(photo)).ravel(), minlength=BINS) for photo in photos
    ]
    mean = np.mean([counts / counts.sum() for counts in histograms], axis=0)
    return np.asarray(np.sqrt(mean), np.float32)


def score_histograms(cells: Real, queries: Real) -> Real:
    """Return the best Bhattacharyya coefficient of each of `queries` (Q, B) with any window of a frame.

    cells (F, 49, B) -> (Q, F)
    """
    return _score_best_windows(cells, queries, lambda sums: np.sqrt(sums / sums.sum(axis=-1, keepdims=True)))


def score_windows(cells: Real, queries: Real) -> Real:
    """Return the best cosine of each of `queries` (Q, d) with the mean of any window of a frame: (F, 49, d)
    -> (Q, F)."""
    return _score_best_windows(cells, normalise(queries), normalise)


def score_tokens(tokens: Real, queries: Real) -> Real:
    """Return the cosine of each of `queries` (Q, d) with each of `tokens` (n, d). (Q, n)"""
    return np.asarray(normalise(queries) @ normalise(tokens).T, np.float32)


def pool_photos(photo_tokens: Sequence[Real]) -> Real:
    """Pool several photos' tokens (49, d) into a vector: the mean of their directions. (d,)"""
    return np.asarray(
        np.mean([normalise(tokens.mean(axis=0)) for tokens in photo_tokens], axis=0), np.float32
    )


def normalise(x: Real) -> Real:
    """Scale `x` to length 1 along its last axis."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9), np.float32)


def sum_windows(cells: Real) -> Real:
    """Sum over all square windows of 1 to 7 cells a side: (F, 49, d) -> (F, W, d), W = 140."""
    grid = cells.reshape(len(cells), GRID, GRID, -1)
    total = np.zeros((len(cells), GRID + 1, GRID + 1, grid.shape[-1]), np.float64)
    total[:, 1:, 1:] = grid.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    sums = []
    for side in range(1, GRID + 1):
        window = total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side]
        window += total[:, :-side, :-side]
        sums.append(window.reshape(len(cells), -1, grid.shape[-1]))
    return np.concatenate(sums, axis=1).astype(np.float32)


def _score_best_windows(cells: Real, queries: Real, normalised: Callable[[Real], Real]) -> Real:
    best = np.empty((len(queries), len(cells)), np.float32)
    for start in range(0, len(cells), _BATCH_FRAMES):
        some = slice(start, start + _BATCH_FRAMES)
        windows = normalised(sum_windows(cells[some]))  # (f, W, d)
        similar = windows.reshape(-1, windows.shape[-1]) @ queries.T  # (f * W, Q)
        best[:, some] = similar.reshape(len(windows), -1, len(queries)).max(axis=1).T
    return best


def _encode_colours(image: Image) -> NDArray[np.intp]:
    """Return the bin of each pixel. (H, W)"""
    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV_FULL).astype(np.intp)
    # Pure red, green and blue lie in the middle of a bin, not on its edge.
    hue = (hsv[..., 0] * _HUES + 128) // 256 % _HUES
    saturation, value = hsv[..., 1] * _SATURATIONS // 256, hsv[..., 2] * _VALUES // 256
    return np.asarray((hue * _SATURATIONS + saturation) * _VALUES + value)


def _cut_middle(photo: Image) -> Image:
    height, width = photo.shape[:2]
    y, x = round(height * (1 - _MIDDLE) / 2), round(width * (1 - _MIDDLE) / 2)
    return photo[y : height - y, x : width - x]
