"""The reader: answers one query from the memory; one network for all three kinds of query.

B batch, n memory tokens (memory and recency buffer), r rank of the SVD, L steps, C activities, d_b backbone
width, d model width, k memory tokens that are read, l entries of the queues, q tokens of them,
K = k + r + q + 49 + 1 encoder tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.network_config import NetworkConfig
from export.networks.appearance_match import AppearanceMatch
from export.networks.attention import DecoderLayer, EncoderLayer, make_key_bias
from export.networks.clip_entries import QueueTokens
from export.networks.heads import (
    UNANSWERABLE,
    Heads,
    ProductSimilarity,
    ReaderOutput,
    ReadTokens,
    average_valid,
    scatter_outputs,
)
from export.networks.positions import CellCode, RelativeTime, TickCode, encode_cells


class Context(NamedTuple):
    """The encoded tokens that the decoder reads."""

    tokens: Tensor  # (B, K, d)
    position: Tensor  # (B, K, d)
    bias: Tensor  # (B, K)


class Reader(nn.Module):
    """LVM-Net's encoder and decoder over a memory, with the query as masked inputs.

    Our additions to the paper: pooled object fusion, SVD tokens, presence, pointer and evidence outputs.
    Every decoder step attends to all tokens that are read, because memory tokens are not aligned with frames;
    alignment comes from the tick code that keys and queries share. Of a large memory only the k tokens most
    relevant to the question are read: encoder and decoder cost the square of what they read.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.read_tokens = config.read_tokens
        self.embed = Embedding(config)
        self.queues = QueueTokens(config) if config.queues else None
        self.match = AppearanceMatch(config.appearance, width, config.grid) if config.appearance else None
        self.relevance = Relevance(width) if config.reader_candidates else None
        self.order = RelativeTime(width) if config.order else None
        self.ticks = TickCode(width, config.tick_base)
        self.grid = config.grid
        self.cells = CellCode(width, config.grid)
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
        queue_text: Tensor | None = None,
        queue_region: Tensor | None = None,
        queue_tick: Tensor | None = None,
        queue_valid: Tensor | None = None,
        memory_bias: Tensor | None = None,
    ) -> ReaderOutput:
        """Answer a batch of queries.

        memory_features (B, n, d_b), memory_tick and memory_cell (B, n) int32, memory_valid (B, n) bool,
        object_tokens (B, 49, d_b), object_valid (B,) bool, activity (B, C), activity_valid (B,) bool,
        query_tick (B, L) int32, query_valid (B, L) bool, svd_basis (B, r, d_b), svd_strength (B, r) with 0
        for an absent row, queue_text (B, l, T) int32, queue_region (B, l, R, d_b), queue_tick (B, l) int32,
        queue_valid (B, l) bool, memory_bias (B, n) added to the attention scores of memory tokens (training
        only). What the context lacks stays None.
        """
        question = self.embed.embed_question(
            svd_basis, svd_strength, object_tokens, object_valid, activity, activity_valid
        )
        if self.queues is not None:
            question = question.prepend_queues(
                *self.queues(queue_valid, queue_tick, queue_text, queue_region)
            )
        memory = self.embed.memory(
            memory_features, encode_cells(memory_cell, self.grid), question, object_valid
        )
        cosine = None
        if self.match is not None:
            cosine = self.match.compare(memory_features, memory_valid, object_tokens, object_valid)
            memory = memory + self.match.embed(cosine)
        relevance, chosen = None, None
        memory_weight = make_key_bias(memory_valid)  # (B, n)
        if memory_bias is not None:
            memory_weight = memory_weight + memory_bias
        if self.relevance is not None:
            relevance = self.relevance(memory, question.activity, activity_valid)  # (B, n)
            chosen = _select_relevant(relevance, memory_valid, self.read_tokens)  # (B, k)
            # The score by which a token is chosen also weighs it, so that answers teach the choice.
            # As softplus: onnxruntime's sigmoid ends at -18, so the log of it is -inf below.
            memory_weight = memory_weight - functional.softplus(-relevance)
        valid = _gather(memory_valid, chosen)  # (B, k)
        bias = torch.cat([_gather(memory_weight, chosen), make_key_bias(question.valid)], dim=1)  # (B, K)
        k = valid.shape[1]
        hot = encode_cells(_gather(memory_cell, chosen), self.grid)  # (B, k, 49)
        tick = _gather(memory_tick, chosen)  # (B, k)
        own = _gather(memory, chosen) + self.embed.kind[0]  # (B, k, d)
        if self.order is not None:
            weight = torch.zeros_like(memory_weight) if relevance is None else relevance
            own = own + self.order(own, tick, _gather(weight, chosen), valid)
        tokens = torch.cat([own, question.tokens], dim=1)  # (B, K, d)
        position = self._positions(tick, hot, question)  # (B, K, d)
        encoded = self.encode(tokens, position, bias)
        steps, weights = self.decode(Context(encoded, position, bias), query_tick, query_valid)
        # Average weights (B, H, L, n) over heads and valid steps (B, L): (B, n).
        shares = average_valid(weights[..., :k].mean(1), query_valid)  # (B, k)
        evidence = shares * valid.float()  # exactly 0 also where every key is masked
        apart = query_tick[:, :, None] - tick[:, None]  # (B, L, k)
        read = ReadTokens(encoded[:, :k], _gather(memory_features, chosen), hot, valid, evidence, apart)
        if relevance is not None:
            read = read._replace(relevance=_gather(relevance, chosen))
        if self.match is not None and cosine is not None:
            near = cosine if chosen is None else _gather(cosine.mT, chosen).mT  # (B, p, k)
            read = read._replace(match=self.match.point(near, tick, valid))
        heads: ReaderOutput = self.heads(steps, query_valid, read)
        return scatter_outputs(heads, chosen, memory_features.shape[1])._replace(relevance=relevance)

    def encode(self, tokens: Tensor, position: Tensor, bias: Tensor) -> Tensor:
        """Encode tokens and position (B, K, d), bias (B, K) as (B, K, d)."""
        for layer in self.encoder:
            tokens = layer(tokens, position, bias)
        return tokens

    def decode(self, context: Context, query_tick: Tensor, query_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Decode query_tick and query_valid (B, L) to steps (B, L, d) and the last cross-attention (B, H, L,
        K)."""
        query = self.ticks(query_tick) + self.query  # (B, L, d)
        keys = context.tokens + context.position
        step_bias = make_key_bias(query_valid)
        x = torch.zeros_like(query)
        weights = x
        for index, layer in enumerate(self.decoder):
            assert isinstance(layer, DecoderLayer)
            inputs = (x, query, step_bias, keys, context.tokens, context.bias)
            if index + 1 < len(self.decoder):
                x = layer(*inputs)
            else:
                x, weights = layer.with_weights(*inputs)
        return self.decoder_norm(x), weights

    def _positions(self, memory_tick: Tensor, hot: Tensor, question: Question) -> Tensor:
        """Return the positions (B, K, d) of memory_tick (B, k), hot (B, k, 49) and the question; SVD and
        activity have none."""
        memory = self.ticks(memory_tick) + self.cells(hot)  # (B, k, d)
        batch, tokens, width = question.tokens.shape
        queued = 0 if question.tick is None else question.tick.shape[1]
        cells = self.grid * self.grid
        rank = tokens - queued - cells - 1
        objects = self.cells.table.expand(batch, cells, width)
        parts = [memory, objects, memory.new_zeros(batch, 1, width)]
        if question.tick is not None:
            parts.insert(1, self.ticks(question.tick))
        if rank:
            parts.insert(1 + (question.tick is not None), memory.new_zeros(batch, rank, width))
        return torch.cat(parts, dim=1)


class Question(NamedTuple):
    """The encoder tokens of the question, q + r + 50: queues, SVD summary, object, activity."""

    tokens: Tensor  # (B, q + r + 50, d)
    valid: Tensor  # (B, q + r + 50)
    object: Tensor  # (B, 49, d)
    identity: Tensor | None  # (B, e)
    activity: Tensor  # (B, d)
    tick: Tensor | None = None  # (B, q)

    def prepend_queues(self, tokens: Tensor, valid: Tensor, tick: Tensor) -> Question:
        """Put tokens (B, q, d) of the queues, with valid and tick (B, q), before all others."""
        return self._replace(
            tokens=torch.cat([tokens, self.tokens], 1), valid=torch.cat([valid, self.valid], 1), tick=tick
        )


class Embedding(nn.Module):
    """Makes encoder tokens: memory times object, SVD summary, the object's own 49 tokens, the activity."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.pooled = config.object_fusion == "pooled"
        self.project = nn.Linear(config.d_backbone, width)
        self.norm = nn.LayerNorm(width)
        self.fuse = nn.Linear(width, width) if self.pooled else None
        self.likeness = ProductSimilarity(config.d_backbone, width) if config.likeness else None
        self.activity = nn.Linear(config.activities, width)
        rank = config.summary_rank
        self.svd = nn.Linear(config.d_backbone, width) if rank else None
        self.rank = nn.Parameter(torch.randn(rank, width) * 0.02) if rank else None
        self.kind = nn.Parameter(torch.randn(4, width) * 0.02)  # memory, svd, object, activity

    def embed_question(
        self,
        basis: Tensor | None,
        strength: Tensor | None,
        objects: Tensor,
        object_valid: Tensor,
        activity: Tensor,
        activity_valid: Tensor,
    ) -> Question:
        """Make the question's tokens; arguments as in `Reader.forward`."""
        o = self.norm(self.project(objects))  # (B, 49, d)
        a = self.activity(activity)  # (B, d)
        tokens = [o + self.kind[2], a[:, None] + self.kind[3]]
        valid = [object_valid[:, None].expand(-1, o.shape[1]), activity_valid[:, None]]
        if self.svd is not None:
            # Embed basis (B, r, d_b) and strength (B, r) as (B, r, d).
            if basis is None or strength is None or self.svd is None or self.rank is None:
                raise ValueError("svd_basis and svd_strength expected by this configuration, got None")
            summary: Tensor = self.svd(basis) * strength[..., None] + self.rank + self.kind[1]
            tokens.insert(0, summary)
            assert strength is not None
            valid.insert(0, strength > 0)
        identity = self.likeness.embed(objects.mean(1)) if self.likeness is not None else None  # (B, e)
        return Question(torch.cat(tokens, dim=1), torch.cat(valid, dim=1), o, identity, a)

    def memory(self, features: Tensor, hot: Tensor, question: Question, object_valid: Tensor) -> Tensor:
        """Multiply memory by object and add their similarity: features (B, n, d_b), hot (B, n, 49) -> (B, n,
        d)."""
        z = self.norm(self.project(features))  # (B, n, d)
        fused: Tensor = z * self._factor(question.object, hot, object_valid)
        if self.likeness is not None and question.identity is not None:
            present = object_valid.to(z.dtype)[:, None, None]  # (B, 1, 1)
            fused = fused + present * self.likeness(features, question.identity)
        return fused

    def _factor(self, o: Tensor, hot: Tensor, object_valid: Tensor) -> Tensor:
        """Return what memory is multiplied by, (B, n, d) or (B, 1, d): o (B, 49, d), hot (B, n, 49)."""
        present = object_valid.to(o.dtype)[:, None, None]  # (B, 1, 1)
        if self.fuse is not None:
            # The place of a product in its photo is unrelated to its place in the scene: use the mean.
            factor: Tensor = self.fuse(o.mean(1, keepdim=True))
            return 1 + present * factor
        return 1 + present * (hot.to(o.dtype) @ o - 1)


class Relevance(nn.Module):
    """Scores how relevant each remembered token is to a question; the only part computed for all of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.activity = nn.Linear(width, width)
        self.hidden = nn.Linear(width, width // 2)
        self.score = nn.Linear(width // 2, 1)

    def forward(self, memory: Tensor, activity: Tensor, activity_valid: Tensor) -> Tensor:
        """Score memory (B, n, d), already multiplied by the object: activity (B, d), activity_valid (B,) ->
        (B, n)."""
        present = activity_valid.to(activity.dtype)[:, None]  # (B, 1)
        fused = memory * (1 + present * self.activity(activity))[:, None]  # (B, n, d)
        score: Tensor = self.score(torch.relu(self.hidden(fused))).squeeze(-1)
        return score


def _select_relevant(relevance: Tensor, valid: Tensor, count: int) -> Tensor:
    """Return the indices (B, count) of the most relevant valid tokens, best first: relevance and valid (B,
    n)."""
    return relevance.masked_fill(~valid, UNANSWERABLE).topk(count, dim=1).indices


def _gather(values: Tensor, chosen: Tensor | None) -> Tensor:
    """Take the rows `chosen` (B, k), or all, of values (B, n) or (B, n, d): (B, k) or (B, k, d)."""
    if chosen is None:
        return values
    if values.dim() == 2:
        return values.gather(1, chosen)
    return values.gather(1, chosen[..., None].expand(-1, -1, values.shape[2]))
