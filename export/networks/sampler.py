"""The sampler: how much each candidate token deserves one of the memory's m slots.

B batch, N = m + clip candidates, d_b backbone width, d model width.
"""

from __future__ import annotations

from torch import Tensor, nn

from engines.network_config import NetworkConfig
from export.networks.attention import EncoderLayer, bias_of
from export.networks.clip_entries import EntryMaker
from export.networks.positions import CellCode, one_hot_cells


class Sampler(nn.Module):
    """Scores all candidates together, so that one of two alike tokens can be let go.

    It gets no time: a score must not depend on when something happened (LVM-Net adds positions after
    sampling). It may get the cell, added to the token itself and not only to queries and keys, because with a
    single layer the scorer would otherwise never see which place a token itself is from.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.project = nn.Linear(config.d_backbone, width)
        self.norm = nn.LayerNorm(width)
        self.cells = CellCode(width) if config.sampler_cell_code else None
        self.novelty = nn.Linear(1, width) if config.sampler_novelty else None
        self.layers = self.make_layers(config)
        self.score = nn.Linear(width, 1)
        self.memory_tokens = config.memory_tokens
        self.entry = EntryMaker(config) if config.queues else None

    @staticmethod
    def make_layers(config: NetworkConfig) -> nn.ModuleList:
        """What mixes the candidates."""
        return nn.ModuleList(
            EncoderLayer(config.d_model, config.heads, config.ffn, config.dropout)
            for _ in range(config.sampler_layers)
        )

    def forward(
        self,
        features: Tensor,
        valid: Tensor,
        cell: Tensor | None = None,
        novelty: Tensor | None = None,
        clip_tick: Tensor | None = None,
        sampler_state: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """As `judged`, with queues the clip's entry between; clip_tick (B, N - m) int32 since its first.

        Outputs are those of `export.networks.signatures`, a single one for itself.
        """
        score, after = self.judged(features, valid, cell, novelty, sampler_state)
        state = () if after is None else (after,)
        if self.entry is None:
            return (score, *state) if state else score
        # A slice over both axes would make the exporter rename the graph's input.
        clip = (1, self.memory_tokens, features.shape[1] - self.memory_tokens)
        entry = self.entry(
            features.narrow(*clip),
            valid.narrow(*clip),
            _given(clip_tick, "clip_tick"),
            _given(cell, "cell").narrow(*clip),
            _given(novelty, "novelty").narrow(*clip),
        )
        return (score, *entry, *state)

    def judged(
        self,
        features: Tensor,
        valid: Tensor,
        cell: Tensor | None = None,
        novelty: Tensor | None = None,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """features (B, N, d_b), valid (B, N) bool, cell (B, N) int32, novelty (B, N) -> score (B, N), and the
        next state of those who carry one.

        Novelty arrives standardised and squashed to (-1, 1). Invalid tokens influence no other; their own
        score means nothing.
        """
        x, bias = self.embed(features, cell, novelty), bias_of(valid)  # (B, N, d), (B, N)
        for layer in self.layers:
            x = layer(x, None, bias)
        score: Tensor = self.score(x).squeeze(-1)  # (B, N)
        return score, None

    def embed(self, features: Tensor, cell: Tensor | None, novelty: Tensor | None) -> Tensor:
        """Each candidate alone: its token, where it is and how novel. (B, N, d)"""
        x: Tensor = self.norm(self.project(features))
        if self.cells is not None:
            x = x + self.cells(one_hot_cells(_given(cell, "cell")))
        if self.novelty is not None:
            x = x + self.novelty(_given(novelty, "novelty").unsqueeze(-1))
        return x


def _given(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise ValueError(f"{name} expected by this configuration, got None")
    return tensor
