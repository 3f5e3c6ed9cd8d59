"""Losses that teach a backbone to know a product again on another photo.

Letters: N images, M queries, d width, C products, W windows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_NEVER = -1e4
"""In place of -inf, whose gradient is NaN where a row has nothing else."""


def cosine_margin_loss(
    embeddings: Tensor, prototypes: Tensor, labels: Tensor, *, scale: float = 16.0, margin: float = 0.2
) -> Tensor:
    """Classification by cosine with an additive margin (CosFace). Scalar.

    embeddings (N, d), prototypes (C, d): neither need be normalised; labels (N,) int64.
    """
    cosine = F.normalize(embeddings, dim=-1) @ F.normalize(prototypes, dim=-1).T  # (N, C)
    logits = scale * (cosine - margin * F.one_hot(labels, len(prototypes)))
    return F.cross_entropy(logits, labels)


def photo_contrast_loss(embeddings: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """InfoNCE between every two photos of one product; negatives are the batch's other products. Scalar.

    embeddings (N, d) need not be normalised; labels (N,). The remaining photos of the product are neither
    positive nor negative to a pair. Nought where no product has two photos.
    """
    z = F.normalize(embeddings, dim=-1)
    return _pairs_loss(z @ z.T / temperature, labels, labels, same=True)


def _pairs_loss(logits: Tensor, row_labels: Tensor, labels: Tensor, *, same: bool) -> Tensor:
    """logits (M, N); a pair is positive where the labels agree, except an image with itself where `same`."""
    positive = row_labels[:, None] == labels[None]  # (M, N)
    negatives = logits.masked_fill(positive, _NEVER).logsumexp(dim=1, keepdim=True)  # (M, 1)
    if same:
        positive = positive & ~torch.eye(len(labels), dtype=torch.bool, device=logits.device)
    each = F.softplus(negatives - logits)  # -log(e^l / (e^l + sum of negatives))
    return (each * positive).sum() / positive.sum().clamp(min=1)
