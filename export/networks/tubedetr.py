"""The baseline: TubeDETR, modified for the three kinds of query; it reads the frames of a window for each
query.

B clips, T frames, k stride, S = ceil(T / k) slow frames, C activities, d_b backbone width, d model width, 50
query tokens (the object's 49 and the activity), K = 49 + 50 tokens a frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.network_config import NetworkConfig
from export.networks.attention import DecoderLayer, EncoderLayer, make_key_bias
from export.networks.box_head import BoxHead, correct_boxes
from export.networks.heads import UNANSWERABLE, Heads, average_valid
from export.networks.positions import CellCode, TickCode
from export.networks.reader import Embedding, Relevance

"""Number of query tokens."""
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

    Its modules have the names and shapes of the `Reader`'s, so that its trained weights can start a reader:
    `reader.load_state_dict(tubedetr.state_dict(), strict=False)`. Only `fast` is its own. The reader's SVD
    tokens, queues and relative times have no counterpart; of the pointer only its logit is used, to weigh the
    cells of a frame. Tick codes are added to the keys although attention never leaves a frame here: the
    weights then know the keys that they will see in the reader. Where the reader weighs its tokens by
    relevance, this network does too and is taught it by the same boxes. Without that it had to find the one
    cell of fifty by itself, and learned neither activities nor times in 5,000 steps; boxes alone did not fix
    that in 1,500, starting from a trained reader did (`tubedetr.from_start`).
    """

    def __init__(self, config: NetworkConfig, stride: int = 5) -> None:
        super().__init__()
        width = config.d_model
        self.stride = stride
        self.embed = Embedding(config.model_copy(update={"svd_rank": 0}))
        self.relevance = Relevance(width) if config.reader_candidates else None
        self.ticks = TickCode(width, config.tick_base)
        self.cell_count = config.cells
        self.cells = CellCode(width, config.grid)
        layer = (width, config.heads, config.ffn, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        heads = dict(Heads(config).named_children()) | {
            "places": BoxHead(width, config.d_backbone, config.grid)
        }
        self.heads = nn.ModuleDict({name: heads[name] for name in _HEADS})
        # Zero at first, as TubeDETR's own residual: training starts from the slow branch alone.
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
        slow, relevance, seen = self._encode_slow(
            frames, frame_tick, frame_valid, object_tokens, object_valid, activity, activity_valid
        )
        tokens = self._frame_tokens(slow, frames)  # (B, T, K, d)
        weight = None if relevance is None else self._repeat_slow(relevance, frames.shape[1])
        steps = self._decode(tokens, frame_tick, self._bias(frame_valid, seen, weight), frame_valid)
        return self._answer(steps, frame_valid, tokens[:, :, : self.cell_count], frames)._replace(
            relevance=relevance
        )

    def _encode_slow(
        self, frames: Tensor, frame_tick: Tensor, frame_valid: Tensor, *query: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Encode every k-th frame together with the query tokens, each frame for itself.

        Return tokens (B, S, K, d), the relevance (B, S, 49) of the frames' own tokens, and which query tokens
        are valid (B, 50).
        """
        every = slice(None, None, self.stride)
        memory = frames[:, every].flatten(1, 2)  # (B, 49 S, d_b)
        batch, slow = frame_tick[:, every].shape
        hot = torch.eye(self.cell_count, device=frames.device).repeat(slow, 1)[None]  # (1, 49 S, 49)
        question = self.embed.embed_question(None, None, *query)
        fused = self.embed.memory(memory, hot, question, query[1])  # (B, 49 S, d)
        relevance = None
        if self.relevance is not None:
            relevance = self.relevance(fused, question.activity, query[3]).view(batch, slow, self.cell_count)
        own = fused + self.embed.kind[0]  # (B, 49 S, d)
        parts = own.view(batch, slow, self.cell_count, -1), question.tokens[:, None].expand(-1, slow, -1, -1)
        tokens = torch.cat(parts, 2).flatten(0, 1)  # (B S, K, d)
        seen = question.valid  # (B, 50)
        bias = self._bias(frame_valid[:, every], seen, relevance).flatten(0, 1)  # (B S, K)
        position = self._positions(frame_tick[:, every]).flatten(0, 1)  # (B S, K, d)
        for layer in self.encoder:
            tokens = layer(tokens, position, bias)
        return tokens.view(batch, slow, *tokens.shape[1:]), relevance, seen

    def _repeat_slow(self, slow: Tensor, frames: int) -> Tensor:
        """Repeat slow (B, S, ...) to (B, T, ...): a slow frame stands for the k frames that begin with it."""
        return slow.repeat_interleave(self.stride, 1)[:, :frames]

    def _frame_tokens(self, slow: Tensor, frames: Tensor) -> Tensor:
        """Add each frame's own tokens by the fast branch: slow (B, S, K, d) stands for the k frames that
        begin with it."""
        own = self.embed.norm(self.embed.project(frames))  # (B, T, 49, d)
        fast = functional.pad(self.fast(own), (0, 0, 0, self.cell_count + 1))  # (B, T, K, d)
        return self._repeat_slow(slow, frames.shape[1]) + fast

    def _decode(self, tokens: Tensor, frame_tick: Tensor, bias: Tensor, frame_valid: Tensor) -> Tensor:
        """Decode tokens (B, T, K, d), bias (B, T, K) to one step a frame (B, T, d)."""
        query = self.ticks(frame_tick) + self.query  # (B, T, d)
        keys = tokens + self._positions(frame_tick)  # (B, T, K, d)
        step_bias = make_key_bias(frame_valid)
        x = torch.zeros_like(query)
        for layer in self.decoder:
            assert isinstance(layer, DecoderLayer)
            x = layer.attend_aligned(x, query, step_bias, keys, tokens, bias)
        steps: Tensor = self.decoder_norm(x)
        return steps

    def _answer(self, steps: Tensor, frame_valid: Tensor, own: Tensor, frames: Tensor) -> TubeOutput:
        """Compute the outputs: steps (B, T, d), frame_valid (B, T), own (B, T, 49, d) tokens of each frame,
        frames (B, T, 49, d_b) from the backbone."""
        pooled = average_valid(steps, frame_valid)  # (B, d)
        start, end = self.heads["span"](steps).unbind(-1)  # (B, T) each
        # Average own (B, T, 49, d), frames (B, T, 49, d_b) to boxes (B, T, 4) as the reader does, over the
        # step's own frame.
        share = torch.softmax(self.heads["pointer"](own)[..., :1], 2)  # (B, T, 49, 1)
        boxes = self.places.predict_boxes(
            own, frames, torch.eye(self.cell_count, device=own.device)
        )  # (B, T, 49, 4)
        return TubeOutput(
            activity_logits=self.heads["activity"](pooled),
            boxes_cxcywh=correct_boxes((share * boxes).sum(2), self.heads["box"](steps)),
            start_logits=start.masked_fill(~frame_valid, UNANSWERABLE),
            end_logits=end.masked_fill(~frame_valid, UNANSWERABLE),
            presence_logit=self.heads["presence"](pooled).squeeze(-1),
        )

    @property
    def places(self) -> BoxHead:
        places = self.heads["places"]
        assert isinstance(places, BoxHead)
        return places

    def _bias(self, frame_valid: Tensor, seen: Tensor, relevance: Tensor | None) -> Tensor:
        """Return the bias (B, n, K) of a frame's own tokens and the query's: frame_valid (B, n), seen (B,
        50), relevance (B, n, 49)."""
        count = frame_valid.shape[1]
        own = make_key_bias(frame_valid)[..., None].expand(-1, -1, self.cell_count)
        if relevance is not None:
            own = own - functional.softplus(-relevance)  # as in the reader
        return torch.cat((own, make_key_bias(seen)[:, None].expand(-1, count, -1)), -1)

    def _positions(self, tick: Tensor) -> Tensor:
        """Return positions (B, n, K, d) of tick (B, n): tick and cell of frame tokens, cell of the object's,
        else none."""
        cells = self.cells.table  # (49, d)
        own = self.ticks(tick)[:, :, None] + cells  # (B, n, 49, d)
        query = functional.pad(cells, (0, 0, 0, 1)).expand(*tick.shape, -1, -1)  # (B, n, 50, d)
        return torch.cat((own, query), 2)
