"""Where something is, told from where the tokens that speak of it lie.

B batch, L steps, n tokens, d model width.

A linear layer on decoder steps, as TubeDETR has it, learns the places of the rooms that it was trained on:
after 40 rooms, recall at vIoU 0.3 in four unseen ones was .04, .48, .51 and .03. Here each token tells a box
relative to its own cell, a step takes the mean of those that answer it and lie close in time (the reference
point of Conditional DETR, Meng et al. 2021, section 3.3), and the linear layer only corrects that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.manifest import CELLS
from export.networks.positions import GRID

_USUAL_SIDE = 0.12
"""Share of the picture that a box's side is before anything is learned."""
_RIM = 1e-3
"""References stay so far from 0 and 1, so that their logit can be corrected."""
_FAR_TICKS = 1000
"""From here on a token is not closer to a step than another."""


class Places(nn.Module):
    """Boxes of tokens."""

    centres: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Linear(width, 4)
        nn.init.zeros_(self.token.weight)
        side = torch.logit(torch.tensor(_USUAL_SIDE))
        with torch.no_grad():
            self.token.bias.copy_(torch.stack([torch.zeros(()), torch.zeros(()), side, side]))
        at = (torch.arange(GRID, dtype=torch.float32, device="cpu") + 0.5) / GRID
        y, x = torch.meshgrid(at, at, indexing="ij")
        self.register_buffer("centres", torch.stack([x, y], -1).reshape(CELLS, 2), persistent=False)

    def boxes(self, tokens: Tensor, hot: Tensor) -> Tensor:
        """tokens (..., n, d), hot (..., n, 49) cells one-hot -> cxcywh (..., n, 4), each near its cell."""
        told = self.token(tokens)  # (..., n, 4)
        centre = hot @ self.centres + torch.tanh(told[..., :2]) / GRID
        return torch.cat([centre, torch.sigmoid(told[..., 2:])], -1)


class TimedPlaces(Places):
    """Boxes of tokens, and of steps from those that are close in time."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.haste = nn.Parameter(torch.zeros(()))
        """By how much of its weight a token loses for each tick that it is away (through softplus)."""

    def references(self, boxes: Tensor, logits: Tensor, apart: Tensor) -> Tensor:
        """boxes (B, n, 4), logits (B, n) of answering, apart (B, L, n) ticks between -> (B, L, 4)."""
        ticks = apart.abs().clamp(max=_FAR_TICKS).float()
        share = torch.softmax(logits[:, None] - functional.softplus(self.haste) * ticks, -1)  # (B, L, n)
        return share @ boxes


def corrected(reference: Tensor, correction: Tensor) -> Tensor:
    """Both (..., 4): reference boxes moved by as much on the logit scale, within (0, 1)."""
    inside = reference.clamp(_RIM, 1 - _RIM)
    return torch.sigmoid(torch.log(inside / (1 - inside)) + correction)
