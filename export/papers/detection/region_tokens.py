"""Learn region tokens: without annotated boxes, a few queries find what matters in a clip.

Letters: B clips, T frames of a clip, P = 49 cells, K = T P tokens, R queries, d width, C activities.

One Perceiver layer: R learned queries attend to all tokens of a clip. It is trained once on what is being
done in whole clips, then frozen, so that remembered regions of the past never go stale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.network_config import GRID
from export.networks.attention import Attention, FeedForward
from export.papers.detection.clips import Index, RegionVideo
from export.papers.detection.head import HeadRecipe
from export.papers.detection.train import list_clips, minimise


class RegionTokens(nn.Module):
    """Turns the tokens of a clip into R region tokens of the same width."""

    def __init__(self, width: int, regions: int = 8, frames: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(regions, width) * width**-0.5)
        self.cell = nn.Parameter(torch.zeros(GRID * GRID, width))
        self.frame = nn.Parameter(torch.zeros(frames, width))
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, 2 * width, 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend to tokens (B, T, 49, d): (B, R, d)."""
        count, frames, cells, width = tokens.shape
        place = (self.frame[:, None] + self.cell).reshape(1, frames * cells, width)
        values = tokens.reshape(count, -1, width)  # (B, K, d)
        queries = self.queries.expand(count, -1, -1)
        seen = self.attention(queries, values + place, values, values.new_zeros(values.shape[:2]))
        out: Tensor = self.feed_forward(self.norm(queries + seen))
        return out


def fit_region_tokens(
    module: RegionTokens, videos: Sequence[RegionVideo], recipe: HeadRecipe | None = None
) -> list[float]:
    """Train `module` in place with a linear classifier of clips. Return the mean loss of each epoch."""
    recipe = recipe or HeadRecipe()
    torch.manual_seed(recipe.seed)
    classifier = nn.Linear(videos[0].tokens.shape[-1], videos[0].clip_labels.shape[1])
    place = list_clips(videos)

    def loss_of(rows: Index) -> Tensor:
        tokens = np.stack([videos[v].tokens[c] for v, c in place[rows]]).astype(np.float32)
        labels = np.stack([videos[v].clip_labels[c] for v, c in place[rows]]).astype(np.float32)
        best = classifier(module(torch.from_numpy(tokens))).amax(dim=1)  # (B, C)
        return functional.binary_cross_entropy_with_logits(best, torch.from_numpy(labels))

    module.train()
    curve = minimise(classifier.parameters(), len(place), recipe, loss_of, module.parameters())
    module.eval()
    return curve


@torch.no_grad()
def replace_regions(module: RegionTokens, video: RegionVideo, batch: int = 256) -> RegionVideo:
    """Replace the video's regions by the learned tokens. They have no boxes, so clips are scored."""
    parts = [
        module(torch.from_numpy(video.tokens[at : at + batch].astype(np.float32))).numpy()
        for at in range(0, len(video), batch)
    ]
    features = np.concatenate(parts)  # (n, R, d)
    labels = np.zeros((*features.shape[:2], video.labels.shape[2]), np.bool_)
    return dataclasses.replace(
        video, features=features, valid=np.ones(features.shape[:2], np.bool_), box=None, labels=labels
    )
