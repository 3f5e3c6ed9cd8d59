"""The head of online activity detection: regions of a clip and a memory → logits of each region.

Letters: B clips, R regions, d width of a region, C activities.

Every memory is a `MemoryPart`: it says what of a video is known before each of its clips, and turns it into
something that is added to the regions. A head has any number of them, one after the other, then a classifier:

    h ← h + part(h, past)      for each part
    logits = Linear(LayerNorm(h))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from export.papers.detection.clips import Index, RegionVideo

_INITIAL_BIAS = -3.0
"""Initial bias of every activity, one region in twenty: that little happens needs no learning."""
ReadPast = Callable[[Index], Any]
"""Returns what a memory holds before the clips with these numbers (B,) of a video: a (named) tuple of tensors
whose first axis is B."""


@dataclass(frozen=True)
class HeadRecipe:
    """How a head is trained. AdamW, cosine to zero after `warm_up` of the steps.

    `parts_learning_rate` is that of the memories' own layers (None: as of the rest). A linear classifier of
    frozen features wants steps several times as large and more of them; with those of attention it is
    far from trained after 8 epochs, and what a memory adds cannot be seen in that.
    """

    epochs: int = 16
    batch: int = 64
    learning_rate: float = 1e-2
    parts_learning_rate: float | None = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.05
    seed: int = 0


class MemoryPart(nn.Module, ABC):
    """A memory with its read-out.

    `watch` is called once for a video; what it gives must rest on nothing of a clip or after it, and needs no
    gradient. Its tuples are joined along their first axis, so their other sizes must not depend on the video.
    """

    def prepare(self, videos: Sequence[RegionVideo], recipe: HeadRecipe) -> None:
        """Learn what is needed before `watch`; called once before the head is trained on `videos`."""
        return None

    @abstractmethod
    def watch(self, video: RegionVideo) -> ReadPast:
        """Return what is known of `video` before each of its clips."""

    @abstractmethod
    def forward(self, regions: Tensor, valid: Tensor, past: Any) -> Tensor:
        """Return what is added to the regions (B, R, d): valid (B, R) bool, past as `watch` gives it."""


class DetectionHead(nn.Module):
    """Regions, then each memory's part, then one linear classifier."""

    def __init__(
        self, width: int, activities: int, parts: Sequence[MemoryPart] = (), dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, activities)
        nn.init.constant_(self.classifier.bias, _INITIAL_BIAS)

    def prepare(self, videos: Sequence[RegionVideo], recipe: HeadRecipe) -> None:
        """Prepare each part."""
        for part in self.parts:
            part.prepare(videos, recipe)  # type: ignore[operator]

    def watch(self, video: RegionVideo) -> list[ReadPast]:
        """Let each part watch the video."""
        return [part.watch(video) for part in self.parts]  # type: ignore[operator]

    def forward(self, regions: Tensor, valid: Tensor, pasts: Sequence[Any]) -> Tensor:
        """Return logits (B, R, C): regions (B, R, d), valid (B, R), the past of each part."""
        for part, past in zip(self.parts, pasts, strict=True):
            regions = regions + part(regions, valid, past)
        logits: Tensor = self.classifier(self.dropout(self.norm(regions)))
        return logits
