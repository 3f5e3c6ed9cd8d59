"""Evaluate modified TubeDETR on the queries of LVM-Net's evaluation, from the same cached backbone tokens.

Every query reads the frames of its window again (`export.evaluation.clip_inference`). For an activity or an
object these are by default the frames of the time that is asked about, for a time query 120 over the query
window: the network has no other way to know which of two events in a query window is meant.

Letters: F frames of a window, T frames a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from engines.errors import BundleError, LvmError
from engines.network_config import NetworkConfig
from export.data.records import QueryRecord
from export.data.token_cache import VideoCache
from export.evaluation.clip_inference import ClipQuery, WindowAnswer, read_window
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
from export.networks.tubedetr import TubeDETR


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
        results.append(_make_result(answer, query, seed))
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
    tokens, activity = torch.zeros(49, config.d_backbone), torch.zeros(config.activities)
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


def _make_result(answer: WindowAnswer, query: QueryRecord, seed: int) -> Result:
    scores: dict[str, object] = {"presence_logit": answer.presence_logit}
    if query.type == "activity":
        logits = [float(logit) for logit in answer.activity_logits]
        scores |= {"class_logits": tuple(logits), **score_activities(query, logits)}
    elif query.type == "object":
        scores |= score_boxes(query, answer.ticks.tolist(), answer.boxes_xyxy)
    else:
        start, end, confidence = answer.span
        scores |= {"spans": {"bins": score_span(query, (start, end), confidence)}}
    return make_result(query, seed, **scores)


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
