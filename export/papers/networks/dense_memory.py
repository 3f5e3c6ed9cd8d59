"""Dense visual memory: all tokens of past clips, compressed. MeMViT (Wu et al. 2022), TinyMem's baseline.

B batch, l entries, t frames of an entry, d width, H heads, E = d / H, M memory tokens.

A depthwise 3-D convolution, kernel (7, 3, 3), stride (4, 2, 2), and a LayerNorm make few tokens of an entry's
many. Pipelined (MeMViT's), it learns from the newest entry only and older ones come without gradient, so
training costs no more for a longer memory; otherwise it learns from all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.network_config import GRID
from export.networks.attention import make_key_bias
from export.papers.networks.memory_attention import Entries, MemoryKeys, Reach, make_frame_distances

_KERNEL, _STRIDE, _PADDING = (7, 3, 3), (4, 2, 2), (3, 1, 1)


def count_dense_tokens(frames: int, side: int = GRID) -> int:
    """Return how many tokens an entry of `frames` pictures of side x side tokens becomes."""
    sizes = (frames, side, side)
    t, h, w = (
        (size + 2 * pad - kernel) // stride + 1
        for size, kernel, stride, pad in zip(sizes, _KERNEL, _STRIDE, _PADDING, strict=True)
    )
    return t * h * w


class Compression(nn.Module):
    """Compresses (B, l, t, 49, d) to (B, l, tokens, d), by one depthwise convolution for all entries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, _KERNEL, _STRIDE, _PADDING, groups=width, bias=False)
        with torch.no_grad():  # the mean of neighbours, before anything is learned
            self.conv.weight.fill_(1 / math.prod(_KERNEL))

    def forward(self, entries: Tensor) -> Tensor:
        return compress([self], entries)[0]


def compress(compressions: Sequence[Compression], entries: Tensor, *, pipelined: bool = True) -> list[Tensor]:
    """Compress entries (B, l, t, 49, d) by each of `compressions`: (B, l, tokens, d).

    If `pipelined`, only the newest entry carries a gradient.
    """
    if not pipelined:
        return _convolve(compressions, entries)
    newest = _convolve(compressions, entries[:, :1])
    if entries.shape[1] == 1:
        return newest
    with torch.no_grad():
        older = _convolve(compressions, entries[:, 1:])
    return [torch.cat(pair, 1) for pair in zip(newest, older, strict=True)]


def _convolve(compressions: Sequence[Compression], entries: Tensor) -> list[Tensor]:
    """Convolve by one matrix a channel, from all cells to all tokens: on a CPU a few times as fast as torch's
    own convolution of single channels, forward and backward."""
    batch, count, t, cells, width = entries.shape
    # Not stored as a tensor: a tensor made in inference mode could not be used in training later.
    places = torch.from_numpy(_find_kernel_places(t)).to(entries.device)
    matrices = []
    for compression in compressions:
        weight = compression.conv.weight.flatten(1)
        outside = weight.new_zeros(width, 1)
        matrices.append(torch.cat([weight, outside], 1)[:, places])  # (d, t 49, tokens)
    rows = entries.reshape(batch * count, t * cells, width).permute(2, 0, 1)  # (d, B l, t 49)
    small = (rows @ torch.cat(matrices, 2)).permute(1, 2, 0)  # (B l, tokens of all, d)
    shape = batch, count, places.shape[1], width
    return [part.reshape(shape) for part in small.chunk(len(compressions), 1)]


@lru_cache(maxsize=8)
def _find_kernel_places(t: int) -> NDArray[np.int64]:
    """Return the place in the flat kernel of each cell of t pictures, for each token; -1 outside. (t 49,
    tokens)"""
    places = []
    for size, kernel, stride, pad in zip((t, GRID, GRID), _KERNEL, _STRIDE, _PADDING, strict=True):
        token = np.arange((size + 2 * pad - kernel) // stride + 1)
        place = np.arange(size)[:, None] + pad - stride * token  # (size, tokens of this axis)
        places.append(np.where((place >= 0) & (place < kernel), place, -math.prod(_KERNEL)))
    frame, row, column = places
    line = frame[:, None, None, :, None, None] * _KERNEL[1] + row[:, None, None, :, None]
    flat = line * _KERNEL[2] + column[:, None, None, :]  # (t, 7, 7, tokens of each axis)
    return np.asarray(np.maximum(flat, -1).reshape(t * GRID * GRID, -1))


class DenseProjection(nn.Module):
    """Projects entries of all tokens to keys and values of one attention layer."""

    distance: Tensor

    def __init__(self, width: int, heads: int, reach: Reach, *, pipelined: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.pipelined = pipelined
        self.keys, self.values = Compression(width), Compression(width)
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(torch.zeros(reach.distances, width // heads))
        nn.init.trunc_normal_(self.positions, std=0.02)
        distance = make_frame_distances(reach, count_dense_tokens(reach.frames), spread=False)
        self.register_buffer("distance", distance, persistent=False)  # (T, M)

    def forward(self, entries: Entries) -> MemoryKeys:
        """Project tokens (B, l, t, 49, d), valid (B, l)."""
        keys, values = compress([self.keys, self.values], entries.tokens, pipelined=self.pipelined)
        k, v = self.norm(keys), self.norm(values)
        bias = make_key_bias(entries.valid)[..., None].expand(-1, -1, k.shape[2]).flatten(1)  # (B, M)
        return MemoryKeys(self._heads(k), self._heads(v), bias, self.positions, self.distance)

    def _heads(self, x: Tensor) -> Tensor:
        batch, count, tokens, width = x.shape
        split = x.reshape(batch, count * tokens, self.heads, width // self.heads)
        return split.transpose(1, 2)  # (B, H, M, E)
