"""Match the question's photo with remembered tokens by looks alone, as an input to what is learned.

The reader's twin of `edge_runtime/query/matching.py`: late interaction (Khattab and Zaharia 2020) of cosines
without the memory's mean. The appearance is fixed, so a product and a scene that no training showed are found
as well as any; what is learned starts from that order and corrects it.

B batch, n tokens of the memory, k of them read, a numbers of an appearance, p cells of the photo, d model
width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.query.matching import TEMPERATURE
from edge_runtime.query.photo_mosaic import find_whole
from engines.network_config import GRID


class AppearanceMatch(nn.Module):
    """Similarity of tokens to the photo, for the tokens and for the pointer; without a photo it is zero."""

    cells: Tensor

    def __init__(self, appearance: int, width: int, grid: int = GRID) -> None:
        super().__init__()
        self.appearance = appearance
        self.token = nn.Linear(2, width, bias=False)
        nn.init.zeros_(self.token.weight)
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("cells", torch.from_numpy(find_whole(grid)), persistent=False)

    def compare(self, features: Tensor, valid: Tensor, photo: Tensor, present: Tensor) -> Tensor:
        """Compare features (B, n, d_b) of valid (B, n) tokens with a photo (B, 49, d_b) -> cosines (B, p, n).

        Zero where no photo is `present` (B,). The cells p are those of the mosaic's largest copy.
        """
        remembered = features[..., : self.appearance]
        weight = valid.to(features.dtype)[..., None]  # (B, n, 1)
        mean = (remembered * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        asked = photo[:, self.cells, : self.appearance] - mean  # (B, p, a)
        cosine = functional.normalize(asked, dim=-1) @ functional.normalize(remembered - mean, dim=-1).mT
        return cosine * present.to(features.dtype)[:, None, None]

    def embed(self, cosine: Tensor) -> Tensor:
        """Return what cosines (B, p, n) add to the tokens (B, n, d): of the best cell and of all cells."""
        return self.token(torch.stack([cosine.amax(1), cosine.mean(1)], dim=-1))  # type: ignore[no-any-return]

    def point(self, cosine: Tensor, tick: Tensor, valid: Tensor) -> Tensor:
        """Return what cosines (B, p, k) add to the pointer's logits (B, k): the similarity of each moment.

        A moment are the valid (B, k) tokens with the same tick (B, k).
        """
        same = (tick[:, :, None] == tick[:, None]) & valid[:, None]  # (B, k, k)
        best = torch.where(same[:, None], cosine[:, :, None], -1.0).amax(-1)  # (B, p, k)
        return functional.relu(self.weight) / TEMPERATURE * best.mean(1)
