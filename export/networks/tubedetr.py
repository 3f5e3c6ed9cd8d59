"""The baseline: TubeDETR, modified for the three kinds of query; it reads a window's frames for each of them.

B clips, T frames, k stride, S = ceil(T / k) slow frames, C activities, d_b backbone width, d model width, 50
query tokens (the object's 49 and the activity), K = 49 + 50 tokens a frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.network_config import CELLS, NetworkConfig
from export.networks.attention import DecoderLayer, EncoderLayer, bias_of
from export.networks.box_head import Places, corrected
from export.networks.heads import UNANSWERABLE, Heads, mean_of_valid
from export.networks.positions import CellCode, TickCode
from export.networks.reader import Embedding, Relevance

ASKED = CELLS + 1
"""Query tokens."""
_HEADS = ("activity", "presence", "box", "span", "pointer", "places")


class TubeOutput(NamedTuple):
    """The fields of `ReaderOutput` that a network without memory has; a step is a frame."""

    activity_logits: Tensor  # (B, C)
    boxes_cxcywh: Tensor  # (B, T, 4) in (0, 1)
    start_logits: Tensor  # (B, T)
    end_logits: Tensor  # (B, T)
    presence_logit: Tensor  # (B,)
    relevance: Tensor | None = None  # (B, S, 49) of the slow frames' tokens; None as in the reader


class TubeDETR(nn.Module):
    """TubeDETR with an object crop and an activity in place of text, and one linear layer for each head.

    Its modules have the names and shapes of the `Reader`'s, so that trained weights are the reader's initial
    ones: `reader.load_state_dict(tubedetr.state_dict(), strict=False)`. Only `fast` is its own; the
    reader's SVD tokens, queues and lateness have no counterpart; of the pointer only its logit is used, to
    weigh the cells of a frame. Tick codes are added to the keys although attention never leaves a frame here:
    the weights then know the keys that they will see in the reader. Where the reader weighs its tokens by
    relevance this network does, too, and is taught it by the same boxes. Finding the one cell of fifty by
    itself, it learned neither activities nor times in 5,000 steps; boxes alone did not mend that in 1,500,
    going on from a trained reader did (`tubedetr.from_start`).
    """

    def __init__(self, config: NetworkConfig, stride: int = 5) -> None:
        super().__init__()
        width = config.d_model
        self.stride = stride
        self.embed = Embedding(config.model_copy(update={"svd_rank": 0}))
        self.relevance = Relevance(width) if config.reader_candidates else None
        self.ticks = TickCode(width, config.tick_base)
        self.cells = CellCode(width)
        layer = (width, config.heads, config.ffn, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        heads = dict(Heads(config).named_children()) | {"places": Places(width, config.d_backbone)}
        self.heads = nn.ModuleDict({name: heads[name] for name in _HEADS})
        # Nothing at first, as TubeDETR's own residual: training starts from the slow branch alone.
        self.fast = nn.Linear(width, width)
        nn.init.zeros_(self.fast.weight)
        nn.init.zeros_(self.fast.bias)

    def forward(
        self,
        *,
        frames: Tensor,
        frame_tick: Tensor,
        frame_valid: Tensor,
        object_tokens: Tensor,
        object_valid: Tensor,
        activity: Tensor,
        activity_valid: Tensor,
    ) -> TubeOutput:
        """Answer one query for each clip.

        frames (B, T, 49, d_b) backbone tokens, frame_tick (B, T) int32, frame_valid (B, T) bool, true for
        the first frames of a clip and false for its padding, object_tokens (B, 49, d_b), object_valid (B,)
        bool, activity (B, C), activity_valid (B,) bool.
        """
        slow, relevance, seen = self._slow(
            frames, frame_tick, frame_valid, object_tokens, object_valid, activity, activity_valid
        )
        tokens = self._frame_tokens(slow, frames)  # (B, T, K, d)
        weight = None if relevance is None else self._of_frames(relevance, frames.shape[1])
        steps = self._decode(tokens, frame_tick, self._bias(frame_valid, seen, weight), frame_valid)
        return self._answer(steps, frame_valid, tokens[:, :, :CELLS], frames)._replace(relevance=relevance)

    def _slow(
        self, frames: Tensor, frame_tick: Tensor, frame_valid: Tensor, *asked: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Every k-th frame, encoded together with the query tokens, each frame for itself.

        Gives tokens (B, S, K, d), the relevance (B, S, 49) of the frames' own, and which query tokens there
        are (B, 50).
        """
        every = slice(None, None, self.stride)
        memory = frames[:, every].flatten(1, 2)  # (B, 49 S, d_b)
        batch, slow = frame_tick[:, every].shape
        hot = torch.eye(CELLS, device=frames.device).repeat(slow, 1)[None]  # (1, 49 S, 49)
        question = self.embed.asked(None, None, *asked)
        fused = self.embed.memory(memory, hot, question, asked[1])  # (B, 49 S, d)
        relevance = None
        if self.relevance is not None:
            relevance = self.relevance(fused, question.activity, asked[3]).view(batch, slow, CELLS)
        own = fused + self.embed.kind[0]  # (B, 49 S, d)
        parts = own.view(batch, slow, CELLS, -1), question.tokens[:, None].expand(-1, slow, -1, -1)
        tokens = torch.cat(parts, 2).flatten(0, 1)  # (B S, K, d)
        seen = question.valid  # (B, 50)
        bias = self._bias(frame_valid[:, every], seen, relevance).flatten(0, 1)  # (B S, K)
        position = self._positions(frame_tick[:, every]).flatten(0, 1)  # (B S, K, d)
        for layer in self.encoder:
            tokens = layer(tokens, position, bias)
        return tokens.view(batch, slow, *tokens.shape[1:]), relevance, seen

    def _of_frames(self, slow: Tensor, frames: int) -> Tensor:
        """slow (B, S, ...) -> (B, T, ...): a slow frame stands for the k frames from its own on."""
        return slow.repeat_interleave(self.stride, 1)[:, :frames]

    def _frame_tokens(self, slow: Tensor, frames: Tensor) -> Tensor:
        """slow (B, S, K, d) stands for the k frames from its own on; each adds its own by the fast branch."""
        own = self.embed.norm(self.embed.project(frames))  # (B, T, 49, d)
        fast = functional.pad(self.fast(own), (0, 0, 0, ASKED))  # (B, T, K, d)
        return self._of_frames(slow, frames.shape[1]) + fast

    def _decode(self, tokens: Tensor, frame_tick: Tensor, bias: Tensor, frame_valid: Tensor) -> Tensor:
        """tokens (B, T, K, d), bias (B, T, K) -> one step a frame (B, T, d)."""
        query = self.ticks(frame_tick) + self.query  # (B, T, d)
        keys = tokens + self._positions(frame_tick)  # (B, T, K, d)
        step_bias = bias_of(frame_valid)
        x = torch.zeros_like(query)
        for layer in self.decoder:
            assert isinstance(layer, DecoderLayer)
            x = layer.aligned(x, query, step_bias, keys, tokens, bias)
        steps: Tensor = self.decoder_norm(x)
        return steps

    def _answer(self, steps: Tensor, frame_valid: Tensor, own: Tensor, frames: Tensor) -> TubeOutput:
        """steps (B, T, d), frame_valid (B, T), own (B, T, 49, d) tokens of each frame, frames (B, T, 49, d_b)
        as the backbone gave them."""
        pooled = mean_of_valid(steps, frame_valid)  # (B, d)
        start, end = self.heads["span"](steps).unbind(-1)  # (B, T) each
        return TubeOutput(
            activity_logits=self.heads["activity"](pooled),
            boxes_cxcywh=corrected(self._references(own, frames), self.heads["box"](steps)),
            start_logits=start.masked_fill(~frame_valid, UNANSWERABLE),
            end_logits=end.masked_fill(~frame_valid, UNANSWERABLE),
            presence_logit=self.heads["presence"](pooled).squeeze(-1),
        )

    @property
    def places(self) -> Places:
        places = self.heads["places"]
        assert isinstance(places, Places)
        return places

    def _references(self, own: Tensor, frames: Tensor) -> Tensor:
        """own (B, T, 49, d), frames (B, T, 49, d_b) -> (B, T, 4): as the reader's, but the tokens are all of
        the step's own frame."""
        share = torch.softmax(self.heads["pointer"](own)[..., :1], 2)  # (B, T, 49, 1)
        boxes = self.places.boxes(own, frames, torch.eye(CELLS, device=own.device))  # (B, T, 49, 4)
        return (share * boxes).sum(2)

    def _bias(self, frame_valid: Tensor, seen: Tensor, relevance: Tensor | None) -> Tensor:
        """frame_valid (B, n), seen (B, 50), relevance (B, n, 49) -> (B, n, K) of a frame's own tokens and the
        query's."""
        count = frame_valid.shape[1]
        own = bias_of(frame_valid)[..., None].expand(-1, -1, CELLS)
        if relevance is not None:
            own = own - functional.softplus(-relevance)  # as in the reader
        return torch.cat((own, bias_of(seen)[:, None].expand(-1, count, -1)), -1)

    def _positions(self, tick: Tensor) -> Tensor:
        """tick (B, n) -> (B, n, K, d): tick and cell of frame tokens, cell of the object's, none else."""
        cells = self.cells.table  # (49, d)
        own = self.ticks(tick)[:, :, None] + cells  # (B, n, 49, d)
        query = functional.pad(cells, (0, 0, 0, 1)).expand(*tick.shape, -1, -1)  # (B, n, 50, d)
        return torch.cat((own, query), 2)
