"""Strangeness: how far a clip looks from everything that a bundle was trained on.

B batch, k candidates of a clip, a numbers of a token's appearance, n frames.

A Gaussian of the mean appearance of a frame's candidates (probabilistic PCA, Tipping and Bishop 1999). A clip
is as strange as its frames are on average: the mean of several scenes would look like none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_DIRECTIONS = 0.5
"""Share of directions with a variance of their own; the others share theirs."""
_QUANTILE = 0.99
_MARGIN = 1.35
"""The limit is this multiple of the quantile of held-out clips. With 1.35 clips of unseen drawn worlds reach
0.54, with real products and backgrounds 0.71, and clips of people signing begin at 1.30
(docs/lab/real-eyes.md)."""


class Strangeness(nn.Module):
    """Gives the mean squared distance of a clip's frames from the training's; 1 is the largest that counts as
    familiar, and an untrained one gives 0."""

    usual: Tensor
    whitening: Tensor

    def __init__(self, appearance: int) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(appearance))
        self.register_buffer("whitening", torch.zeros(appearance, appearance))

    def forward(self, features: Tensor, tick: Tensor, valid: Tensor) -> Tensor:
        """Take features (B, k, d_b), tick and valid (B, k) -> (B, 1). A frame counts by its candidates."""
        real = valid.to(features.dtype)  # (B, k)
        same = (tick[:, :, None] == tick[:, None]).to(features.dtype) * real[:, None]  # (B, k, k)
        appearance = features[..., : len(self.usual)]
        frames = same @ appearance / same.sum(2, keepdim=True).clamp(min=1)  # (B, k, a)
        away = ((frames - self.usual) @ self.whitening).square().sum(2)  # (B, k)
        return (away * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def fit(self, clips: Sequence[Tensor], held_out: Sequence[Tensor]) -> None:
        """Fit to clips of candidates (k, a + 1), appearance and tick; the limit is set by `held_out` ones."""
        frames = torch.cat([_average_frames(clip) for clip in clips]).double()  # (n, a)
        variance, directions = torch.linalg.eigh(torch.cov(frames.T))  # ascending
        shared = len(variance) - int(_DIRECTIONS * min(len(variance), len(frames) - 1))
        variance[:shared] = variance[:shared].mean().clamp(min=1e-6)
        self.usual.copy_(frames.mean(0))
        self.whitening.copy_(directions / variance.sqrt())
        away = [
            self(clip[None, :, :-1], clip[None, :, -1], torch.ones_like(clip[None, :, -1]) > 0)
            for clip in held_out
        ]
        self.whitening.div_((_MARGIN * torch.cat(away).quantile(_QUANTILE)).sqrt())


def _average_frames(clip: Tensor) -> Tensor:
    """Return the mean appearance of each frame (n, a) of candidates (k, a + 1)."""
    ticks, frame = torch.unique(clip[:, -1], return_inverse=True)
    sums = torch.zeros(len(ticks), clip.shape[1] - 1).index_add_(0, frame, clip[:, :-1])
    return sums / torch.bincount(frame)[:, None]
