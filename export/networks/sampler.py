"""The sampler: scores how much each candidate token deserves one of the memory's m slots.

B batch, N = m + clip candidates, d_b backbone width, d model width.
"""

from __future__ import annotations

from torch import Tensor, nn

from engines.network_config import NetworkConfig
from export.networks.attention import EncoderLayer, make_key_bias
from export.networks.clip_entries import EntryMaker, require_input
from export.networks.positions import CellCode, encode_cells
from export.networks.strangeness import Strangeness


class Sampler(nn.Module):
    """Scores all candidates together, so that one of two similar tokens can be dropped.

    It gets no time: a score must not depend on when something happened (LVM-Net adds positions after
    sampling). It may get the cell, added to the token itself and not only to queries and keys: with a single
    layer the scorer would otherwise never see which cell a token is from.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.d_model
        self.project = nn.Linear(config.d_backbone, width)
        self.norm = nn.LayerNorm(width)
        self.cells = CellCode(width, config.grid) if config.sampler_cell_code else None
        self.grid = config.grid
        self.novelty = nn.Linear(1, width) if config.sampler_novelty else None
        self.layers = self.make_layers(config)
        self.score = nn.Linear(width, 1)
        self.memory_tokens = config.memory_tokens
        self.entry = EntryMaker(config) if config.queues else None
        self.strangeness = Strangeness(config.appearance) if config.appearance else None

    @staticmethod
    def make_layers(config: NetworkConfig) -> nn.ModuleList:
        """Make the layers that mix the candidates."""
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
        """Compute the graph's outputs; with queues, also the clip's entry. clip_tick (B, N - m) int32 counts
        from its first.

        Outputs are those of `export.networks.signatures`, a single one for itself.
        """
        score, after = self.score_candidates(features, valid, cell, novelty, sampler_state)
        state = () if after is None else (after,)
        # A slice over both axes would make the exporter rename the graph's input.
        clip = (1, self.memory_tokens, features.shape[1] - self.memory_tokens)
        strange: tuple[Tensor, ...] = ()
        if self.strangeness is not None:
            tick = require_input(clip_tick, "clip_tick")
            strange = (self.strangeness(features.narrow(*clip), tick, valid.narrow(*clip)),)
        if self.entry is None:
            return (score, *strange, *state) if strange or state else score
        entry = self.entry(
            features.narrow(*clip),
            valid.narrow(*clip),
            require_input(clip_tick, "clip_tick"),
            require_input(cell, "cell").narrow(*clip),
            require_input(novelty, "novelty").narrow(*clip),
        )
        return (score, *strange, *entry, *state)

    def score_candidates(
        self,
        features: Tensor,
        valid: Tensor,
        cell: Tensor | None = None,
        novelty: Tensor | None = None,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Score features (B, N, d_b), valid (B, N) bool, cell (B, N) int32, novelty (B, N). Return the score
        (B, N) and the next state, None for a sampler without state.

        Novelty arrives standardised and squashed to (-1, 1). Invalid tokens influence no other; their own
        score means nothing.
        """
        x, bias = self.embed(features, cell, novelty), make_key_bias(valid)  # (B, N, d), (B, N)
        for layer in self.layers:
            x = layer(x, None, bias)
        score: Tensor = self.score(x).squeeze(-1)  # (B, N)
        return score, None

    def embed(self, features: Tensor, cell: Tensor | None, novelty: Tensor | None) -> Tensor:
        """Embed each candidate on its own: token, cell and novelty. (B, N, d)"""
        x: Tensor = self.norm(self.project(features))
        if self.cells is not None:
            x = x + self.cells(encode_cells(require_input(cell, "cell"), self.grid))
        if self.novelty is not None:
            x = x + self.novelty(require_input(novelty, "novelty").unsqueeze(-1))
        return x
