"""Run video transformers layer by layer, so that a memory can be put into their attention.

B batch, N = t h w tokens of the clip (and a class token), R region tokens at the end of them, d width,
H heads, E = d / H.

A trunk leaves the network that it walks through as it is: the same parameters under the same names, the same
operators in the same order. Without a memory it computes what the network computes, to the last bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.papers.networks.memory_attention import MemoryKeys, attend, score_memory

Grid = tuple[int, int, int]


class Clip(NamedTuple):
    """Tokens on their way through the layers."""

    x: Tensor  # (B, c + N + R, d); c class tokens
    grid: Grid  # t, h, w of the N
    regions: int = 0  # R

    @property
    def own(self) -> Tensor:
        """The tokens without the region tokens."""
        return self.x[:, : self.x.shape[1] - self.regions]

    @property
    def region_tokens(self) -> Tensor:
        """(B, R, d)"""
        return self.x[:, self.x.shape[1] - self.regions :]


class Trunk(Protocol):
    """What a memory needs from a video transformer."""

    depth: int
    frames: int  # T of a clip, in steps of the patch embedding

    def width(self, layer: int) -> int:
        """Return the width of keys and values of a layer."""

    def out_width(self, layer: int) -> int:
        """Return the width of the tokens that a layer gives."""

    def in_width(self) -> int:
        """Return the width of the tokens before the first layer."""

    def heads(self, layer: int) -> int: ...

    def begin(self, video: Tensor) -> Clip:
        """Make the patches of a clip with their positions."""

    def layer(self, number: int, clip: Clip, memory: MemoryKeys | None) -> Clip:
        """Run one layer; with `memory` its attention reads that, too."""

    def finish(self, clip: Clip) -> Tensor:
        """Return the network's logits of the clip, (B, C)."""


def find_query_frames(
    count: int, classes: int, grid: Grid, regions: int, frames: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the frame (Q,) of each query and whether it is in a frame (Q,): class and region
    tokens are not."""
    own = count - classes - regions
    t = torch.arange(grid[0], device=device).repeat_interleave(own // grid[0]) * frames // grid[0]
    none = torch.full((1,), frames - 1, device=device)
    placed = torch.ones(own, dtype=torch.bool, device=device)
    no = placed.new_zeros(1)
    return (
        torch.cat([none.expand(classes), t, none.expand(regions)]),
        torch.cat([no.expand(classes), placed, no.expand(regions)]),
    )


# -- a plain ViT -------------------------------------------------------------------------------------------


class PlainAttention(nn.Module):
    """VideoMAE's attention: one matrix for queries, keys and values, biases for queries and values only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, grid: Grid, regions: int, frames: int, memory: MemoryKeys | None) -> Tensor:
        """Attend from x (B, N + R, d), of the same shape."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = functional.linear(x, self.qkv.weight, bias).reshape(*x.shape[:2], 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, N, E) each
        scale = q.shape[-1] ** -0.5
        scores, of_memory = (scale * q) @ k.transpose(-1, -2), None
        if memory is not None:
            where = find_query_frames(x.shape[1], 0, grid, regions, frames, x.device)
            of_memory = score_memory(q, *where, memory, scale)
        seen = attend(scores, v, of_memory, memory, regions).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(seen)
        return out


class PlainBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = PlainAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, int(width * ratio)), "fc2": nn.Linear(int(width * ratio), width)}
        )

    def forward(self, x: Tensor, grid: Grid, regions: int, frames: int, memory: MemoryKeys | None) -> Tensor:
        x = x + self.attn(self.norm1(x), grid, regions, frames, memory)
        out: Tensor = x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return out


class _Patches(nn.Module):
    def __init__(self, width: int, tubelet: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, (tubelet, patch, patch), (tubelet, patch, patch))


class PlainViT(nn.Module):
    """A video ViT of VideoMAE's layout: its published fine-tuned state dicts load as they are.

    Patches of tubelets, fixed sinusoidal positions, `depth` blocks, LayerNorm of their mean, linear head.
    Itself a trunk.
    """

    def __init__(
        self,
        *,
        classes: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        frames: int = 16,
        size: int = 224,
        patch: int = 16,
        tubelet: int = 2,
        ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.depth, self.frames = depth, frames // tubelet
        self._width, self._heads, side = width, heads, size // patch
        self.grid: Grid = (self.frames, side, side)
        self.patch_embed = _Patches(width, tubelet, patch)
        self.register_buffer("pos_embed", _make_sinusoids(self.frames * side * side, width), persistent=False)
        self.blocks = nn.ModuleList(PlainBlock(width, heads, ratio) for _ in range(depth))
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def width(self, layer: int) -> int:
        return self._width

    def out_width(self, layer: int) -> int:
        return self._width

    def in_width(self) -> int:
        return self._width

    def heads(self, layer: int) -> int:
        return self._heads

    def begin(self, video: Tensor) -> Clip:
        """Embed video (B, 3, T, S, S)."""
        patches = self.patch_embed.proj(video).flatten(2).transpose(1, 2)  # (B, N, d)
        return Clip(patches + self.pos_embed.to(patches.dtype), self.grid)

    def layer(self, number: int, clip: Clip, memory: MemoryKeys | None) -> Clip:
        return clip._replace(x=self.blocks[number](clip.x, clip.grid, clip.regions, self.frames, memory))

    def finish(self, clip: Clip) -> Tensor:
        logits: Tensor = self.head(self.fc_norm(clip.own.mean(1)))
        return logits

    def forward(self, video: Tensor) -> Tensor:
        """Return logits (B, C) of video (B, 3, T, S, S), without any memory."""
        clip = self.begin(video)
        for number in range(self.depth):
            clip = self.layer(number, clip, None)
        return self.finish(clip)


def _make_sinusoids(count: int, width: int) -> Tensor:
    """Return (1, N, d) as in VideoMAE: sine on even, cosine on odd channels."""
    at = torch.arange(count, dtype=torch.float64)[:, None]
    channel = torch.arange(width)
    phase = at / 10_000.0 ** (2 * (channel // 2) / width)
    return torch.where(channel % 2 == 0, phase.sin(), phase.cos()).float()[None]


# -- MViTv2 ------------------------------------------------------------------------------------------------


class MultiscaleTrunk(nn.Module):
    """torchvision's MViT (v2: pooled attention with relative positions), run layer by layer."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.depth = len(body.blocks)
        self.frames = int(body.pos_encoding.temporal_size)

    def width(self, layer: int) -> int:
        return int(self.body.blocks[layer].attn.output_dim)

    def out_width(self, layer: int) -> int:
        return int(self.body.blocks[layer].mlp[-2].out_features)

    def in_width(self) -> int:
        return int(self.body.conv_proj.out_channels)

    def heads(self, layer: int) -> int:
        return int(self.body.blocks[layer].attn.num_heads)

    def begin(self, video: Tensor) -> Clip:
        """Embed video (B, 3, T, S, S)."""
        patches = self.body.conv_proj(video).flatten(2).transpose(1, 2)
        encoding = self.body.pos_encoding
        return Clip(encoding(patches), (encoding.temporal_size, *encoding.spatial_size))

    def finish(self, clip: Clip) -> Tensor:
        logits: Tensor = self.body.head(self.body.norm(clip.x)[:, 0])
        return logits

    def layer(self, number: int, clip: Clip, memory: MemoryKeys | None) -> Clip:
        """Run torchvision's MultiscaleBlock, without the region tokens in what is pooled."""
        block, r = self.body.blocks[number], clip.regions
        x = clip.x
        normed = block.norm1(x)
        seen, grid = self._attention(block.attn, normed, clip.grid, r, memory)
        x = x if block.project is None or not block.proj_after_attn else block.project(normed)
        skip = x if block.pool_skip is None else _pool(block.pool_skip, x, clip.grid, r)[0]
        x = skip + block.stochastic_depth(seen)
        normed = block.norm2(x)
        out = x if block.project is None or block.proj_after_attn else block.project(normed)
        return Clip(out + block.stochastic_depth(block.mlp(normed)), grid, r)

    def _attention(
        self, attn: Any, x: Tensor, grid: Grid, r: int, memory: MemoryKeys | None
    ) -> tuple[Tensor, Grid]:
        """Run torchvision's MultiscaleAttention, with region tokens and memory."""
        batch, count, _ = x.shape
        split = attn.qkv(x).reshape(batch, count, 3, attn.num_heads, attn.head_dim)
        q, k, v = split.transpose(1, 3).unbind(dim=2)  # (B, H, N, E) each
        k, k_grid = _pool(attn.pool_k, k, grid, r)
        v, _ = _pool(attn.pool_v, v, grid, r)
        q, grid = _pool(attn.pool_q, q, grid, r)
        scores = torch.matmul(attn.scaler * q, k.transpose(2, 3))
        if attn.rel_pos_h is not None:
            scores = _add_positions(attn, scores, q, grid, k_grid, r)
        of_memory = None
        if memory is not None:
            where = find_query_frames(q.shape[2], 1, grid, r, self.frames, x.device)
            of_memory = score_memory(q, *where, memory, attn.scaler)
        seen = attend(scores, v, of_memory, memory, r)
        if attn.residual_pool:
            seen = (
                seen + q
                if attn.residual_with_cls_embed
                else torch.cat([seen[:, :, :1], seen[:, :, 1:] + q[:, :, 1:]], 2)
            )
        joined = seen.transpose(1, 2).reshape(batch, -1, attn.output_dim)
        return attn.project(joined), grid


def _pool(pool: Any, x: Tensor, grid: Grid, r: int) -> tuple[Tensor, Grid]:
    """Pool the N of x (..., 1 + N + R, d)."""
    if pool is None:
        return x, grid
    if not r:
        return pool(x, grid)  # type: ignore[no-any-return]
    own = x.shape[-2] - r
    inner, pooled = pool(x.narrow(-2, 0, own), grid)
    rest = x.narrow(-2, own, r)
    if pool.norm_act is not None:  # as the class token, which is normalised, too
        rest = pool.norm_act(rest)
    return torch.cat([inner, rest], -2), pooled


def _add_positions(attn: Any, scores: Tensor, q: Tensor, q_grid: Grid, k_grid: Grid, r: int) -> Tensor:
    from torchvision.models.video.mvit import _add_rel_pos

    tables = (attn.rel_pos_h, attn.rel_pos_w, attn.rel_pos_t)
    if not r:
        return _add_rel_pos(scores, q, q_grid, k_grid, *tables)  # type: ignore[no-any-return]
    rows, columns = scores.shape[2] - r, scores.shape[3] - r
    zero = torch.zeros_like(scores[:, :, :rows, :columns])
    relative = _add_rel_pos(zero, q[:, :, :rows], q_grid, k_grid, *tables)
    return scores + functional.pad(relative, (0, r, 0, r))
