"""Transformer layers: normalised after each block, ReLU feed-forward, positions on queries and keys only.

B batch, Q query tokens, K key tokens, d model width, H heads, E = d / H.

Layer layout and parameter counts are those of TubeDETR (4 d^2 + 2 d ffn an encoder layer, 8 d^2 + 2 d ffn a
decoder layer), written anew. All attention goes through torch's scaled_dot_product_attention: the exporter
replaces that operator by what each backend runs fused. There is no dropout on attention weights: no fused CPU
kernel has it, and drawing them took a quarter of a training step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -1e4
"""Bias of a key that must not be seen: its weight is exactly 0 beside any visible key, and it fits float16.

Finite, so that a row whose keys are all masked gives a mean instead of NaN.
"""


def make_key_bias(valid: Tensor) -> Tensor:
    """Turn valid (B, K) bool into a bias (B, K) float32: 0 where valid, else MASKED."""
    return (~valid).float() * MASKED


class Attention(nn.Module):
    """Multi-head attention with a bias for each key."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor) -> Tensor:
        """query (B, Q, d), key and value (B, K, d), key_bias (B, K) -> (B, Q, d)."""
        q, k, v = self._split(query, key, value)
        bias = key_bias.to(q.dtype)[:, None, None, :]  # (B, 1, 1, K)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self._join(seen)

    def with_weights(
        self, query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute `forward` without a fused kernel; return also the weights (B, H, Q, K).

        Only for few queries: the weights are materialised.
        """
        q, k, v = self._split(query, key, value)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, Q, K)
        weights = torch.softmax(scores + key_bias[:, None, None, :], dim=-1)
        return self._join(weights.to(v.dtype) @ v), weights

    def attend_single(self, query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor) -> Tensor:
        """Compute `forward` for N sequences with a single query token each: query (N, d), others (N, K, ...).

        Keys and values stay as they are; the query is taken to them through the transposed key projection and
        their mean back through the value's: 2 d^2 + 2 H K d multiplications instead of 2 K d^2. Gives (N, d).
        """
        count, width = query.shape
        heads = (self.heads, width // self.heads)
        q = self.query(query).view(count, *heads) * heads[1] ** -0.5  # (N, H, E)
        sought = torch.einsum("nhe,hed->nhd", q, self.key.weight.view(*heads, width))
        # The key's own bias moves all scores of a head alike: without effect, but a parameter of the graph.
        level = (q * self.key.bias.view(heads)).sum(-1, keepdim=True)  # (N, H, 1)
        scores = sought @ key.transpose(1, 2) + level  # (N, H, K)
        weights = torch.softmax(scores + key_bias.to(scores.dtype)[:, None], dim=-1)
        mean = weights.to(value.dtype) @ value  # (N, H, d)
        seen = torch.einsum("nhd,hed->nhe", mean, self.value.weight.view(*heads, width))
        seen = seen + self.value.bias.view(heads) * weights.sum(-1, keepdim=True)  # (N, H, E)
        joined: Tensor = self.out(seen.flatten(1))
        return joined

    def _split(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._heads(self.query(query)), self._heads(self.key(key)), self._heads(self.value(value))

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)  # (B, H, Q, E)

    def _join(self, x: Tensor) -> Tensor:
        # A copy, whatever the kernel's strides: an exported view of them would not fit another kernel's.
        rows = x.transpose(1, 2).clone(memory_format=torch.contiguous_format)  # (B, Q, H, E)
        joined: Tensor = self.out(rows.flatten(2))  # (B, Q, d)
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
        self.attention = Attention(width, heads)
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
        self.steps = Attention(width, heads)
        self.steps_norm = nn.LayerNorm(width)
        self.cross = Attention(width, heads)
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
        """Compute `forward`; return also the cross-attention's weights (B, H, Q, K)."""
        x = self._attend_steps(x, query, step_bias)
        crossed, weights = self.cross.with_weights(x + query, keys, values, key_bias)
        return self._finish(x, crossed), weights

    def attend_aligned(
        self, x: Tensor, query: Tensor, step_bias: Tensor, keys: Tensor, values: Tensor, key_bias: Tensor
    ) -> Tensor:
        """Compute `forward` with each step attending to its own keys only (TubeDETR's time-aligned
        cross-attention).

        x, query (B, Q, d), step_bias (B, Q), keys, values (B, Q, K, d), key_bias (B, Q, K) -> (B, Q, d).
        """
        x = self._attend_steps(x, query, step_bias)
        queries = (x + query).flatten(0, 1)  # (B Q, d)
        crossed = self.cross.attend_single(
            queries, keys.flatten(0, 1), values.flatten(0, 1), key_bias.flatten(0, 1)
        )
        return self._finish(x, crossed.view_as(x))

    def _attend_steps(self, x: Tensor, query: Tensor, step_bias: Tensor) -> Tensor:
        placed = x + query
        normed: Tensor = self.steps_norm(x + self.dropout(self.steps(placed, placed, x, step_bias)))
        return normed

    def _finish(self, x: Tensor, crossed: Tensor) -> Tensor:
        out: Tensor = self.feed_forward(self.cross_norm(x + self.dropout(crossed)))
        return out
