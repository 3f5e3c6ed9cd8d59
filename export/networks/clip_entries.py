"""Entries of a queue of clips: how one is made of a clip, and how the reader reads those that are there.

B batch, k candidate tokens of a clip, l entries, q tokens of them together, T text slots, R regions,
C classes, W width of a description, d_b backbone width, d model width.

Region and text memory of TinyMem. The paper's region tokens go through the video transformer with the frames;
here the backbone works frame by frame, so learned queries gather them from the clip's tokens (one Perceiver
layer, Jaegle et al. 2021).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engines.network_config import NetworkConfig
from export.networks.attention import Attention, FeedForward, bias_of
from export.networks.positions import CellCode, TickCode, one_hot_cells

_CLIP_TICK_BASE = 1000.0
"""Longest wavelength of the code within a clip: some 20 minutes."""


class ClipEntry(NamedTuple):
    """What a clip leaves behind."""

    activity: Tensor  # (B, C) in (0, 1): how likely each class is being done in it
    regions: Tensor  # (B, R, d_b)


class EntryMaker(nn.Module):
    """Learned queries look at a clip's most novel tokens; each tells its classes and how much it counts."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.project = nn.Linear(config.d_backbone, width)
        self.norm = nn.LayerNorm(width)
        self.cells = CellCode(width)
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
        """features (B, k, d_b), valid (B, k) bool, tick (B, k) int32 since the clip's first, cell (B, k)
        int32, novelty (B, k)."""
        x = self.norm(self.project(features)) + self.novelty(novelty.unsqueeze(-1))  # (B, k, d)
        keys = x + self.cells(one_hot_cells(cell)) + self.ticks(tick)
        asked = self.queries.expand(features.shape[0], *self.queries.shape)  # (B, R, d)
        seen = self.feed_forward(self.cross_norm(asked + self.cross(asked, keys, keys, bias_of(valid))))
        # Told from what is stored, so that it is what the classes need.
        regions = self.store_norm(self.store(seen))  # (B, R, d_b)
        weight = torch.sigmoid(self.confidence(regions))  # (B, R, 1)
        likely = torch.sigmoid(self.classes(regions)) * weight  # (B, R, C)
        return ClipEntry(likely.sum(1) / (weight.sum(1) + 1e-6), regions)


class PerEntry(nn.Module):
    """Depthwise convolution over the tokens of each entry: kernel 3, stride 2, no bias; halves their number.

    `width` groups of one channel each (TinyMem section 3.3; MeMViT's compression has as many).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1, groups=width, bias=False)
        with torch.no_grad():  # the mean of neighbours, before anything is learned
            self.conv.weight.fill_(1 / 3)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, l, n, d) -> (B, l, ceil(n / 2), d)."""
        count = x.shape[1]
        flat = x.flatten(0, 1).transpose(1, 2)  # (B l, d, n)
        out: Tensor = self.conv(flat).transpose(1, 2).unflatten(0, (-1, count))
        return out


def compressed(tokens: int) -> int:
    """How many tokens `PerEntry` makes of an entry's `tokens`."""
    return (tokens + 1) // 2


class Descriptions(nn.Module):
    """The table of what the classes mean, (C, W), which a bundle holds beside its weights; not learned."""

    table: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(config.activities, config.queue.text_width))
        self.match = nn.Linear(config.queue.text_width, config.d_model)

    def forward(self, text: Tensor) -> Tensor:
        """text (B, l, T) int32 classes -> (B, l, T, d)."""
        known = self.match(self.table)  # (C, d)
        classes = torch.arange(known.shape[0], dtype=text.dtype, device=text.device)
        # A product with this picks rows exactly and cannot fail on the class of an empty slot.
        named: Tensor = (text.unsqueeze(-1) == classes).to(known.dtype) @ known
        return named


class QueueTokens(nn.Module):
    """What the reader's encoder gets of the queues: halved, normalised, with a kind and the entry's tick."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, queue, context = config.d_model, config.queue, config.context
        self.text = Descriptions(config) if "text" in context else None
        self.text_slots = PerEntry(width) if "text" in context else None
        self.text_norm = nn.LayerNorm(width) if "text" in context else None
        self.region = nn.Linear(config.d_backbone, width) if "region" in context else None
        self.region_slots = PerEntry(width) if "region" in context else None
        self.region_norm = nn.LayerNorm(width) if "region" in context else None
        self.kind = nn.Parameter(torch.randn(2, width) * 0.02)  # text, region
        self.of_entry = [
            *([compressed(queue.text_slots)] if "text" in context else []),
            *([compressed(queue.regions)] if "region" in context else []),
        ]
        """Tokens of an entry, of each part of the context."""

    def forward(
        self, valid: Tensor | None, tick: Tensor | None, text: Tensor | None, region: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """valid (B, l) bool, tick (B, l) int32, and of what the context has text (B, l, T) int32 and region
        (B, l, R, d_b) -> tokens (B, q, d), valid (B, q) and tick (B, q)."""
        parts = []
        if self.text is not None and self.text_slots is not None and self.text_norm is not None:
            parts.append(self.text_norm(self.text_slots(self.text(_given(text, "text")))) + self.kind[0])
        if self.region is not None and self.region_slots is not None and self.region_norm is not None:
            seen = self.region(_given(region, "region"))
            parts.append(self.region_norm(self.region_slots(seen)) + self.kind[1])
        tokens = torch.cat([part.flatten(1, 2) for part in parts], dim=1)
        return tokens, self._each(_given(valid, "valid")), self._each(_given(tick, "tick"))

    def _each(self, of_entry: Tensor) -> Tensor:
        """(B, l), one for each entry -> (B, q), one for each token."""
        return torch.cat(
            [of_entry[..., None].expand(-1, -1, count).flatten(1) for count in self.of_entry], dim=1
        )


def _given(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise ValueError(f"queue_{name} expected by this configuration, got None")
    return tensor
