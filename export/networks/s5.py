"""A sampler of linear cost: state-space layers over candidates in order of time, with a recurrent state.

B batch, m memory slots, K clip candidates, N = m + K, H model width, S states of a channel, D layers.

The layer of Selective S4 (ViS4mer's block without pooling, because every token needs a score): LayerNorm,
S4D, GELU, gated linear, residual. It reads the candidates in the order in which they happened: the memory's
tokens, then the clip's. The score of a token depends on the memory before it (a scan that begins with zeros);
for the clip's tokens, on what the stream showed before the clip, retained or not (the recurrent state); and
on what comes after it, memory or clip (the layer's other side, from the newest token backwards).

The recurrent state takes in each token once, with its clip. Remembered tokens are scored again with every
clip but never enter the state again: it would otherwise count a token as often as it was retained, and
describe the sampler's own choices instead of the stream.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engines.network_config import NetworkConfig
from export.networks.clip_entries import require_input
from export.networks.s4 import S4D, Chunks, choose_chunk_size
from export.networks.sampler import Sampler


class S5Sampler(Sampler):
    """`Sampler` with state-space layers instead of attention."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.last = nn.LayerNorm(config.d_model)

    @staticmethod
    def make_layers(config: NetworkConfig) -> nn.ModuleList:
        return nn.ModuleList(
            S5Layer(config.d_model, config.sampler_states, config.dropout)
            for _ in range(config.sampler_layers)
        )

    def score_candidates(
        self,
        features: Tensor,
        valid: Tensor,
        cell: Tensor | None = None,
        novelty: Tensor | None = None,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Score as `Sampler` does, with a state (B, D, H, S) from clip to clip.

        Slots are in order of time, as are the clip's tokens. Invalid tokens are silence: they take their time
        but add nothing.
        """
        x = self.embed(features, cell, novelty)  # (B, N, H)
        there = valid.to(x.dtype).unsqueeze(-1)
        state = require_input(state, "sampler_state")
        states = []
        for place, layer in enumerate(self.layers):
            x, after = layer(x, there, state.select(1, place), self.memory_tokens)
            states.append(after)
        score: Tensor = self.score(self.last(x)).squeeze(-1)  # (B, N)
        return score, torch.stack(states, 1)


class S5Layer(nn.Module):
    """LayerNorm, two-sided S4D, GELU, gated linear; added to the input."""

    def __init__(self, width: int, states: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.space = S4D(width, states, two_sided=True)
        self.mix = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, there: Tensor, state: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Mix x (B, N, H), there (B, N, 1) 0 or 1, state (B, H, S): return (B, N, H) and the next state."""
        y, after = scan_memory_and_clip(self.space, self.norm(x) * there, slots, state)
        mixed, width = self.mix(nn.functional.gelu(y)), x.shape[2]
        gated = mixed[..., :width] * torch.sigmoid(mixed[..., width:])
        return x + self.dropout(gated), after


def scan_memory_and_clip(layer: S4D, u: Tensor, slots: int, state: Tensor) -> tuple[Tensor, Tensor]:
    """Run a two-sided layer over memory and clip, u (B, m + K, H), from the stream's state (B, H, S).

    Return y (B, m + K, H) and the stream's state after the clip, which does not include the memory.
    """
    size = choose_chunk_size(u.shape[1] - slots)
    front = -slots % size  # silence before the oldest token changes nothing
    if front:
        u = nn.functional.pad(u, (0, 0, front, 0))
    before_clip = (slots + front) // size
    chunks = u.shape[1] // size
    form = Chunks(layer, size)
    parts = form.split(u)
    added = form.add_inputs(parts, chunks)  # (H, 2, S, B, c)
    of_memory, end = form.scan(added[:, 0, ..., :before_clip], None)
    of_stream, after = form.scan(added[:, 0, ..., before_clip:], state.permute(1, 2, 0).unsqueeze(-1))
    of_clip = of_stream + form.decay(end, chunks - before_clip)
    later, _ = form.scan(added[:, 1].flip(-1), None)
    y = form.outputs(parts, [torch.cat([of_memory, of_clip], -1), later.flip(-1)], chunks)
    return y[:, front:], after.squeeze(-1).permute(2, 0, 1)
