"""TinyMem in a detection head: a small transformer over a clip's regions whose layers read past clips.

Letters: B clips, R regions, l entries, n tokens of an entry, T text slots, W width of a description, C
activities, d width.

The kinds of memory, each an entry a clip, l entries every s clips:

    text     the clip's likeliest activities in words, without a captioner (`memory.recurrent_state`)
    captions a captioner's texts about its frames, where the data folder has captions.jsonl
    region   the features of its boxes (RoI)
    tokens   learned region tokens of the whole clip
    dense    all its tokens, compressed: MeMViT's memory, the baseline

Text and region together have a layer each. The words come from a classifier of regions without
any memory, trained on the same videos first; learned tokens are trained first, too. Both are frozen then, so
entries of the past never go stale.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.memory.recurrent_state import read_offsets, share_slots
from engines.errors import LvmError
from export.bundle.class_embeddings import embed_descriptions
from export.networks.attention import make_key_bias
from export.networks.clip_entries import count_compressed
from export.papers.detection.captions import vary_caption
from export.papers.detection.clips import Index, RegionVideo
from export.papers.detection.head import DetectionHead, HeadRecipe, MemoryPart, ReadPast
from export.papers.detection.region_tokens import RegionTokens, fit_region_tokens, replace_regions
from export.papers.detection.train import predict, train_head
from export.papers.networks.dense_memory import DenseProjection, count_dense_tokens
from export.papers.networks.memory_attention import (
    Entries,
    MemoryKeys,
    MemoryProjection,
    Reach,
    attend,
    make_layer_plan,
    score_memory,
)

Source = Literal["text", "captions", "region", "tokens", "dense"]
_HEADS = 4


@dataclass(frozen=True)
class TinyMemRule:
    """The memories: their sources, number of entries, every how many clips; `slots` T and `classes` K of
    text, `regions` of learned tokens, `layers` of which `share` read a memory."""

    sources: tuple[Source, ...] = ("text", "region")
    length: int = 12
    stride: int = 1
    slots: int = 4
    classes: int = 5
    regions: int = 16
    layers: int = 4
    share: float = 0.5
    text_width: int = 512
    pipelined: bool = True
    """Whether dense memory learns its compression from the newest entry alone, as MeMViT does."""


class PastEntries(NamedTuple):
    """The entries before each of B clips; what a head does not read has no tokens."""

    text: Tensor  # (B, l, T) int64 classes, or (B, l, frames, W) of captions
    region: Tensor  # (B, l, n, d)
    dense: Tensor  # (B, l, frames, 49, d)
    valid: Tensor  # (B, l)


class TinyMem(MemoryPart):
    """The regions of a clip attend to one another and, in half of the layers, to entries of past clips.

    `doing` (C) describe the activities; `regions` R and `frames` are those of a clip.
    """

    table: Tensor

    def __init__(
        self, width: int, doing: Sequence[str], rule: TinyMemRule, *, regions: int = 6, frames: int = 2
    ) -> None:
        super().__init__()
        self.rule = rule
        self.regions, self.frames = regions, frames
        table = embed_descriptions(doing, rule.text_width) * rule.text_width**0.5
        self.register_buffer("table", torch.from_numpy(table), persistent=False)  # (C, W)
        self.plan = _make_plan(rule)
        reach = Reach(rule.length, rule.stride, frames)
        of_clip = {"region": regions, "tokens": rule.regions}
        self.memories = nn.ModuleDict()
        for layer, source in self.plan.items():
            if source in ("text", "captions"):
                slots, spread = (rule.slots, False) if source == "text" else (frames, True)
                memory: nn.Module = MemoryProjection(
                    rule.text_width, width, _HEADS, reach, slots, spread=spread
                )
            elif source == "dense":
                memory = DenseProjection(width, _HEADS, reach, pipelined=rule.pipelined)
            else:
                memory = MemoryProjection(width, width, _HEADS, reach, of_clip[source], spread=False)
            self.memories[str(layer)] = memory
        self.layers = nn.ModuleList(_Layer(width) for _ in range(rule.layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)  # training starts from the head without memory
        nn.init.zeros_(self.out.bias)
        self._encoder = _EntryEncoder(width, len(doing), rule, frames)

    def prepare(self, videos: Sequence[RegionVideo], recipe: HeadRecipe) -> None:
        """Train what makes entries of clips; afterwards it is frozen."""
        self._encoder.prepare(videos, recipe, set(self.plan.values()))

    def watch(self, video: RegionVideo) -> ReadPast:
        return self._encoder.encode(video, set(self.plan.values()), training=self.training)

    def tokens_read(self) -> int:
        """Count the memory tokens of a clip by our definition: keys of past clips, added over the layers."""
        each = {
            "text": count_compressed(self.rule.slots),
            "captions": count_compressed(self.frames),
            "region": count_compressed(self.regions),
            "tokens": count_compressed(self.rule.regions),
            "dense": count_dense_tokens(self.frames),
        }
        return sum(self.rule.length * each[source] for source in self.plan.values())

    def forward(self, regions: Tensor, valid: Tensor, past: PastEntries) -> Tensor:
        x, bias = regions, make_key_bias(valid)
        for number, layer in enumerate(self.layers):
            x = layer(x, bias, self._keys(number, past), self.frames)
        added: Tensor = self.out(self.norm(x))
        return added

    def _keys(self, number: int, past: PastEntries) -> MemoryKeys | None:
        source = self.plan.get(number)
        if source is None:
            return None
        memory = self.memories[str(number)]
        keys: MemoryKeys
        if source == "text":
            keys = memory(Entries(past.text, past.valid), self.table)
        else:
            tokens = {"captions": past.text, "dense": past.dense}.get(source, past.region)
            keys = memory(Entries(tokens, past.valid))
        return keys


class _Layer(nn.Module):
    """Pre-norm attention, also to memory if there is one, and MLP."""

    def __init__(self, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, memory: MemoryKeys | None, frames: int) -> Tensor:
        """x (B, R, d), bias (B, R) -> (B, R, d)."""
        count, regions, width = x.shape
        split = self.qkv(self.norm1(x)).view(count, regions, 3, _HEADS, width // _HEADS)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # (B, H, R, E) each
        scale = q.shape[-1] ** -0.5
        scores, of_memory = (scale * q) @ k.transpose(-1, -2) + bias[:, None, None], None
        if memory is not None:
            # Regions belong to the clip's newest frame.
            frame = torch.full((regions,), frames - 1)
            of_memory = score_memory(q, frame, torch.ones(regions, dtype=torch.bool), memory, scale)
        seen = attend(scores, v, of_memory, memory).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.proj(seen))
        out: Tensor = x + self.dropout(self.outer(functional.gelu(self.inner(self.norm2(x)))))
        return out


class _EntryEncoder:
    """Makes entries of videos. Not trained with the head."""

    def __init__(self, width: int, activities: int, rule: TinyMemRule, frames: int) -> None:
        self._rule, self._frames, self._width = rule, frames, width
        self._labels = DetectionHead(width, activities)
        self._tokens = RegionTokens(width, rule.regions, frames).eval()

    def prepare(self, videos: Sequence[RegionVideo], recipe: HeadRecipe, sources: set[Source]) -> None:
        if "text" in sources:
            train_head(self._labels, videos, recipe)
        if "tokens" in sources:
            fit_region_tokens(self._tokens, videos, recipe)

    def encode(self, video: RegionVideo, sources: set[Source], *, training: bool) -> ReadPast:
        nothing = np.zeros((len(video), 0), np.float32)
        text: NDArray[np.generic] = nothing
        if "text" in sources:
            text = encode_activities(self._labels, video, self._rule)
        elif "captions" in sources:
            text = encode_captions(video, self._rule.text_width, training=training)
        region: NDArray[np.float32] = nothing
        if "region" in sources:
            region = video.features
        elif "tokens" in sources:
            region = replace_regions(self._tokens, video).features
        return _make_reader(text, region, video.tokens if "dense" in sources else nothing, self._rule)


def encode_activities(labels: DetectionHead, video: RegionVideo, rule: TinyMemRule) -> NDArray[np.int64]:
    """Return the text entry of each clip without a captioner: classes (n, T).

    Probabilities of the regions, averaged over those that are there; the annotated boxes stand for a detector
    that is certain of each. The K likeliest classes share T slots by largest remainder.
    """
    likely = predict(labels, video)  # (n, R, C), 0 where there is no region
    mean = likely.sum(1) / np.maximum(video.valid.sum(1), 1)[:, None]
    return np.stack([share_slots(shares, rule.slots, rule.classes) for shares in mean]).astype(np.int64)


def encode_captions(video: RegionVideo, width: int, *, training: bool) -> NDArray[np.float32]:
    """Return the text entry of each clip from a captioner's words: (n, frames, W), 0 where there are none.

    In training some captions are varied. Raises LvmError where there are none.
    """
    if video.captions is None:
        raise LvmError(f"captions of {video.name} expected for a memory of captions: write captions.jsonl")
    rng = np.random.default_rng(zlib.crc32(video.name.encode()))
    spoken = [text for clip in video.captions for text in clip]
    texts = [vary_caption(text, rng) for text in spoken] if training else spoken
    kinds, place = np.unique(texts, return_inverse=True)
    rows = embed_descriptions([str(kind) for kind in kinds], width) * np.float32(width**0.5)
    return np.asarray(rows[place].reshape(len(video), -1, width), np.float32)


def _make_reader(
    text: NDArray[np.generic], region: NDArray[np.generic], dense: NDArray[np.generic], rule: TinyMemRule
) -> Callable[[Index], PastEntries]:
    back = read_offsets(rule.length, rule.stride)

    def before(clips: Index) -> PastEntries:
        at = clips[:, None] - back  # (B, l)
        valid = at >= 0
        at = np.maximum(at, 0)

        def read(of_clips: NDArray[np.generic], dtype: torch.dtype) -> Tensor:
            values = of_clips[at]
            values[~valid] = 0
            return torch.from_numpy(values).to(dtype)

        return PastEntries(
            read(text, torch.float32 if text.dtype == np.float32 else torch.int64),
            read(region, torch.float32),
            read(dense, torch.float32),
            torch.from_numpy(valid),
        )

    return before


def _make_plan(rule: TinyMemRule) -> dict[int, Source]:
    if not rule.sources:
        return {}
    text_sources = [source for source in rule.sources if source in ("text", "captions")]
    if len(rule.sources) == 2 and len(text_sources) == 1 and "region" in rule.sources:
        plan = make_layer_plan(rule.layers, ("text", "region"), share=rule.share)
        return {layer: "region" if kind == "region" else text_sources[0] for layer, kind in plan.items()}
    (source,) = rule.sources
    return dict.fromkeys(make_layer_plan(rule.layers, ("dense",), share=rule.share), source)
