"""Long videos as one sequence of tokens: ViS4mer's stack of state-space layers, and S5's masks before it.

B batch, L tokens of a video (frame by frame), d_b token width, d width of the first layer, K kept tokens.

ViS4mer (Islam and Bertasius, 2022): LayerNorm, S4, GELU, gated linear, residual, then pooling by two and a
linear layer to half the width; some such blocks (three there), the mean over what is left. S5 (Wang et al.,
"Selective Structured State-Spaces for Long-Form Video Understanding", 2023) shows it a part of the tokens
only: a mask generator scores them, from the tokens themselves or from features of a momentum copy of the
first S4 layer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from export.networks.attention import EncoderLayer
from export.networks.s4 import S4D
from export.training.lvm.relaxed_topk import capped_simplex, gumbel_like

Mask = Literal["none", "random", "linear", "transformer", "stacked"]
Mixer = Literal["s4", "attention"]
STACKED_LAYERS = 2
"""Transformer layers of the stacked generator."""
_HEADS = 4


@dataclass(frozen=True)
class LongformConfig:
    """`hidden` is the share of tokens that the stack does not see; with `features` masks are made from S4
    features, of a copy that follows with `momentum`."""

    token_width: int
    width: int = 64
    blocks: int = 2
    mask: Mask = "linear"
    features: bool = True
    hidden: float = 0.5
    momentum: float = 0.99
    mixer: Mixer = "s4"
    states: int = 16
    dropout: float = 0.1

    @property
    def out(self) -> int:
        """Width of a video's vector."""
        return self.width >> self.blocks


class MixingBlock(nn.Module):
    """Mixes the tokens (by S4, or by attention for comparison), then halves their number and their width."""

    def __init__(self, width: int, config: LongformConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.space = S4D(width, config.states, two_sided=True) if config.mixer == "s4" else None
        self.attention = None
        if self.space is None:
            self.attention = EncoderLayer(width, _HEADS, 2 * width, config.dropout)
        self.mix = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(config.dropout)
        self.halve = nn.Linear(width, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Mix x (B, L, d) to (B, L / 2, d / 2)."""
        if self.space is not None:
            gated = nn.functional.glu(self.mix(nn.functional.gelu(self.space(self.norm(x)))), -1)
            x = x + self.dropout(gated)
        else:
            assert self.attention is not None
            x = self.attention(self.norm(x), None, x.new_zeros(x.shape[:2]))
        pooled = nn.functional.avg_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
        return nn.functional.gelu(self.halve(pooled))


class MaskGenerator(nn.Module):
    """Scores tokens (B, L, d): (B, L)."""

    def __init__(self, width: int, kind: Mask) -> None:
        super().__init__()
        layers = {"linear": 0, "transformer": 1, "stacked": STACKED_LAYERS}[kind]
        self.layers = nn.ModuleList(EncoderLayer(width, _HEADS, 2 * width, 0.0) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, None, x.new_zeros(x.shape[:2]))
        score: Tensor = self.score(self.norm(x)).squeeze(-1)
        return score


class LongformNet(nn.Module):
    """Turns a video's tokens (B, L, d_b) into a vector (B, out)."""

    def __init__(self, config: LongformConfig) -> None:
        super().__init__()
        self.config = config
        # Most of a token is common to all videos: unless that is removed, nothing is learned in 150 steps.
        self.common = nn.BatchNorm1d(config.token_width, affine=False)
        self.embed = nn.Sequential(nn.Linear(config.token_width, config.width), nn.LayerNorm(config.width))
        self.blocks = nn.ModuleList(
            MixingBlock(config.width >> number, config) for number in range(config.blocks)
        )
        learned = config.mask not in ("none", "random")
        self.generator = MaskGenerator(config.width, config.mask) if learned else None
        self.before: nn.Module | None = None
        if learned and config.features:
            self.before = copy.deepcopy(self._first_block())
            self.before.requires_grad_(False)

    def forward(
        self, tokens: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Run the stack. `generator` draws random masks; in evaluation learned masks take the best tokens
        without noise."""
        x = self.embed(self.common(tokens.transpose(1, 2)).transpose(1, 2))  # (B, L, d)
        if self.config.mask != "none":
            x = self._keep_tokens(x, temperature, generator)
        for block in self.blocks:
            x = block(x)
        seen: Tensor = x.mean(1)
        return seen

    def update_copy(self) -> None:
        """Update the copy after each training step: m copy + (1 - m) original."""
        if self.before is None:
            return
        with torch.no_grad():
            for own, of_stack in zip(self.before.parameters(), self._first_block().parameters(), strict=True):
                own.mul_(self.config.momentum).add_(of_stack, alpha=1 - self.config.momentum)

    def _first_block(self) -> nn.Module:
        block = self.blocks[0]
        assert isinstance(block, MixingBlock)
        if block.space is None:
            raise ValueError("attention has no S4 features to make masks from: set features=False")
        return nn.Sequential(block.norm, block.space)

    def _make_features(self, x: Tensor) -> Tensor:
        """Return the generator's input: tokens, or features through which no gradient goes. (B, L, d)"""
        if self.before is None:
            return x
        with torch.no_grad():
            seen: Tensor = self.before(x)
        return seen

    def _keep_tokens(self, x: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
        """Select K tokens of x (B, L, d) in their order (B, K, d), the same with and without training."""
        count = x.shape[1]
        k = max(1 << self.config.blocks, round((1 - self.config.hidden) * count))
        if self.generator is None:
            chosen = torch.rand(x.shape[:2], generator=generator).to(x.device).topk(k, 1).indices
            return _gather(x, chosen.sort(1).values)
        scores = self.generator(self._make_features(x))  # (B, L)
        keys = scores + gumbel_like(scores) if self.training else scores
        chosen = keys.detach().argsort(dim=1, descending=True, stable=True)[:, :k].sort(1).values
        tokens = _gather(x, chosen)
        if not self.training:
            return tokens
        share = capped_simplex(keys, k, temperature, torch.ones_like(keys, dtype=torch.bool))
        weight = share.gather(1, chosen)[..., None]
        return tokens * (1 + weight - weight.detach())  # straight through


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Take the tokens index (B, K) of x (B, L, d): (B, K, d)."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
