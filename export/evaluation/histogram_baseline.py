"""What can be found without learning to: colour histograms and raw backbone features, matched frame by frame.

Letters: F frames, W windows, G = 7 cells a side, d width of a feature, B bins, Q questions, n tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from export.networks.positions import GRID

Real = NDArray[np.float32]
Image = NDArray[np.uint8]

_HUES, _SATURATIONS, _VALUES = 12, 4, 4
BINS = _HUES * _SATURATIONS * _VALUES
_MIDDLE = 0.75
"""Share of a photo's sides whose colours count: people put the product in the middle."""
_FRAMES_AT_ONCE = 64


def cell_histograms(image: Image) -> Real:
    """How many pixels of each colour (hue, saturation, value) each cell of (S, S, 3) RGB has. (49, B)"""
    code, size = _colour_codes(image), image.shape[0]
    cell = np.arange(size) * GRID // size
    flat = (cell[:, None] * GRID + cell[None]) * BINS + code
    counts = np.bincount(flat.ravel(), minlength=GRID * GRID * BINS)
    return np.asarray(counts.reshape(GRID * GRID, BINS), np.float32)


def photo_histogram(photos: Sequence[Image]) -> Real:
    """Mean colour histogram of the middles of photos (H, W, 3), ready for `histogram_scores`. (B,)"""
    found = [np.bincount(_colour_codes(_middle(one)).ravel(), minlength=BINS) for one in photos]
    mean = np.mean([counts / counts.sum() for counts in found], axis=0)
    return np.asarray(np.sqrt(mean), np.float32)


def histogram_scores(cells: Real, wanted: Real) -> Real:
    """Best Bhattacharyya coefficient of each of `wanted` (Q, B) with any window of a frame.

    cells (F, 49, B) -> (Q, F)
    """
    return _best_windows(cells, wanted, lambda sums: np.sqrt(sums / sums.sum(axis=-1, keepdims=True)))


def window_scores(cells: Real, wanted: Real) -> Real:
    """Best cosine of each of `wanted` (Q, d) with the mean of any window of a frame: (F, 49, d) -> (Q, F)."""
    return _best_windows(cells, unit(wanted), unit)


def token_scores(tokens: Real, wanted: Real) -> Real:
    """Cosine of each of `wanted` (Q, d) with each of `tokens` (n, d). (Q, n)"""
    return np.asarray(unit(wanted) @ unit(tokens).T, np.float32)


def pooled(photo_tokens: Sequence[Real]) -> Real:
    """One vector for several photos' tokens (49, d): the mean of their directions. (d,)"""
    return np.asarray(np.mean([unit(tokens.mean(axis=0)) for tokens in photo_tokens], axis=0), np.float32)


def unit(x: Real) -> Real:
    """`x` with length 1 along its last axis."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9), np.float32)


def window_sums(cells: Real) -> Real:
    """Sums over all square windows of 1 to 7 cells a side: (F, 49, d) -> (F, W, d), W = 140."""
    grid = cells.reshape(len(cells), GRID, GRID, -1)
    total = np.zeros((len(cells), GRID + 1, GRID + 1, grid.shape[-1]), np.float64)
    total[:, 1:, 1:] = grid.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    sums = []
    for side in range(1, GRID + 1):
        window = total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side]
        window += total[:, :-side, :-side]
        sums.append(window.reshape(len(cells), -1, grid.shape[-1]))
    return np.concatenate(sums, axis=1).astype(np.float32)


def _best_windows(cells: Real, wanted: Real, normalised: Callable[[Real], Real]) -> Real:
    best = np.empty((len(wanted), len(cells)), np.float32)
    for start in range(0, len(cells), _FRAMES_AT_ONCE):
        some = slice(start, start + _FRAMES_AT_ONCE)
        windows = normalised(window_sums(cells[some]))  # (f, W, d)
        similar = windows.reshape(-1, windows.shape[-1]) @ wanted.T  # (f * W, Q)
        best[:, some] = similar.reshape(len(windows), -1, len(wanted)).max(axis=1).T
    return best


def _colour_codes(image: Image) -> NDArray[np.intp]:
    """The bin of each pixel. (H, W)"""
    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV_FULL).astype(np.intp)
    # Pure red, green and blue lie in the middle of a bin, not on its edge.
    hue = (hsv[..., 0] * _HUES + 128) // 256 % _HUES
    saturation, value = hsv[..., 1] * _SATURATIONS // 256, hsv[..., 2] * _VALUES // 256
    return np.asarray((hue * _SATURATIONS + saturation) * _VALUES + value)


def _middle(photo: Image) -> Image:
    height, width = photo.shape[:2]
    y, x = round(height * (1 - _MIDDLE) / 2), round(width * (1 - _MIDDLE) / 2)
    return photo[y : height - y, x : width - x]
