"""Where something is, told from where the tokens that speak of it lie.

B batch, L steps, n tokens, d model width, d_b backbone width.

A linear layer on decoder steps, as TubeDETR has it, learns the places of the rooms that it was trained on:
after 40 rooms, recall at vIoU 0.3 in four unseen ones was .04, .48, .51 and .03. Here each token tells a box
relative to its own cell, a step takes the mean of those that answer it and lie close in time (the reference
point of Conditional DETR, Meng et al. 2021, section 3.3), and the linear layer only corrects that.

How large a product is and where in its cell, a token tells whatever is asked: a small network on the token as
remembered, which every token that shows any product can teach. Learned by questions alone, a step has boxes
of two dozen events that hang together, and 2,000 steps left a mean vIoU of .34 on rooms of the training set
as on others; one token tells .45 through one linear layer and .56 through three.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.network_config import CELLS
from export.networks.positions import GRID

_USUAL_SIDE = 0.12
"""Share of the picture that a box's side is before anything is learned."""
_HIDDEN = 128
"""Of an outline, however wide the network is: a box is four numbers."""
_RIM = 1e-3
"""References stay so far from 0 and 1, so that their logit can be corrected."""
_FAR_TICKS = 1000
"""From here on a token is not closer to a step than another."""


class Places(nn.Module):
    """Boxes of tokens."""

    centres: Tensor

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.token = nn.Linear(width, 4)
        nn.init.zeros_(self.token.weight)
        self.outline = nn.Sequential(
            nn.Linear(features, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, 4),
        )
        last = self.outline[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        side = torch.logit(torch.tensor(_USUAL_SIDE))
        with torch.no_grad():
            self.token.bias.copy_(torch.stack([torch.zeros(()), torch.zeros(()), side, side]))
        at = (torch.arange(GRID, dtype=torch.float32, device="cpu") + 0.5) / GRID
        y, x = torch.meshgrid(at, at, indexing="ij")
        self.register_buffer("centres", torch.stack([x, y], -1).reshape(CELLS, 2), persistent=False)

    def boxes(self, tokens: Tensor, features: Tensor, hot: Tensor) -> Tensor:
        """What tokens tell that answer a question: tokens (..., n, d) as encoded, features (..., n, d_b) as
        remembered, hot (..., n, 49) cells one-hot -> cxcywh (..., n, 4), each near its cell."""
        # Answers must not teach outlines: the few boxes of a batch's questions drown what all tokens say.
        return self._placed(self.token(tokens) + self.outline(features).detach(), hot)

    def outlines(self, features: Tensor, hot: Tensor) -> Tensor:
        """What tokens tell whatever is asked: features (..., n, d_b), hot (..., n, 49) -> (..., n, 4)."""
        return self._placed(self.token.bias + self.outline(features), hot)

    def _placed(self, told: Tensor, hot: Tensor) -> Tensor:
        centre = hot @ self.centres + torch.tanh(told[..., :2]) / GRID
        return torch.cat([centre, torch.sigmoid(told[..., 2:])], -1)


class TimedPlaces(Places):
    """Boxes of tokens, and of steps from those that are close in time."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__(width, features)
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
