"""Dense visual memory: all tokens of past clips, compressed. MeMViT (Wu et al. 2022), TinyMem's baseline.

B batch, l entries, t frames of an entry, d width, H heads, E = d / H, M memory tokens.

A depthwise 3-D convolution, kernel (7, 3, 3), stride (4, 2, 2), and a LayerNorm make few tokens of an entry's
many. It learns from the newest entry only and older ones come without gradient (MeMViT's pipelined
compression), so training costs no more for a longer memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.networks.attention import bias_of
from export.networks.memory_attention import Entries, MemoryKeys, Reach, frame_distances
from export.networks.positions import GRID

_KERNEL, _STRIDE, _PADDING = (7, 3, 3), (4, 2, 2), (3, 1, 1)


def dense_tokens(frames: int, side: int = GRID) -> int:
    """Tokens that an entry of `frames` pictures of side x side tokens becomes."""
    sizes = (frames, side, side)
    t, h, w = (
        (size + 2 * pad - kernel) // stride + 1
        for size, kernel, stride, pad in zip(sizes, _KERNEL, _STRIDE, _PADDING, strict=True)
    )
    return t * h * w


class Compression(nn.Module):
    """(B, l, t, 49, d) -> (B, l, tokens, d), one depthwise convolution for all entries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, _KERNEL, _STRIDE, _PADDING, groups=width, bias=False)

    def forward(self, entries: Tensor) -> Tensor:
        newest = self._of(entries[:, :1])
        if entries.shape[1] == 1:
            return newest
        with torch.no_grad():
            older = self._of(entries[:, 1:])
        return torch.cat([newest, older], 1)

    def _of(self, entries: Tensor) -> Tensor:
        batch, count, t, _, width = entries.shape
        volume = entries.reshape(batch * count, t, GRID, GRID, width).permute(0, 4, 1, 2, 3)
        small = self.conv(volume).flatten(2).transpose(1, 2)  # (B l, tokens, d)
        out: Tensor = small.reshape(batch, count, -1, width)
        return out


class DenseProjection(nn.Module):
    """Entries of all tokens to keys and values of one attention layer."""

    distance: Tensor

    def __init__(self, width: int, heads: int, reach: Reach) -> None:
        super().__init__()
        self.heads = heads
        self.keys, self.values = Compression(width), Compression(width)
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(torch.zeros(reach.distances, width // heads))
        nn.init.trunc_normal_(self.positions, std=0.02)
        distance = frame_distances(reach, dense_tokens(reach.frames), spread=False)
        self.register_buffer("distance", distance, persistent=False)  # (T, M)

    def forward(self, entries: Entries) -> MemoryKeys:
        """tokens (B, l, t, 49, d), valid (B, l)."""
        k, v = self.norm(self.keys(entries.tokens)), self.norm(self.values(entries.tokens))
        bias = bias_of(entries.valid)[..., None].expand(-1, -1, k.shape[2]).flatten(1)  # (B, M)
        return MemoryKeys(self._heads(k), self._heads(v), bias, self.positions, self.distance)

    def _heads(self, x: Tensor) -> Tensor:
        batch, count, tokens, width = x.shape
        split = x.reshape(batch, count * tokens, self.heads, width // self.heads)
        return split.transpose(1, 2)  # (B, H, M, E)
