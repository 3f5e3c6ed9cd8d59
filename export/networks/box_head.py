"""Predict boxes from the cells of the tokens that answer a question.

B batch, L steps, n tokens, d model width, d_b backbone width.

A linear layer on decoder steps (TubeDETR) memorises the layout of the training rooms: after 40 rooms, recall
at vIoU 0.3 in four unseen rooms was .04, .48, .51 and .03. Here each token predicts a box relative to its own
cell. A step takes the mean over the tokens that answer it and are close in time (the reference point of
Conditional DETR, Meng et al. 2021, section 3.3), and the linear layer only corrects that.

The size of a product and its place in the cell do not depend on the question: a small network on the
remembered token predicts them, and every token that shows any product can teach it. Learned from questions
alone, a step has boxes of two dozen connected events, and 2,000 steps left a mean vIoU of .34, on training
rooms as on others; a single token reaches .45 through one linear layer and .56 through three.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.network_config import GRID

_USUAL_SIDE = 0.12
"""Side of a box before training, as a share of the picture."""
_HIDDEN = 128
"""Hidden width of the product box network, whatever the width of the reader: a box is four numbers."""
_RIM = 1e-3
"""Reference boxes keep this distance from 0 and 1, so that their logit is finite."""
_FAR_TICKS = 1000
"""Beyond this distance all tokens count as equally far from a step."""


class BoxHead(nn.Module):
    """Predicts a box for each token."""

    centres: Tensor

    def __init__(self, width: int, features: int, grid: int = GRID) -> None:
        super().__init__()
        self.grid = grid
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
        at = (torch.arange(grid, dtype=torch.float32, device="cpu") + 0.5) / grid
        y, x = torch.meshgrid(at, at, indexing="ij")
        self.register_buffer("centres", torch.stack([x, y], -1).reshape(grid * grid, 2), persistent=False)

    def predict_boxes(self, tokens: Tensor, features: Tensor, hot: Tensor) -> Tensor:
        """Predict the boxes of tokens that answer a question.

        tokens (..., n, d) as encoded, features (..., n, d_b) as remembered, hot (..., n, 49) cells one-hot ->
        cxcywh (..., n, 4), each near its cell.
        """
        # Answers must not teach product boxes: their few boxes would outweigh those of all tokens.
        return self._to_cxcywh(self.token(tokens) + self.outline(features).detach(), hot)

    def predict_product_boxes(self, features: Tensor, hot: Tensor) -> Tensor:
        """Predict boxes of the product that each token shows, whatever is asked: features (..., n, d_b), hot
        (..., n, 49) -> cxcywh (..., n, 4)."""
        return self._to_cxcywh(self.token.bias + self.outline(features), hot)

    def _to_cxcywh(self, raw: Tensor, hot: Tensor) -> Tensor:
        centre = hot @ self.centres + torch.tanh(raw[..., :2]) / self.grid
        return torch.cat([centre, torch.sigmoid(raw[..., 2:])], -1)


class TimedBoxHead(BoxHead):
    """Predicts boxes of tokens, and pools them for each step from the tokens that are close in time."""

    def __init__(self, width: int, features: int, grid: int = GRID) -> None:
        super().__init__(width, features, grid)
        self.haste = nn.Parameter(torch.zeros(()))
        """By how much of its weight a token loses for each tick that it is away (through softplus)."""

    def pool_boxes(self, boxes: Tensor, logits: Tensor, apart: Tensor) -> Tensor:
        """Average boxes (B, n, 4) for each step: logits (B, n) of answering, apart (B, L, n) ticks between ->
        (B, L, 4)."""
        ticks = apart.abs().clamp(max=_FAR_TICKS).float()
        share = torch.softmax(logits[:, None] - functional.softplus(self.haste) * ticks, -1)  # (B, L, n)
        return share @ boxes


def correct_boxes(reference: Tensor, correction: Tensor) -> Tensor:
    """Move reference boxes (..., 4) by a correction (..., 4) on the logit scale; the result is in (0, 1)."""
    inside = reference.clamp(_RIM, 1 - _RIM)
    return torch.sigmoid(torch.log(inside / (1 - inside)) + correction)
