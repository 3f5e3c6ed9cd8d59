"""How alike what a token shows and the product that is asked about are.

B batch, n tokens, d_b backbone width, d model width, e width of an identity.

The product of a token's and a photo's features, which LVM-Net fuses, has to be read as likeness by layers
that learn from questions, and questions are about the products of some dozen videos. The backbone has learned
the same from endless pictures: its head that tells products apart (InfoNCE) goes into the reader as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

IDENTITY = 64
"""Width of the space in which a backbone learns to know a product again, whatever its own."""


class Likeness(nn.Module):
    """Cosine of two identities as a direction in the reader's tokens, nothing at first."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        # Not learned here: what the videos' few products have in common is not what makes a product.
        self.identity = nn.Linear(features, IDENTITY).requires_grad_(False)
        self.direction = nn.Parameter(torch.zeros(width))

    def of(self, features: Tensor) -> Tensor:
        """features (..., d_b) -> identities (..., e) of length one."""
        return functional.normalize(self.identity(features), dim=-1)

    def forward(self, features: Tensor, asked: Tensor) -> Tensor:
        """features (B, n, d_b), asked (B, e) -> what is added to the tokens (B, n, d)."""
        cosine = self.of(features) @ asked[..., None]  # (B, n, 1)
        return cosine * self.direction
