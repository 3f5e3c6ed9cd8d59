"""Make a queue entry from a clip, and turn queue entries into reader tokens.

B batch, k candidate tokens of a clip, l entries, q tokens of them together, T text slots, R regions, C
classes, W width of a description, d_b backbone width, d model width.

Region and text memory of TinyMem. The paper's region tokens go through the video transformer with the frames.
Here the backbone works frame by frame, so learned queries gather them from the clip's tokens (one Perceiver
layer, Jaegle et al. 2021).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engines.network_config import NetworkConfig
from export.networks.attention import Attention, FeedForward, make_key_bias
from export.networks.positions import CellCode, TickCode, encode_cells

_CLIP_TICK_BASE = 1000.0
"""Longest wavelength of the tick code within a clip: some 20 minutes."""


class ClipEntry(NamedTuple):
    """The queue entry of a clip."""

    activity: Tensor  # (B, C) in (0, 1): how likely each class is being done in it
    regions: Tensor  # (B, R, d_b)


class EntryMaker(nn.Module):
    """Learned queries attend to a clip's most novel tokens; each predicts classes and a weight."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.project = nn.Linear(config.d_backbone, width)
        self.norm = nn.LayerNorm(width)
        self.grid = config.grid
        self.cells = CellCode(width, config.grid)
        self.ticks = TickCode(width, _CLIP_TICK_BASE)
        self.novelty = nn.Linear(1, width)
        self.queries = nn.Parameter(torch.randn(config.queue.regions, width) * 0.5)
        self.cross = Attention(width, config.heads)
        self.cross_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.ffn, config.dropout)
        self.store = nn.Linear(width, config.d_backbone)
        self.store_norm = nn.LayerNorm(config.d_backbone)
        self.classes = nn.Linear(config.d_backbone, config.activities)
        self.confidence = nn.Linear(config.d_backbone, 1)
        nn.init.constant_(self.classes.bias, -2.0)  # that little happens needs no learning

    def forward(
        self, features: Tensor, valid: Tensor, tick: Tensor, cell: Tensor, novelty: Tensor
    ) -> ClipEntry:
        """Make the entry: features (B, k, d_b), valid (B, k) bool, tick (B, k) int32 since the clip's first,
        cell (B, k) int32, novelty (B, k)."""
        x = self.norm(self.project(features)) + self.novelty(novelty.unsqueeze(-1))  # (B, k, d)
        keys = x + self.cells(encode_cells(cell, self.grid)) + self.ticks(tick)
        queries = self.queries.expand(features.shape[0], *self.queries.shape)  # (B, R, d)
        seen = self.feed_forward(
            self.cross_norm(queries + self.cross(queries, keys, keys, make_key_bias(valid)))
        )
        # Predicted from what is stored, so that the store holds what the classes need.
        regions = self.store_norm(self.store(seen))  # (B, R, d_b)
        weight = torch.sigmoid(self.confidence(regions))  # (B, R, 1)
        likely = torch.sigmoid(self.classes(regions)) * weight  # (B, R, C)
        return ClipEntry(likely.sum(1) / (weight.sum(1) + 1e-6), regions)


class EntryCompression(nn.Module):
    """Depthwise convolution over the tokens of each entry: kernel 3, stride 2, no bias; halves their number.

    `width` groups of one channel each (TinyMem section 3.3; MeMViT's compression has as many).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1, groups=width, bias=False)
        with torch.no_grad():  # the mean of neighbours, before anything is learned
            self.conv.weight.fill_(1 / 3)

    def forward(self, x: Tensor) -> Tensor:
        """Compress x (B, l, n, d) to (B, l, ceil(n / 2), d)."""
        count = x.shape[1]
        flat = x.flatten(0, 1).transpose(1, 2)  # (B l, d, n)
        out: Tensor = self.conv(flat).transpose(1, 2).unflatten(0, (-1, count))
        return out


def count_compressed(tokens: int) -> int:
    """Return how many tokens `EntryCompression` makes of an entry's `tokens`."""
    return (tokens + 1) // 2


class Descriptions(nn.Module):
    """The table (C, W) of class descriptions, which a bundle stores with its weights; not learned."""

    table: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(config.activities, config.queue.text_width))
        self.match = nn.Linear(config.queue.text_width, config.d_model)

    def forward(self, text: Tensor) -> Tensor:
        """Embed text (B, l, T) int32 classes as (B, l, T, d)."""
        known = self.match(self.table)  # (C, d)
        classes = torch.arange(known.shape[0], dtype=text.dtype, device=text.device)
        # A product with this picks rows exactly and cannot fail on the class of an empty slot.
        named: Tensor = (text.unsqueeze(-1) == classes).to(known.dtype) @ known
        return named


class QueueTokens(nn.Module):
    """Turns queue entries into encoder tokens: halved, normalised, with a kind and the entry's tick."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, queue, context = config.d_model, config.queue, config.context
        self.text = Descriptions(config) if "text" in context else None
        self.text_slots = EntryCompression(width) if "text" in context else None
        self.text_norm = nn.LayerNorm(width) if "text" in context else None
        self.region = nn.Linear(config.d_backbone, width) if "region" in context else None
        self.region_slots = EntryCompression(width) if "region" in context else None
        self.region_norm = nn.LayerNorm(width) if "region" in context else None
        self.kind = nn.Parameter(torch.randn(2, width) * 0.02)  # text, region
        self.tokens_per_entry = [
            *([count_compressed(queue.text_slots)] if "text" in context else []),
            *([count_compressed(queue.regions)] if "region" in context else []),
        ]
        """Tokens of an entry, of each part of the context."""

    def forward(
        self, valid: Tensor | None, tick: Tensor | None, text: Tensor | None, region: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (B, q, d), valid (B, q) and tick (B, q) of the queues.

        valid (B, l) bool, tick (B, l) int32; as the context has them, text (B, l, T) int32 and region (B, l,
        R, d_b).
        """
        parts = []
        if self.text is not None and self.text_slots is not None and self.text_norm is not None:
            parts.append(
                self.text_norm(self.text_slots(self.text(require_input(text, "queue_text")))) + self.kind[0]
            )
        if self.region is not None and self.region_slots is not None and self.region_norm is not None:
            seen = self.region(require_input(region, "queue_region"))
            parts.append(self.region_norm(self.region_slots(seen)) + self.kind[1])
        tokens = torch.cat([part.flatten(1, 2) for part in parts], dim=1)
        return (
            tokens,
            self._repeat_per_token(require_input(valid, "queue_valid")),
            self._repeat_per_token(require_input(tick, "queue_tick")),
        )

    def _repeat_per_token(self, of_entry: Tensor) -> Tensor:
        """Repeat values of entries (B, l) for each of their tokens (B, q)."""
        return torch.cat(
            [of_entry[..., None].expand(-1, -1, count).flatten(1) for count in self.tokens_per_entry], dim=1
        )


def require_input(tensor: Tensor | None, name: str) -> Tensor:
    """Return the tensor. Raises ValueError where a configuration needs it and it is None."""
    if tensor is None:
        raise ValueError(f"{name} expected by this configuration, got None")
    return tensor
