"""Output heads of the reader: one linear layer for each output, and the similarity to a product.

B batch, n memory tokens, L steps, C activities, d model width, d_b backbone width, k memory tokens that are
read, e width of an identity.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.network_config import NetworkConfig
from export.networks.box_head import TimedBoxHead, correct_boxes

UNANSWERABLE = -1e9
"""Logit of a step or token that is absent."""
_TOKEN_OUTPUTS = {"pointer_logits": UNANSWERABLE, "pointer_offsets": 0.0, "evidence": 0.0}
"""Outputs of tokens, and their values for tokens that are not read."""
_MAX_RELEVANCE = 20.0
"""Beyond this logit either way a token is as relevant as any."""
IDENTITY = 64
"""Width of the space in which a backbone learns to recognise a product, whatever its own width."""


class ReaderOutput(NamedTuple):
    activity_logits: Tensor  # (B, C)
    boxes_cxcywh: Tensor  # (B, L, 4) in (0, 1)
    start_logits: Tensor  # (B, L)
    end_logits: Tensor  # (B, L)
    pointer_logits: Tensor  # (B, n)
    pointer_offsets: Tensor  # (B, n, 2) seconds before and after the token, >= 0
    presence_logit: Tensor  # (B,)
    evidence: Tensor  # (B, n) share of attention
    relevance: Tensor | None = None  # (B, n) by which tokens were chosen; None where all are read


class ReadTokens(NamedTuple):
    """The memory tokens that were read."""

    tokens: Tensor  # (B, k, d) as encoded
    features: Tensor  # (B, k, d_b) as remembered
    cells: Tensor  # (B, k, 49) one-hot
    valid: Tensor  # (B, k)
    evidence: Tensor  # (B, k)
    apart: Tensor  # (B, L, k) ticks from step to token
    match: Tensor | None = None  # (B, k) added to the pointer's logits
    relevance: Tensor | None = None  # (B, k) logits


class Heads(nn.Module):
    """One linear layer for each output; boxes start from the cells of the tokens that answer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.activity = nn.Linear(width, config.activities)
        self.presence = nn.Linear(width, 1)
        self.best_relevance = BestRelevance() if config.best_relevance else None
        self.box = nn.Linear(width, 4)
        nn.init.zeros_(self.box.weight)
        nn.init.zeros_(self.box.bias)
        self.span = nn.Linear(width, 2)
        self.pointer = nn.Linear(width, 3)
        self.places = TimedBoxHead(width, config.d_backbone, config.grid)

    def forward(self, steps: Tensor, query_valid: Tensor, read: ReadTokens) -> ReaderOutput:
        """Compute all outputs from steps (B, L, d) and query_valid (B, L) bool."""
        pooled = average_valid(steps, query_valid)  # (B, d)
        start, end = self.span(steps).unbind(-1)  # (B, L) each
        pointer = self.pointer(read.tokens)  # (B, k, 3)
        points = pointer[..., 0] if read.match is None else pointer[..., 0] + read.match
        answers = points.masked_fill(~read.valid, UNANSWERABLE)  # (B, k)
        # Without any valid token the absent ones come in arbitrary order; they must not predict a box.
        there = read.valid.to(steps.dtype)[..., None]  # (B, k, 1)
        places = self.places.predict_boxes(read.tokens, read.features, read.cells) * there  # (B, k, 4)
        reference = self.places.pool_boxes(places, answers, read.apart)  # (B, L, 4)
        presence = self.presence(pooled).squeeze(-1)  # (B,)
        if self.best_relevance is not None and read.relevance is not None:
            presence = presence + self.best_relevance(read.relevance, read.valid)
        return ReaderOutput(
            activity_logits=self.activity(pooled),
            boxes_cxcywh=correct_boxes(reference, self.box(steps)),
            start_logits=start.masked_fill(~query_valid, UNANSWERABLE),
            end_logits=end.masked_fill(~query_valid, UNANSWERABLE),
            pointer_logits=answers,
            pointer_offsets=functional.softplus(pointer[..., 1:]),
            presence_logit=presence,
            evidence=read.evidence,
        )


class BestRelevance(nn.Module):
    """Adds to presence how relevant the most relevant token is, and all together; zero at first.

    What never happened has no token that is relevant to it. Relevance is learned token by token, from far
    more examples than questions have; the average over decoder steps hardly tells one such token from none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Linear(2, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, relevance: Tensor, valid: Tensor) -> Tensor:
        """Return what is added to the presence (B,): relevance logits (B, k) of valid (B, k) tokens."""
        logits = relevance.clamp(-_MAX_RELEVANCE, _MAX_RELEVANCE).masked_fill(~valid, -_MAX_RELEVANCE)
        best = torch.stack([logits.amax(1), logits.logsumexp(1)], dim=-1)  # (B, 2)
        added: Tensor = self.weigh(best / _MAX_RELEVANCE)
        return added.squeeze(-1)


def scatter_outputs(heads: ReaderOutput, chosen: Tensor | None, slots: int) -> ReaderOutput:
    """Put the outputs of the k tokens that were read back on the n slots; the others get neutral values."""
    if chosen is None:
        return heads
    outputs = heads._asdict()
    return heads._replace(
        **{name: _scatter(outputs[name], chosen, slots, nothing) for name, nothing in _TOKEN_OUTPUTS.items()}
    )


def _scatter(values: Tensor, chosen: Tensor, slots: int, nothing: float) -> Tensor:
    """Put values (B, k) or (B, k, d) at `chosen` (B, k) of (B, slots) or (B, slots, d); `nothing`
    elsewhere."""
    shape = (chosen.shape[0], slots, *values.shape[2:])  # len() would fix the batch of an exported graph
    at = chosen if values.dim() == 2 else chosen[..., None].expand(-1, -1, values.shape[2])
    return values.new_full(shape, nothing).scatter(1, at, values)


def average_valid(steps: Tensor, valid: Tensor) -> Tensor:
    """Average steps (B, L, d) over the valid ones (B, L): (B, d), zeros where no step is valid."""
    weight = valid.to(steps.dtype)[..., None]  # (B, L, 1)
    return (steps * weight).sum(1) / weight.sum(1).clamp(min=1)


class ProductSimilarity(nn.Module):
    """Adds the cosine of two identities along a learned direction to the reader's tokens; zero at first.

    LVM-Net fuses the features of a token and a photo by a product, which layers have to learn to read as
    similarity; they learn from questions, about the products of some dozen videos. The backbone has learned
    the same from endless pictures, so its head that tells products apart (InfoNCE) goes into the reader
    unchanged.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        # Not learned here: what the videos' few products have in common is not what makes a product.
        self.identity = nn.Linear(features, IDENTITY).requires_grad_(False)
        self.direction = nn.Parameter(torch.zeros(width))

    def embed(self, features: Tensor) -> Tensor:
        """Embed features (..., d_b) as identities (..., e) of length 1."""
        return functional.normalize(self.identity(features), dim=-1)

    def forward(self, features: Tensor, identity: Tensor) -> Tensor:
        """Return what is added to the tokens (B, n, d): features (B, n, d_b), identity (B, e) of the product
        in question."""
        cosine = self.embed(features) @ identity[..., None]  # (B, n, 1)
        return cosine * self.direction
