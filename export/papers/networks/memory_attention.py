"""Attention that reads past clips: keys and values of their entries before those of the clip itself.

B batch, H heads, E = d / H, Q queries, l entries, n tokens of an entry, M = l ceil(n / 2) memory tokens,
d width of a layer, T frames of a clip.

TinyMem, sections "memory augmented attention" and "relative positions":

    K' = [P_k(M); K],  V' = [P_v(M); V],  softmax((Q K'^T + [R' | R]) / sqrt(E)) V'

with R'_ij = Q_i . r(distance in time), a table of its own beside the network's. P_k and P_v are one depthwise
convolution each over the tokens of an entry, so entries can be projected once; one LayerNorm serves both.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edge_runtime.memory.recurrent_state import queue_length, read_offsets
from export.networks.attention import MASKED, make_key_bias
from export.networks.clip_entries import EntryCompression, count_compressed

Kind = Literal["text", "region", "dense"]


class Entries(NamedTuple):
    """Entries of past clips as they are read, newest first."""

    tokens: Tensor  # (B, l, n, d_in)
    valid: Tensor  # (B, l) bool


class MemoryKeys(NamedTuple):
    """What one attention layer reads beside its own clip."""

    k: Tensor  # (B, H, M, E)
    v: Tensor  # (B, H, M, E)
    bias: Tensor  # (B, M)
    positions: Tensor  # (reach, E) table of distances in time
    distance: Tensor  # (T, M) index into it for each frame of the clip


class Reach(NamedTuple):
    """How far a memory reaches: l entries, every s-th clip, clips of T frames."""

    length: int
    stride: int
    frames: int

    @property
    def distances(self) -> int:
        """Number of possible distances in frames: the oldest entry's first frame to a clip's last."""
        return (queue_length(self.length, self.stride) + 1) * self.frames


def make_frame_distances(reach: Reach, tokens: int, spread: bool) -> Tensor:
    """Return the frames from each memory token to each frame of the clip, (T, l tokens) int64, at least 1.

    A token of an entry that is `spread` over its clip stands for its share of the frames (the caption of a
    frame, a slice of a dense memory); otherwise it stands for the whole clip and counts as its middle.
    """
    back = read_offsets(reach.length, reach.stride)[None, :, None]  # (1, l, 1) clips
    step = reach.frames / tokens
    inside = np.arange(tokens) * step + (step - 1) / 2 if spread else np.full(tokens, reach.frames / 2)
    inside = np.floor(np.clip(inside, 0, reach.frames - 1)).astype(np.int64)  # frame that it stands for
    now = np.arange(reach.frames)[:, None, None]
    apart = back * reach.frames + now - inside  # (T, l, tokens)
    return torch.from_numpy(np.ascontiguousarray(apart.reshape(reach.frames, -1), np.int64))


class MemoryProjection(nn.Module):
    """Projects entries of one kind of memory to keys and values of one attention layer.

    A linear layer matches their width where it is another one (text: 512).
    """

    distance: Tensor

    def __init__(
        self,
        d_in: int,
        width: int,
        heads: int,
        reach: Reach,
        tokens: int,
        *,
        spread: bool,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.match = nn.Linear(d_in, width) if d_in != width or bias else None
        self.keys = EntryCompression(width)
        self.values = EntryCompression(width)
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(torch.zeros(reach.distances, width // heads))
        nn.init.trunc_normal_(self.positions, std=0.02)
        distance = make_frame_distances(reach, count_compressed(tokens), spread)
        self.register_buffer("distance", distance, persistent=False)  # (T, M)

    def forward(self, entries: Entries, table: Tensor | None = None) -> MemoryKeys:
        """Project tokens (B, l, n, d_in), valid (B, l); with a `table` (C, d_in), tokens (B, l, n) are its
        rows."""
        x = entries.tokens if table is None else table
        if self.match is not None:
            x = self.match(x)
        if table is not None:
            x = x[entries.tokens]  # (B, l, n, d)
        k, v = self.norm(self.keys(x)), self.norm(self.values(x))  # (B, l, ceil(n / 2), d)
        bias = make_key_bias(entries.valid)[..., None].expand(-1, -1, k.shape[2]).flatten(1)  # (B, M)
        return MemoryKeys(self._heads(k), self._heads(v), bias, self.positions, self.distance)

    def _heads(self, x: Tensor) -> Tensor:
        flat = x.flatten(1, 2)  # (B, M, d)
        split = flat.reshape(*flat.shape[:2], self.heads, -1)
        return split.transpose(1, 2)  # (B, H, M, E)


def score_memory(q: Tensor, frame: Tensor, placed: Tensor, memory: MemoryKeys, scale: float) -> Tensor:
    """Return scores (B, H, Q, M) of the memory's keys for queries q (B, H, Q, E).

    `frame` (Q,) is the frame of the clip in which a query is, `placed` (Q,) False where it is in none, as a
    class token: that one has no relative positions, as it has none in the network's own attention.
    """
    scores = (scale * q) @ memory.k.transpose(-1, -2)  # (B, H, Q, M)
    distance = memory.distance[frame]  # (Q, M)
    table = memory.positions[distance]  # (Q, M, E)
    relative = torch.einsum("bhqe,qme->bhqm", q * placed[:, None].to(q.dtype), table)
    return scores + scale * relative + memory.bias.to(q.dtype)[:, None, None]


def attend(
    scores: Tensor, v: Tensor, of_memory: Tensor | None, memory: MemoryKeys | None, regions: int = 0
) -> Tensor:
    """Apply softmax over memory and clip, (B, H, Q, E).

    scores (B, H, Q, K), v (B, H, K, E), of_memory (B, H, Q, M). The last `regions` of queries and keys are
    region tokens: they attend to everything, and the clip's own tokens do not attend to them. So a network
    answers as it did without any; in the paper, which trains them from the start, all attend to all.
    """
    if regions:
        hidden = scores.new_zeros(scores.shape[2:])
        hidden[: scores.shape[2] - regions, scores.shape[3] - regions :] = MASKED
        scores = scores + hidden
    if memory is None or of_memory is None:
        return scores.softmax(dim=-1) @ v
    weights = torch.cat([of_memory, scores], -1).softmax(dim=-1)  # (B, H, Q, M + K)
    return weights @ torch.cat([memory.v, v], 2)


def make_layer_plan(
    layers: int, kinds: tuple[Kind, ...], *, share: float = 0.5, of_regions: float | None = None
) -> dict[int, Kind]:
    """Choose which layers read which memory, by layer number.

    `share` of the layers, evenly spread, the last one among them. Text and region together: region memory on
    the last of them and text on the rest, or region on the last `of_regions` of them (TinyMem: 0.75 where
    videos are long and of one procedure). One kind alone is on all of them. They never take turns: region
    memory in early layers helped nothing there.
    """
    if not 0 < share <= 1 or not kinds:
        raise ValueError(f"share must be in (0, 1] and kinds not empty, got {share} and {kinds}")
    count = max(1, round(layers * share))
    chosen = [layers - 1 - (layers * back) // count for back in range(count)][::-1]
    if set(kinds) != {"text", "region"}:
        if len(kinds) != 1:
            raise ValueError(f"kinds must be one alone or text and region, got {', '.join(kinds)}")
        return {layer: kinds[0] for layer in chosen}
    regions = 1 if of_regions is None else min(max(1, round(count * of_regions)), max(count - 1, 1))
    return {layer: "region" if place >= count - regions else "text" for place, layer in enumerate(chosen)}


class RollingEntries:
    """The queue of a batch whose rows go on through videos: entries of another video are masked, then gone.

    For training on clips in order. Entries are kept without gradient.
    """

    def __init__(self, reach: Reach, tokens: int, width: int) -> None:
        self._reach, self._shape = reach, (tokens, width)
        self._entries: list[tuple[Tensor, list[str]]] = []  # oldest first: (B, n, d), the video of each row

    def push(self, tokens: Tensor, videos: list[str]) -> None:
        """Add the clip's entry, (B, n, d), and the video of each row."""
        self._entries.append((tokens.detach(), list(videos)))
        del self._entries[: -queue_length(self._reach.length, self._reach.stride)]

    def read(self, videos: list[str], like: Tensor) -> Entries:
        """Return what the next clip of each row's video reads; `like` gives dtype and device."""
        nothing = like.new_zeros(len(videos), *self._shape)
        tokens, valid = [], []
        for back in read_offsets(self._reach.length, self._reach.stride).tolist():
            there = back <= len(self._entries)
            entry, whose = self._entries[-back] if there else (nothing, [""] * len(videos))
            same = torch.tensor([there and a == b for a, b in zip(whose, videos, strict=True)])
            tokens.append(torch.where(same[:, None, None].to(entry.device), entry, nothing))
            valid.append(same)
        return Entries(torch.stack(tokens, 1), torch.stack(valid, 1).to(like.device))
