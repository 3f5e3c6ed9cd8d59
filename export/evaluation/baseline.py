"""Evaluate modified TubeDETR on the queries of LVM-Net's evaluation, from the same cached backbone tokens.

Every query reads the frames of its window again. For an activity or an object these are by default
the frames of the time that is asked about, for a time query 120 over the query window: the network has no
other way to know which of two events in a query window is meant.

F frames of a window, T frames a clip, n = ceil(F / T) clips, C activities, d_b backbone width. Activity is
the mean over non-overlapping clips, boxes are those of all clips, and for a time query 120 frames spread over
the window make one clip (`export.evaluation.cost_model.choose_uniform_frames`; modified TubeDETR, LVM-Net's
baseline).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from edge_runtime.query.decode import Span, spans_from_bins, xyxy
from engines.errors import BundleError, LvmError
from engines.network_config import NetworkConfig
from export.data.records import QueryRecord
from export.data.token_cache import VideoCache
from export.evaluation.cost_model import Window, list_read_frames
from export.evaluation.evaluate import (
    Crops,
    find_object_tokens,
    make_result,
    score_activities,
    score_boxes,
    score_span,
)
from export.evaluation.results import Result
from export.networks.tubedetr import TubeDETR, TubeOutput

Real = NDArray[np.float32]


def evaluate_baseline(
    network: TubeDETR,
    config: NetworkConfig,
    cache: VideoCache,
    queries: Sequence[QueryRecord],
    *,
    clip_frames: int | None = None,
    seed: int = 0,
    window: Window = "property",
    crops: Crops | None = None,
) -> list[Result]:
    """Answer all queries about one video; results have the form of LVM-Net's, with one head and no memory.

    `clip_frames` as in its training; default the network's own.
    """
    network.eval()
    frames = clip_frames or config.clip_frames
    results = []
    for query in queries:
        rows = select_rows(query, cache.ticks, config.sample_fps, window)
        length = choose_clip_length(query, rows, frames)
        answer = read_rows(network, length, cache, rows, to_clip_query(config, cache, query, crops or {}))
        scores: dict[str, object] = {"presence_logit": answer.presence_logit}
        if query.type == "activity":
            logits = [float(logit) for logit in answer.activity_logits]
            scores |= {"class_logits": tuple(logits), **score_activities(query, logits)}
        elif query.type == "object":
            scores |= score_boxes(query, answer.ticks.tolist(), answer.boxes_xyxy)
        else:
            start, end, confidence = answer.span
            scores |= {"spans": {"bins": score_span(query, (start, end), confidence)}}
        results.append(make_result(query, seed, **scores))
    return results


def select_rows(
    query: QueryRecord, ticks: NDArray[np.int64], fps: float, window: Window = "property"
) -> NDArray[np.int64]:
    """Return which cached frames the query reads; the nearest frame if its window lies between two."""
    rows = list_read_frames(query, fps, "query" if query.t_s is None else window)
    rows = rows[rows < len(ticks)]
    if len(rows):
        return rows
    start = query.q_s if query.t_s is None else query.t_s
    return np.array([min(round(start * fps), len(ticks) - 1)])


def choose_clip_length(query: QueryRecord, rows: NDArray[np.int64], frames: int) -> int:
    """Return how many frames are read at once. A time query is one clip, as in training: logits of several
    clips have no common scale."""
    return len(rows) if query.type == "time" else frames


def to_clip_query(config: NetworkConfig, cache: VideoCache, query: QueryRecord, crops: Crops) -> ClipQuery:
    """Make the network's inputs of the query."""
    tokens, activity = torch.zeros(config.cells, config.d_backbone), torch.zeros(config.activities)
    if query.type != "object":
        tokens = torch.from_numpy(find_object_tokens(cache, query, crops))
    if query.type != "activity":
        activity[list(query.activities)] = 1
    return ClipQuery(tokens, query.type != "object", activity, query.type != "activity")


def read_rows(
    network: TubeDETR, clip_frames: int, cache: VideoCache, rows: NDArray[np.int64], question: ClipQuery
) -> WindowAnswer:
    """Answer from some of the video's cached frames; time counts from the start of the video."""
    device = next(network.parameters()).device
    tokens = torch.from_numpy(np.asarray(cache.tokens[rows], np.float32)).to(device)  # (F, 49, d)
    ticks = torch.from_numpy(cache.ticks[rows].astype(np.int32)).to(device)
    there = question._replace(
        object_tokens=question.object_tokens.to(device), activity=question.activity.to(device)
    )
    return read_window(network, tokens, ticks, there, clip_frames)


def load_baseline(path: Path, config: NetworkConfig, stride: int) -> TubeDETR:
    """Load the baseline of a run folder. Raises BundleError if the file is something else."""
    if not path.is_file():
        raise LvmError(f"baseline {path} does not exist: train up to stage tubedetr")
    network = TubeDETR(config, stride)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{path} must hold a modified TubeDETR of this network: {error}") from error
    return network.eval()


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
