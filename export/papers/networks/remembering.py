"""A video transformer that reads its past: text and region memory in the attention of some of its layers.

B batch, l entries, R region tokens, d width.

TinyMem around any `Trunk`: the network's own parameters stay where they are, so published weights load into
it; new parameters are apart. With a memory that has no valid entry it answers like the network alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.networks.clip_entries import count_compressed
from export.papers.networks.memory_attention import (
    Entries,
    Kind,
    MemoryKeys,
    MemoryProjection,
    Reach,
    make_layer_plan,
)
from export.papers.networks.trunks import Trunk


@dataclass(frozen=True)
class TinyMemConfig:
    """The memory, how far it reaches and how large an entry is. The defaults are the paper's.

    `share` of the layers read a memory; of them the last one, or the last `of_regions`, region memory.
    """

    kinds: tuple[Kind, ...] = ("text", "region")
    length: int = 12
    stride: int = 1
    text_width: int = 512
    text_slots: int = 16
    regions: int = 16
    share: float = 0.5
    of_regions: float | None = None


@dataclass(frozen=True)
class ClipOutput:
    """`logits` (B, C) of the clip, and its region tokens (B, R, d): the clip's entry for later clips."""

    logits: Tensor
    regions: Tensor


class MemoryTransformer(nn.Module):
    """`trunk` with memory: learned region tokens run along, and some layers read past entries."""

    def __init__(self, trunk: Trunk, config: TinyMemConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.plan = make_layer_plan(
            trunk.depth, config.kinds, share=config.share, of_regions=config.of_regions
        )
        self.entry_layer = max((layer for layer, kind in self.plan.items() if kind == "region"), default=None)
        """The layer whose region tokens are a clip's entry: the last one that reads them."""
        self.regions = nn.Parameter(torch.randn(config.regions, trunk.in_width()) * 0.02)
        reach = Reach(config.length, config.stride, trunk.frames)
        self.memories = nn.ModuleDict(
            {str(layer): self._projection(layer, kind, reach) for layer, kind in self.plan.items()}
        )

    def forward(self, video: Tensor, memory: Mapping[Kind, Entries] | None = None) -> ClipOutput:
        """Run video as the trunk takes it with memory by kind; None: the trunk alone, without region tokens
        too."""
        clip = self.trunk.begin(video)
        if memory is not None and "region" in self.config.kinds:
            tokens = self.regions.expand(clip.x.shape[0], -1, -1).to(clip.x.dtype)
            clip = clip._replace(x=torch.cat([clip.x, tokens], 1), regions=tokens.shape[1])
        entry = clip.region_tokens
        for number in range(self.trunk.depth):
            clip = self.trunk.layer(number, clip, self._keys(number, memory))
            if number == self.entry_layer:
                entry = clip.region_tokens
        return ClipOutput(self.trunk.finish(clip), entry)

    def tokens_read(self) -> int:
        """Count the memory tokens of a clip by our definition: keys of past clips, added over the layers."""
        each = {
            "text": count_compressed(self.config.text_slots),
            "region": count_compressed(self.config.regions),
        }
        return sum(self.config.length * each[kind] for kind in self.plan.values())

    def _keys(self, number: int, memory: Mapping[Kind, Entries] | None) -> MemoryKeys | None:
        kind = self.plan.get(number)
        if memory is None or kind is None:
            return None
        keys: MemoryKeys = self.memories[str(number)](memory[kind])
        return keys

    def _projection(self, layer: int, kind: Kind, reach: Reach) -> MemoryProjection:
        trunk, config = self.trunk, self.config
        width, heads = trunk.width(layer), trunk.heads(layer)
        if kind == "text":
            return MemoryProjection(
                config.text_width, width, heads, reach, config.text_slots, spread=True, bias=True
            )
        d_in = trunk.out_width(cast(int, self.entry_layer))
        return MemoryProjection(d_in, width, heads, reach, config.regions, spread=False)


def align_regions(tokens: Tensor, boxes: Tensor, valid: Tensor, size: int = 7) -> Tensor:
    """Make region entries where there is a detector: 3-D RoIAlign of a clip's output tokens, a token for each
    box.

    tokens (B, t, h, w, d), boxes (B, R, 4) xyxy of the picture, valid (B, R) -> (B, R, d), 0 where not valid.
    Each box is sampled bilinearly at `size` x `size` points and averaged over them and over the clip's frames
    (the box of the key frame stands for all, as in SlowFast).
    """
    batch, t, h, w, d = tokens.shape
    plane = tokens.mean(1).permute(0, 3, 1, 2)  # (B, d, h, w)
    at = (torch.arange(size, dtype=boxes.dtype, device=boxes.device) + 0.5) / size
    x = boxes[..., 0, None] + at * (boxes[..., 2] - boxes[..., 0])[..., None]  # (B, R, size)
    y = boxes[..., 1, None] + at * (boxes[..., 3] - boxes[..., 1])[..., None]
    count = boxes.shape[1]
    grid = torch.stack(
        [x[:, :, None, :].expand(-1, -1, size, -1), y[:, :, :, None].expand(-1, -1, -1, size)], -1
    )  # (B, R, size, size, 2)
    places = grid.reshape(batch, count, size * size, 2) * 2 - 1
    sampled = functional.grid_sample(
        plane, places, align_corners=False, padding_mode="border"
    )  # (B, d, R, s²)
    pooled = sampled.mean(-1).transpose(1, 2)  # (B, R, d)
    return pooled * valid[..., None].to(pooled.dtype)
