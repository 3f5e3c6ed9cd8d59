"""Read what was seen before a clip from a whole video: the rows of the newest regions, or of a window.

Letters: n clips of the video, B clips that are asked for, R regions, N rows, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from export.papers.detection.clips import Index, RegionVideo


class Rows(NamedTuple):
    """Remembered rows (B, N, d), zero where `valid` (B, N) is false."""

    rows: Tensor
    valid: Tensor


class NewestRows:
    """Reads the newest `count` region rows before a clip: a first-in, first-out bank."""

    def __init__(self, video: RegionVideo, count: int) -> None:
        self._count = count
        clip, region = np.nonzero(video.valid)  # (M,) each, by time
        self._first = np.searchsorted(clip, np.arange(len(video) + 1))  # rows before each clip
        # One row of zeros at the end is what an index of -1 finds.
        width = video.features.shape[-1]
        self._rows = np.concatenate([video.features[clip, region], np.zeros((1, width), np.float32)])

    def __call__(self, clips: Index) -> Rows:
        place = self._first[clips][:, None] - self._count + np.arange(self._count)  # (B, N)
        valid = place >= 0
        place = np.where(valid, place, -1)
        return _to_rows(self._rows[place], valid)


class WindowRows:
    """Reads the region rows of the `seconds` before a clip, without the clip itself."""

    def __init__(self, video: RegionVideo, seconds: float) -> None:
        self._video = video
        self._steps = count_clips(video, seconds)

    def __call__(self, clips: Index) -> Rows:
        video = self._video
        at = clips[:, None] - self._steps + np.arange(self._steps)  # (B, W)
        there = at >= 0
        at = np.maximum(at, 0)
        valid = video.valid[at] & there[..., None]  # (B, W, R)
        rows = np.where(valid[..., None], video.features[at], 0)
        flat = len(clips), -1
        return _to_rows(rows.reshape(*flat, rows.shape[-1]), valid.reshape(flat))


def count_clips(video: RegionVideo, seconds: float) -> int:
    """Return how many clips of a video a window has, at least 1."""
    return max(1, round(seconds / max(video.seconds, 1e-9)))


def _to_rows(rows: np.ndarray, valid: np.ndarray) -> Rows:
    return Rows(torch.from_numpy(rows), torch.from_numpy(valid))
