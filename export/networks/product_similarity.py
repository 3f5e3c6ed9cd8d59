"""Similarity of what a token shows and the product in question.

B batch, n tokens, d_b backbone width, d model width, e width of an identity.

LVM-Net fuses the features of a token and a photo by a product, which layers have to learn to read as
similarity; they learn from questions, about the products of some dozen videos. The backbone has learned the
same from endless pictures, so its head that tells products apart (InfoNCE) goes into the reader unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

IDENTITY = 64
"""Width of the space in which a backbone learns to recognise a product, whatever its own width."""


class ProductSimilarity(nn.Module):
    """Adds the cosine of two identities along a learned direction to the reader's tokens; zero at first."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        # Not learned here: what the videos' few products have in common is not what makes a product.
        self.identity = nn.Linear(features, IDENTITY).requires_grad_(False)
        self.direction = nn.Parameter(torch.zeros(width))

    def embed(self, features: Tensor) -> Tensor:
        """Embed features (..., d_b) as identities (..., e) of length 1."""
        return functional.normalize(self.identity(features), dim=-1)

    def forward(self, features: Tensor, identity: Tensor) -> Tensor:
        """Return what is added to the tokens (B, n, d): features (B, n, d_b), identity (B, e) of the product
        in question."""
        cosine = self.embed(features) @ identity[..., None]  # (B, n, 1)
        return cosine * self.direction
