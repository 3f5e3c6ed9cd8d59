"""Strangeness: how far a clip looks from everything that a bundle was trained on.

B batch, k candidates of a clip, a numbers of a token's appearance, n clips of the training.

A Gaussian of the mean appearance of clips (probabilistic PCA, Tipping and Bishop 1999).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_DIRECTIONS = 0.5
"""Share of directions with a variance of their own; the others share theirs."""
_QUANTILE = 0.99
_MARGIN = 1.5
"""The limit is this multiple of the quantile of held-out clips."""


class Strangeness(nn.Module):
    """Gives a clip's squared distance from the training's clips; 1 is the largest that counts as familiar,
    and an untrained one gives 0."""

    usual: Tensor
    whitening: Tensor

    def __init__(self, appearance: int) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(appearance))
        self.register_buffer("whitening", torch.zeros(appearance, appearance))

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Take features (B, k, d_b) and valid (B, k) -> (B, 1)."""
        weight = valid.to(features.dtype)[..., None]  # (B, k, 1)
        appearance = features[..., : len(self.usual)] * weight
        mean = appearance.sum(1) / weight.sum(1).clamp(min=1)  # (B, a)
        return ((mean - self.usual) @ self.whitening).square().sum(1, keepdim=True)

    @torch.no_grad()
    def fit(self, clips: Tensor, held_out: Tensor) -> None:
        """Fit to the mean appearance of clips (n, a); the limit is set by clips of `held_out` videos."""
        clips = clips.double()
        variance, directions = torch.linalg.eigh(torch.cov((clips - clips.mean(0)).T))  # ascending
        shared = len(variance) - int(_DIRECTIONS * min(len(variance), len(clips) - 1))
        variance[:shared] = variance[:shared].mean().clamp(min=1e-6)
        self.usual.copy_(clips.mean(0))
        self.whitening.copy_(directions / variance.sqrt())
        away = ((held_out.to(self.usual) - self.usual) @ self.whitening).square().sum(1)
        self.whitening.div_((_MARGIN * away.quantile(_QUANTILE)).sqrt())
