"""Attention to a feature bank: the long-term memory of LFB, and the first equation of MeMSVD.

Letters: n clips of a video, B clips that are asked for, R regions, N rows of the bank, d width, u inner
width.

    h + softmax(h W_q (M W_k)ᵀ / √u) M W_v W_o

with LayerNorm and ReLU before W_o and dropout after it, as LFB's non-local block has them. Two such layers.
What was seen before a clip is read from the whole video: the rows of the newest regions, or of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.networks.attention import make_key_bias
from export.papers.detection.clips import Index, RegionVideo
from export.papers.detection.head import MemoryPart, ReadPast

MakeRows = Callable[[RegionVideo], ReadPast]


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


def make_newest_rows(count: int = 183) -> MakeRows:
    """Return the online bank: `count` rows, first in, first out. 183 are 61 s of three regions a second."""
    return lambda video: NewestRows(video, count)


def make_window_rows(seconds: float) -> MakeRows:
    """Return the bank of a window of the past."""
    return lambda video: WindowRows(video, seconds)


class BankLayer(nn.Module):
    """One layer of attention to the bank; gives what is added to the regions."""

    def __init__(self, width: int, inner: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.norm = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)
        # As in LFB: training starts from the head without memory.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, regions: Tensor, past: Rows) -> Tensor:
        """Attend from regions (B, R, d) to the bank, (B, R, d).

        The papers project all rows to keys and values; the few regions are projected here, which is the same.
        """
        sought = self.query(regions) @ self.key.weight  # (B, R, d)
        scores = sought @ past.rows.transpose(1, 2) * float(self.query.out_features) ** -0.5  # (B, R, N)
        mean = torch.softmax(scores + make_key_bias(past.valid)[:, None], dim=-1) @ past.rows  # (B, R, d)
        added: Tensor = self.dropout(self.out(functional.relu(self.norm(self.value(mean)))))
        # An empty bank adds nothing.
        return added * past.valid.any(dim=1)[:, None, None]


class BankAttention(MemoryPart):
    """Layers of attention to one bank. `inner` is the width of queries, keys and values (default d)."""

    def __init__(self, width: int, rows_of: MakeRows, layers: int = 2, inner: int | None = None) -> None:
        super().__init__()
        self.rows_of = rows_of
        self.layers = nn.ModuleList(BankLayer(width, inner or width) for _ in range(layers))

    def watch(self, video: RegionVideo) -> ReadPast:
        return self.rows_of(video)

    def forward(self, regions: Tensor, valid: Tensor, past: Rows) -> Tensor:
        h = regions
        for layer in self.layers:
            h = h + layer(h, past)
        return h - regions
