"""Run a network of clips over a window: every query reads the frames of its window again.

F frames of a window, T frames a clip, n = ceil(F / T) clips, C activities, d_b backbone width. Activity is
the mean over non-overlapping clips, boxes are those of all clips, and for a time query 120 frames spread over
the window make one clip (`export.evaluation.cost_model.choose_uniform_frames`; modified TubeDETR, LVM-Net's
baseline).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_runtime.query.decode import Span, spans_from_bins, xyxy
from engines.errors import LvmError
from export.networks.tubedetr import TubeOutput

Real = NDArray[np.float32]


class ClipQuery(NamedTuple):
    """The inputs of one query."""

    object_tokens: Tensor  # (49, d_b)
    object_valid: bool
    activity: Tensor  # (C,)
    activity_valid: bool


class ClipNetwork(Protocol):
    """`TubeDETR.forward`, or anything that answers like it."""

    def __call__(
        self,
        *,
        frames: Tensor,
        frame_tick: Tensor,
        frame_valid: Tensor,
        object_tokens: Tensor,
        object_valid: Tensor,
        activity: Tensor,
        activity_valid: Tensor,
    ) -> TubeOutput: ...


class Clips(NamedTuple):
    """A window in clips of equal length; what is missing of the last one is padding."""

    frames: Tensor  # (n, T, 49, d_b)
    tick: Tensor  # (n, T)
    valid: Tensor  # (n, T) bool


class WindowAnswer(NamedTuple):
    """The outputs of a window, clip by clip and frame by frame."""

    clip_activity_logits: Real  # (n, C)
    clip_presence_logit: Real  # (n,)
    ticks: NDArray[np.int64]  # (F,)
    boxes_xyxy: Real  # (F, 4)
    start_logits: Real  # (F,)
    end_logits: Real  # (F,)

    @property
    def activity_logits(self) -> Real:
        """Mean over clips, (C,)."""
        return np.asarray(self.clip_activity_logits.mean(0))

    @property
    def presence_logit(self) -> float:
        """Largest logit of the clips: what happens in a single clip of sixty has happened."""
        return float(self.clip_presence_logit.max())

    @property
    def span(self) -> Span:
        """The best span (start s, end s, probability); its logits are only comparable within one clip."""
        return spans_from_bins(self.start_logits, self.end_logits, self.ticks, top=1)[0]


def read_window(
    network: ClipNetwork, tokens: Tensor, ticks: Tensor, query: ClipQuery, clip_frames: int, at_once: int = 8
) -> WindowAnswer:
    """Answer one query from backbone tokens (F, 49, d_b) of its window at ticks (F,).

    `at_once` clips bound the memory that a long window takes.
    """
    clips = split_clips(tokens, ticks, clip_frames)
    parts = []
    with torch.inference_mode():
        for first in range(0, len(clips.frames), at_once):
            some = Clips(*(part[first : first + at_once] for part in clips))
            parts.append(network(**_make_feeds(some, query))[:-1])  # relevance is for training
    return _join_clips(TubeOutput(*(torch.cat(field) for field in zip(*parts, strict=True))), clips)


def split_clips(tokens: Tensor, ticks: Tensor, clip_frames: int) -> Clips:
    """Split tokens (F, 49, d_b) and ticks (F,) into clips that do not overlap."""
    count = len(tokens)
    if not count or len(ticks) != count:
        raise LvmError(f"a window needs frames and one tick a frame, got {count} frames, {len(ticks)} ticks")
    missing = -count % clip_frames
    valid = torch.arange(count + missing, device=tokens.device) < count
    return Clips(
        functional.pad(tokens, (0, 0, 0, 0, 0, missing)).view(-1, clip_frames, *tokens.shape[1:]),
        functional.pad(ticks, (0, missing)).view(-1, clip_frames),
        valid.view(-1, clip_frames),
    )


def _make_feeds(clips: Clips, query: ClipQuery) -> dict[str, Tensor]:
    """Make the network's inputs: the same query for each clip."""
    n = len(clips.frames)
    flags = torch.tensor([query.object_valid, query.activity_valid], device=clips.frames.device)
    object_valid, activity_valid = flags[:, None].expand(-1, n)
    return {
        "frames": clips.frames,
        "frame_tick": clips.tick,
        "frame_valid": clips.valid,
        "object_tokens": query.object_tokens.expand(n, -1, -1),
        "object_valid": object_valid,
        "activity": query.activity.expand(n, -1),
        "activity_valid": activity_valid,
    }


def _join_clips(output: TubeOutput, clips: Clips) -> WindowAnswer:
    def real(tensor: Tensor) -> Real:
        return np.asarray(tensor.float().cpu().numpy(), np.float32)

    return WindowAnswer(
        real(output.activity_logits),
        real(output.presence_logit),
        clips.tick[clips.valid].cpu().numpy().astype(np.int64),
        xyxy(real(output.boxes_cxcywh[clips.valid])),
        real(output.start_logits[clips.valid]),
        real(output.end_logits[clips.valid]),
    )
