"""Compute the losses by which a backbone learns to recognise a product on another photo.

Letters: N images, M queries, d width, C products, W windows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_NEVER = -1e4
"""Instead of -inf, whose gradient is NaN in a row of nothing else."""


def cosine_margin_loss(
    embeddings: Tensor, prototypes: Tensor, labels: Tensor, *, scale: float = 16.0, margin: float = 0.2
) -> Tensor:
    """Return the classification loss by cosine with an additive margin (CosFace). Scalar.

    embeddings (N, d), prototypes (C, d): neither need be normalised; labels (N,) int64.
    """
    cosine = F.normalize(embeddings, dim=-1) @ F.normalize(prototypes, dim=-1).T  # (N, C)
    logits = scale * (cosine - margin * F.one_hot(labels, len(prototypes)))
    return F.cross_entropy(logits, labels)


def photo_contrast_loss(embeddings: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return InfoNCE between photos of the same product; negatives are the batch's other products. Scalar.

    embeddings (N, d) need not be normalised; labels (N,). The product's other photos are neither
    positive nor negative for a pair. 0 if no product has two photos.
    """
    z = F.normalize(embeddings, dim=-1)
    logits = z @ z.T / temperature  # (N, N)
    positive = labels[:, None] == labels[None]  # (N, N)
    negatives = logits.masked_fill(positive, _NEVER).logsumexp(dim=1, keepdim=True)  # (N, 1)
    # No photo is positive to itself.
    positive = positive & ~torch.eye(len(labels), dtype=torch.bool, device=logits.device)
    each = F.softplus(negatives - logits)  # -log(e^l / (e^l + sum of negatives))
    return (each * positive).sum() / positive.sum().clamp(min=1)
