"""How a network of clips answers about a window: every query reads the frames of its window again.

F frames of a window, T frames a clip, n = ceil(F / T) clips, C activities, d_b backbone width. Activity is
the mean over non-overlapping clips, boxes are those of all clips, and for a time query 120 frames spread over
the window make one clip (`export.evaluation.cost_model.uniform_frames`; modified TubeDETR, LVM-Net's
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


class Asked(NamedTuple):
    """One query, as the network is given it."""

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
    """What was told of a window, clip by clip and frame by frame."""

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
        """The surest clip: what happens in one clip of sixty has happened."""
        return float(self.clip_presence_logit.max())

    @property
    def span(self) -> Span:
        """The best span (start s, end s, probability); its logits are only comparable within one clip."""
        return spans_from_bins(self.start_logits, self.end_logits, self.ticks, top=1)[0]


def read_window(
    network: ClipNetwork,
    tokens: Tensor,
    ticks: Tensor,
    asked: Asked,
    clip_frames: int,
    at_once: int = 8,
) -> WindowAnswer:
    """Answer one query from backbone tokens (F, 49, d_b) of its window at ticks (F,).

    `at_once` clips bound the memory that a long window takes.
    """
    clips = cut(tokens, ticks, clip_frames)
    parts = []
    with torch.inference_mode():
        for first in range(0, len(clips.frames), at_once):
            some = Clips(*(part[first : first + at_once] for part in clips))
            parts.append(network(**_feeds(some, asked))[:-1])  # relevance is for training
    return _joined(TubeOutput(*(torch.cat(field) for field in zip(*parts, strict=True))), clips)


def cut(tokens: Tensor, ticks: Tensor, clip_frames: int) -> Clips:
    """tokens (F, 49, d_b) and ticks (F,) in clips that do not overlap."""
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


def _feeds(clips: Clips, asked: Asked) -> dict[str, Tensor]:
    """The network's inputs: the same query for each clip."""
    n = len(clips.frames)
    flags = torch.tensor([asked.object_valid, asked.activity_valid], device=clips.frames.device)
    object_valid, activity_valid = flags[:, None].expand(-1, n)
    return {
        "frames": clips.frames,
        "frame_tick": clips.tick,
        "frame_valid": clips.valid,
        "object_tokens": asked.object_tokens.expand(n, -1, -1),
        "object_valid": object_valid,
        "activity": asked.activity.expand(n, -1),
        "activity_valid": activity_valid,
    }


def _joined(told: TubeOutput, clips: Clips) -> WindowAnswer:
    def real(tensor: Tensor) -> Real:
        return np.asarray(tensor.float().cpu().numpy(), np.float32)

    return WindowAnswer(
        real(told.activity_logits),
        real(told.presence_logit),
        clips.tick[clips.valid].cpu().numpy().astype(np.int64),
        xyxy(real(told.boxes_cxcywh[clips.valid])),
        real(told.start_logits[clips.valid]),
        real(told.end_logits[clips.valid]),
    )
