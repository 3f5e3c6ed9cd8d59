"""Transformer layers: normalised after each block, ReLU feed-forward, positions on queries and keys only.

B batch, Q query tokens, K key tokens, d model width, H heads, E = d / H.

Layer layout and parameter counts are those of TubeDETR (4 d^2 + 2 d ffn an encoder layer, 8 d^2 + 2 d ffn
a decoder layer), written anew. Attention goes through torch's scaled_dot_product_attention and nothing
else: the exporter replaces that one operator by what each backend runs fused.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -1e4
"""Bias of a key that must not be seen: its weight is exactly 0 beside any seen key, and it fits float16.

Finite, so that a row whose keys are all masked gives a mean instead of NaN.
"""


def bias_of(valid: Tensor) -> Tensor:
    """valid (B, K) bool -> (B, K) float32: 0 where valid, else MASKED."""
    return (~valid).float() * MASKED


class Attention(nn.Module):
    """Multi-head attention with a bias for each key."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor) -> Tensor:
        """query (B, Q, d), key and value (B, K, d), key_bias (B, K) -> (B, Q, d)."""
        q, k, v = self._split(query, key, value)
        bias = key_bias.to(q.dtype)[:, None, None, :]  # (B, 1, 1, K)
        dropout = self.dropout if self.training else 0.0
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return self._join(seen)

    def with_weights(
        self, query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, computed plainly; returns also the weights before dropout (B, H, Q, K).

        Only for few queries: the weights are materialised.
        """
        q, k, v = self._split(query, key, value)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, Q, K)
        weights = torch.softmax(scores + key_bias[:, None, None, :], dim=-1)
        dropped = functional.dropout(weights, self.dropout, self.training)
        return self._join(dropped.to(v.dtype) @ v), weights

    def _split(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._heads(self.query(query)), self._heads(self.key(key)), self._heads(self.value(value))

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)  # (B, H, Q, E)

    def _join(self, x: Tensor) -> Tensor:
        joined: Tensor = self.out(x.transpose(1, 2).flatten(2))  # (B, Q, d)
        return joined


class FeedForward(nn.Module):
    """Linear, ReLU, Linear; added to the input and normalised."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, Q, d) -> (B, Q, d)."""
        hidden = self.dropout(functional.relu(self.inner(x)))  # (B, Q, ffn)
        normed: Tensor = self.norm(x + self.dropout(self.outer(hidden)))
        return normed


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)

    def forward(self, x: Tensor, position: Tensor | None, key_bias: Tensor) -> Tensor:
        """x and position (B, K, d), key_bias (B, K) -> (B, K, d)."""
        placed = x if position is None else x + position
        x = self.norm(x + self.dropout(self.attention(placed, placed, x, key_bias)))
        out: Tensor = self.feed_forward(x)
        return out


class DecoderLayer(nn.Module):
    """Self-attention over the steps, cross-attention to the encoder's tokens, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.steps = Attention(width, heads, dropout)
        self.steps_norm = nn.LayerNorm(width)
        self.cross = Attention(width, heads, dropout)
        self.cross_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)

    def forward(
        self, x: Tensor, query: Tensor, step_bias: Tensor, keys: Tensor, values: Tensor, key_bias: Tensor
    ) -> Tensor:
        """x, query (B, Q, d), step_bias (B, Q), keys, values (B, K, d), key_bias (B, K) -> (B, Q, d)."""
        x = self._attend_steps(x, query, step_bias)
        return self._finish(x, self.cross(x + query, keys, values, key_bias))

    def with_weights(
        self, x: Tensor, query: Tensor, step_bias: Tensor, keys: Tensor, values: Tensor, key_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward`; returns also the cross-attention's weights (B, H, Q, K)."""
        x = self._attend_steps(x, query, step_bias)
        crossed, weights = self.cross.with_weights(x + query, keys, values, key_bias)
        return self._finish(x, crossed), weights

    def _attend_steps(self, x: Tensor, query: Tensor, step_bias: Tensor) -> Tensor:
        placed = x + query
        normed: Tensor = self.steps_norm(x + self.dropout(self.steps(placed, placed, x, step_bias)))
        return normed

    def _finish(self, x: Tensor, crossed: Tensor) -> Tensor:
        out: Tensor = self.feed_forward(self.cross_norm(x + self.dropout(crossed)))
        return out
