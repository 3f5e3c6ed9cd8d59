"""The cost of answering: frames that are read, and seconds for a load of ReST's size.

F sampled frames of a video, Q queries. A method that reads the frames of each query's window reads a frame as
often as it is asked about; a memory reads each frame once. This count (LVM-Net, Figure 1) depends on no
hardware. Seconds are measured on some queries and extrapolated to all of one test video of ReST.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engines.errors import LvmError
from export.data.records import QueryRecord, Video

Whole = NDArray[np.int64]
Real = NDArray[np.float64]
Window = Literal["query", "property"]
"""Which frames activity and object queries read: the query window, as in the papers, or only the time that is
asked about, which is less where that is given tightly."""
TIME_FRAMES = 120
"""Frames that a time query reads, whatever the length of its window."""

REST_VIDEO_S = 27 * 60.0
REST_QUERIES = 1500
"""Mean length of ReST's videos, and its queries of one kind about one test video."""
MIN_MEASURED = 50
"""Minimum number of measured queries for an extrapolation."""


def list_window_frames(start: float, end: float, fps: float) -> range:
    """Return the numbers of the sampled frames in [start, end) seconds; frame k is at k / fps."""
    # A frame at the very start may lie a rounding error before it.
    return range(math.ceil(start * fps - 1e-6), math.ceil(end * fps - 1e-6))


def choose_uniform_frames(count: int, limit: int = TIME_FRAMES) -> NDArray[np.int64]:
    """Choose at most `limit` of `count` frames: the middles of equal parts, ascending."""
    if count <= limit:
        return np.arange(count)
    return ((np.arange(limit) + 0.5) * count / limit).astype(np.int64)


def list_read_frames(query: QueryRecord, fps: float, window: Window = "query") -> Whole:
    """Return the numbers of the frames that a per-query method reads; for a time query 120 over its query
    window."""
    start, end = query.q_s, query.q_e
    if query.type != "time" and window == "property":
        if query.t_s is None or query.t_e is None:
            raise LvmError(f"query {query.qid} of type {query.type} needs t_s and t_e, got none")
        start, end = query.t_s, query.t_e
    frames = np.asarray(list_window_frames(start, end, fps), np.int64)
    return frames[choose_uniform_frames(len(frames), TIME_FRAMES)] if query.type == "time" else frames


def count_reads_by_frame(
    video: Video, queries: Iterable[QueryRecord], fps: float, window: Window = "query"
) -> Whole:
    """Count how often per-query methods read each sampled frame of `video`, (F,). Skips other videos'
    queries."""
    loads = np.zeros(len(list_window_frames(0, video.duration_s, fps)), np.int64)
    for query in queries:
        if query.video == video.video:
            read = list_read_frames(query, fps, window)
            loads[read[read < len(loads)]] += 1
    return loads


class FrameReads(NamedTuple):
    """Number of frames read by per-query methods, and by a memory that reads each once."""

    per_query: int
    once: int

    @property
    def ratio(self) -> float:
        return self.per_query / self.once


def count_frame_reads(
    videos: Sequence[Video], queries: Sequence[QueryRecord], fps: float, window: Window = "query"
) -> FrameReads:
    """Count the frame reads of all queries about `videos`; for a table cell, pass the queries of one kind and
    duration."""
    loads = [count_reads_by_frame(video, queries, fps, window) for video in videos]
    return FrameReads(sum(int(load.sum()) for load in loads), sum(len(load) for load in loads))


class Cost(NamedTuple):
    """Seconds for one video of ReST and its queries of one kind."""

    once_s: float
    query_s: Real  # (Q,) as measured, scaled to the video's length

    @property
    def total_s(self) -> float:
        """Seconds of what is done once, and of `REST_QUERIES` queries."""
        return self.once_s + REST_QUERIES * float(self.query_s.mean())


class SpeedUp(NamedTuple):
    """The factor by which time falls; a 95 % interval over the measured queries."""

    estimate: float
    low: float
    high: float


def extrapolate_to_rest(
    query_s: ArrayLike, *, once_s: float = 0.0, watched_s: float = REST_VIDEO_S, window_s: float | None = None
) -> Cost:
    """Extrapolate measured seconds to a video of 27 minutes and 1,500 queries.

    query_s (Q,) seconds of each measured query, at least 50. once_s: seconds for what is done once (all of
    stage 1, or caching a baseline's backbone tokens) on `watched_s` seconds of video. window_s: length of the
    windows whose every frame was read; one of 30 minutes counts as 27, as no window is longer than its video.
    None where a query's cost does not depend on its window.
    """
    seconds = np.asarray(query_s, np.float64)
    if seconds.ndim != 1 or len(seconds) < MIN_MEASURED:
        raise LvmError(
            f"query_s must be ({MIN_MEASURED} or more,), got {seconds.shape}: measure more queries"
        )
    if not np.isfinite(seconds).all() or seconds.min() <= 0 or once_s < 0 or watched_s <= 0:
        raise LvmError("measured seconds must be positive and finite")
    share = 1.0 if window_s is None else min(1.0, REST_VIDEO_S / window_s)
    return Cost(once_s * REST_VIDEO_S / watched_s, seconds * share)


def compare_costs(baseline: Cost, ours: Cost, resamples: int = 2000, random_seed: int = 0) -> SpeedUp:
    """Divide the total of the baseline by ours. The interval resamples the measured queries of both."""
    rng = np.random.default_rng(random_seed)
    ratios = _resample_totals(baseline, resamples, rng) / _resample_totals(ours, resamples, rng)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return SpeedUp(baseline.total_s / ours.total_s, float(low), float(high))


def _resample_totals(cost: Cost, resamples: int, rng: np.random.Generator) -> Real:
    """Return totals over resampled queries, (R,)."""
    count = len(cost.query_s)
    drawn = cost.query_s[rng.integers(count, size=(resamples, count))]  # (R, Q)
    return np.asarray(cost.once_s + REST_QUERIES * drawn.mean(1))
