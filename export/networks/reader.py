"""The reader: one query and the memory become an answer; one network for all three kinds of query.

B batch, n memory tokens (memory and recency buffer), r rank of the SVD, L steps, C activities, d_b backbone
width, d model width, K = n + r + 49 + 1 encoder tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.manifest import CELLS, NetworkConfig
from export.networks.attention import DecoderLayer, EncoderLayer, bias_of
from export.networks.positions import CellCode, TickCode, one_hot_cells

UNANSWERABLE = -1e9
"""Logit of a step or token that is not there."""


class ReaderOutput(NamedTuple):
    activity_logits: Tensor  # (B, C)
    boxes_cxcywh: Tensor  # (B, L, 4) in (0, 1)
    start_logits: Tensor  # (B, L)
    end_logits: Tensor  # (B, L)
    pointer_logits: Tensor  # (B, n)
    pointer_offsets: Tensor  # (B, n, 2) seconds before and after the token, >= 0
    presence_logit: Tensor  # (B,)
    evidence: Tensor  # (B, n) share of attention


class Context(NamedTuple):
    """What the decoder reads."""

    tokens: Tensor  # (B, K, d)
    position: Tensor  # (B, K, d)
    bias: Tensor  # (B, K)


class Reader(nn.Module):
    """LVM-Net's encoder and decoder over a memory, with the query as masked inputs.

    Ours beside the paper: pooled object fusion, SVD tokens, presence, pointer and evidence outputs. Every
    decoder step attends to all tokens, as memory tokens are not aligned with frames; alignment comes from the
    tick code that keys and queries share.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.memory_tokens = config.reader_tokens
        self.embed = Embedding(config)
        self.ticks = TickCode(width, config.tick_base)
        self.cells = CellCode(width)
        layer = (width, config.heads, config.ffn, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.heads = Heads(config)

    def forward(
        self,
        *,
        memory_features: Tensor,
        memory_tick: Tensor,
        memory_cell: Tensor,
        memory_valid: Tensor,
        object_tokens: Tensor,
        object_valid: Tensor,
        activity: Tensor,
        activity_valid: Tensor,
        query_tick: Tensor,
        query_valid: Tensor,
        svd_basis: Tensor | None = None,
        svd_strength: Tensor | None = None,
        memory_bias: Tensor | None = None,
    ) -> ReaderOutput:
        """Answer a batch of queries.

        memory_features (B, n, d_b), memory_tick and memory_cell (B, n) int32, memory_valid (B, n) bool,
        object_tokens (B, 49, d_b), object_valid (B,) bool, activity (B, C), activity_valid (B,) bool,
        query_tick (B, L) int32, query_valid (B, L) bool, svd_basis (B, r, d_b), svd_strength (B, r) with 0
        for an absent row, memory_bias (B, n) added to the attention scores of memory tokens (training only).
        """
        hot = one_hot_cells(memory_cell)  # (B, n, 49)
        tokens, token_valid = self.embed(
            memory_features, hot, memory_valid, svd_basis, svd_strength,
            object_tokens, object_valid, activity, activity_valid,
        )  # fmt: skip
        position = self._positions(memory_tick, hot, tokens)  # (B, K, d)
        bias = bias_of(token_valid)  # (B, K)
        if memory_bias is not None:
            bias = bias + functional.pad(memory_bias, (0, bias.shape[1] - memory_bias.shape[1]))
        encoded = self.encode(tokens, position, bias)
        steps, weights = self.decode(Context(encoded, position, bias), query_tick, query_valid)
        shares = share_of_attention(weights[..., : self.memory_tokens], query_valid)  # (B, n)
        evidence = shares * memory_valid.float()  # exactly 0 also where every key is masked
        remembered = encoded[:, : self.memory_tokens]  # (B, n, d)
        output: ReaderOutput = self.heads(steps, query_valid, remembered, memory_valid, evidence)
        return output

    def encode(self, tokens: Tensor, position: Tensor, bias: Tensor) -> Tensor:
        """tokens and position (B, K, d), bias (B, K) -> (B, K, d)."""
        for layer in self.encoder:
            tokens = layer(tokens, position, bias)
        return tokens

    def decode(self, context: Context, query_tick: Tensor, query_valid: Tensor) -> tuple[Tensor, Tensor]:
        """query_tick and query_valid (B, L) -> steps (B, L, d), last cross-attention (B, H, L, K)."""
        query = self.ticks(query_tick) + self.query  # (B, L, d)
        keys = context.tokens + context.position
        step_bias = bias_of(query_valid)
        x = torch.zeros_like(query)
        weights = x
        for index, layer in enumerate(self.decoder):
            assert isinstance(layer, DecoderLayer)
            given = (x, query, step_bias, keys, context.tokens, context.bias)
            if index + 1 < len(self.decoder):
                x = layer(*given)
            else:
                x, weights = layer.with_weights(*given)
        return self.decoder_norm(x), weights

    def _positions(self, memory_tick: Tensor, hot: Tensor, tokens: Tensor) -> Tensor:
        """memory_tick (B, n), hot (B, n, 49), tokens (B, K, d) -> (B, K, d); SVD and activity have none."""
        memory = self.ticks(memory_tick) + self.cells(hot)  # (B, n, d)
        batch, width = tokens.shape[0], tokens.shape[2]
        rank = tokens.shape[1] - self.memory_tokens - CELLS - 1
        objects = self.cells.table.expand(batch, CELLS, width)
        parts = [memory, objects, memory.new_zeros(batch, 1, width)]
        if rank:
            parts.insert(1, memory.new_zeros(batch, rank, width))
        return torch.cat(parts, dim=1)


class Embedding(nn.Module):
    """Encoder tokens: memory times object, SVD summary, the object's own 49 tokens, the activity."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.pooled = config.object_fusion == "pooled"
        self.project = nn.Linear(config.d_backbone, width)
        self.norm = nn.LayerNorm(width)
        self.fuse = nn.Linear(width, width) if self.pooled else None
        self.activity = nn.Linear(config.activities, width)
        self.svd = nn.Linear(config.d_backbone, width) if config.svd_rank else None
        self.rank = nn.Parameter(torch.randn(config.svd_rank, width) * 0.02) if config.svd_rank else None
        self.kind = nn.Parameter(torch.randn(4, width) * 0.02)  # memory, svd, object, activity

    def forward(
        self,
        memory: Tensor,
        hot: Tensor,
        memory_valid: Tensor,
        basis: Tensor | None,
        strength: Tensor | None,
        objects: Tensor,
        object_valid: Tensor,
        activity: Tensor,
        activity_valid: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Tensors as in `Reader.forward`, hot (B, n, 49) -> tokens (B, K, d), valid (B, K)."""
        o = self.norm(self.project(objects))  # (B, 49, d)
        z = self.norm(self.project(memory))  # (B, n, d)
        z = z * self._factor(o, hot, object_valid)
        tokens = [z + self.kind[0], o + self.kind[2], self.activity(activity)[:, None] + self.kind[3]]
        valid = [memory_valid, object_valid[:, None].expand(-1, CELLS), activity_valid[:, None]]
        if self.svd is not None:
            tokens.insert(1, self._summary(basis, strength))
            assert strength is not None
            valid.insert(1, strength > 0)
        return torch.cat(tokens, dim=1), torch.cat(valid, dim=1)

    def _factor(self, o: Tensor, hot: Tensor, object_valid: Tensor) -> Tensor:
        """o (B, 49, d), hot (B, n, 49) -> what memory is multiplied with, (B, n, d) or (B, 1, d)."""
        given = object_valid.to(o.dtype)[:, None, None]  # (B, 1, 1)
        if self.fuse is not None:
            # Where a product lies in its photo says nothing of its place in the room: only the mean counts.
            factor: Tensor = self.fuse(o.mean(1, keepdim=True))
            return 1 + given * factor
        return 1 + given * (hot.to(o.dtype) @ o - 1)

    def _summary(self, basis: Tensor | None, strength: Tensor | None) -> Tensor:
        """basis (B, r, d_b), strength (B, r) -> (B, r, d)."""
        if basis is None or strength is None or self.svd is None or self.rank is None:
            raise ValueError("svd_basis and svd_strength expected by this configuration, got None")
        summary: Tensor = self.svd(basis) * strength[..., None] + self.rank + self.kind[1]
        return summary


class Heads(nn.Module):
    """One linear layer for each output."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.activity = nn.Linear(width, config.activities)
        self.presence = nn.Linear(width, 1)
        self.box = nn.Linear(width, 4)
        self.span = nn.Linear(width, 2)
        self.pointer = nn.Linear(width, 3)

    def forward(
        self, steps: Tensor, query_valid: Tensor, memory: Tensor, memory_valid: Tensor, evidence: Tensor
    ) -> ReaderOutput:
        """steps (B, L, d), memory (B, n, d) as encoded, valid flags, evidence (B, n)."""
        pooled = mean_of_valid(steps, query_valid)  # (B, d)
        start, end = self.span(steps).unbind(-1)  # (B, L) each
        pointer = self.pointer(memory)  # (B, n, 3)
        return ReaderOutput(
            activity_logits=self.activity(pooled),
            boxes_cxcywh=torch.sigmoid(self.box(steps)),
            start_logits=start.masked_fill(~query_valid, UNANSWERABLE),
            end_logits=end.masked_fill(~query_valid, UNANSWERABLE),
            pointer_logits=pointer[..., 0].masked_fill(~memory_valid, UNANSWERABLE),
            pointer_offsets=functional.softplus(pointer[..., 1:]),
            presence_logit=self.presence(pooled).squeeze(-1),
            evidence=evidence,
        )


def mean_of_valid(steps: Tensor, valid: Tensor) -> Tensor:
    """steps (B, L, d), valid (B, L) -> (B, d); zeros where no step is valid."""
    weight = valid.to(steps.dtype)[..., None]  # (B, L, 1)
    return (steps * weight).sum(1) / weight.sum(1).clamp(min=1)


def share_of_attention(weights: Tensor, query_valid: Tensor) -> Tensor:
    """weights (B, H, L, n), query_valid (B, L) -> (B, n): mean over heads and valid steps."""
    return mean_of_valid(weights.mean(1), query_valid)
