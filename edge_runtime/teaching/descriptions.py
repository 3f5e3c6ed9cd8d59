"""Describe frames and spans of time by a few hundred numbers, from the backbone's tokens alone.

A frame is described by the mean of its tokens, and by the mean of the tokens that changed most since the
frame before: what moves. A span is described by the mean and deviation of that over its frames, by how much
it changes from frame to frame, and by what changes from its first half to its second: taking a thing and
putting it back differ in nothing else. No picture can be made of either.

Letters: B frames of a batch, P cells, d width of a token, w = 2 d width of a frame, F frames of a span.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]

MOVING_SHARE = 0.12
"""Share of the cells that count as moving: 6 of 49."""
SPAN_PARTS = 6
"""A span's description has 6 / 2 of the width of a frame's: mean and deviation of both means, change and
trend of that of all cells."""
GAP_FRAMES = 2.5
"""Times that two frames lie apart as usual, from which on something is missing between them."""
MIN_FRAMES = 2
"""Of a span: what changes cannot be seen in one."""


class FrameDescriber:
    """Describes successive frames of one stream."""

    def __init__(self) -> None:
        self._before: Numbers | None = None

    def forget(self) -> None:
        """Drop the last frame: the next one is not compared with it."""
        self._before = None

    def describe(self, frame: Numbers) -> Numbers:
        """Return (w,) of the tokens (P, d) of the next frame."""
        mean = frame.mean(0)
        moving = mean
        if self._before is not None:
            change = np.square(frame - self._before).sum(1)  # (P,)
            count = max(1, round(MOVING_SHARE * len(frame)))
            moving = frame[np.argpartition(-change, count - 1)[:count]].mean(0)
        self._before = frame
        return np.concatenate([mean, moving])


def describe_span(frames: Numbers) -> Numbers:
    """Return (6 d,) of the descriptions (F, 2 d) of a span's frames. Raises ValueError for none."""
    if not len(frames):
        raise ValueError("a span must have at least one frame")
    described = _describe_ranges(frames, np.array([0]), np.array([len(frames)]))
    return np.asarray(described[0], np.float32)


def describe_windows(frames: Frames, begins: NDArray[np.float64], length: float) -> tuple[Any, Numbers]:
    """Describe the windows of `length` seconds at `begins` that have at least two frames.

    Returns the numbers of those windows (W,) and their descriptions (W, 6 d), each as `describe_span` has it.
    """
    first = np.searchsorted(frames.times, begins)
    last = np.searchsorted(frames.times, begins + length)
    kept = np.flatnonzero(last - first >= MIN_FRAMES)
    if not len(kept):
        return kept, np.zeros((0, SPAN_PARTS * frames.rows.shape[1] // 2), np.float32)
    return kept, _describe_ranges(frames.rows, first[kept], last[kept])


def _describe_ranges(rows: Numbers, first: NDArray[Any], last: NDArray[Any]) -> Numbers:
    """Describe the ranges [first, last) of rows (F, 2 d), by running sums: (W, 6 d)."""
    exact = np.asarray(rows, np.float64)
    means = exact[:, : exact.shape[1] // 2]
    count = (last - first)[:, None]
    mean = _sum_ranges(exact, first, last) / count
    deviation = np.sqrt(np.maximum(_sum_ranges(exact * exact, first, last) / count - mean * mean, 0))
    change = _sum_ranges(np.abs(np.diff(means, axis=0)), first, last - 1) / np.maximum(count - 1, 1)
    half = np.maximum(last - first, 2) // 2
    early = _sum_ranges(means, first, first + np.minimum(half, last - first)) / half[:, None]
    late = _sum_ranges(means, np.maximum(last - half, first), last) / half[:, None]
    return np.concatenate([mean, deviation, change, late - early], axis=1).astype(np.float32)


def _sum_ranges(values: NDArray[Any], first: NDArray[Any], last: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums of values (F, n) over the ranges [first, last): (W, n)."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return np.asarray(sums[last] - sums[first], np.float64)


@dataclass(frozen=True)
class Frames:
    """Times (F,) in seconds of the stream, ascending, and descriptions (F, w)."""

    times: NDArray[np.float64]
    rows: Numbers

    def within(self, start: float, end: float) -> Frames:
        """Return the frames of [start, end) seconds."""
        inside = slice(*np.searchsorted(self.times, [start, end]))
        return Frames(self.times[inside], self.rows[inside])

    def split_at_gaps(self) -> list[Frames]:
        """Return the parts between which nothing was watched for more than `GAP_FRAMES` frames."""
        if len(self) < 2:
            return [self]
        steps = np.diff(self.times)
        cuts = np.flatnonzero(steps > GAP_FRAMES * float(np.median(steps))) + 1
        edges = [0, *cuts.tolist(), len(self)]
        return [Frames(self.times[a:b], self.rows[a:b]) for a, b in zip(edges, edges[1:], strict=False)]

    def __len__(self) -> int:
        return len(self.times)


class RecentFrames:
    """The descriptions of a camera's newest frames, for teaching: in RAM only. Safe for several threads."""

    def __init__(self, seconds: float, period: float = 1.0) -> None:
        """Keep the newest `seconds` of a stream with a frame every `period` seconds, or fewer."""
        self._seconds, self._step = seconds, period
        self._period = period
        self._times: deque[float] = deque()
        self._rows: deque[NDArray[np.float16]] = deque()
        self._describer = FrameDescriber()
        self._lock = threading.Lock()

    def add(self, tokens: Numbers, times: Sequence[float]) -> None:
        """Add frames, tokens (B, P, d), that are newer than all before."""
        with self._lock:
            for frame, t in zip(tokens, times, strict=True):
                step = t - self._times[-1] if self._times else 0.0
                if step > GAP_FRAMES * self._step:
                    self._describer.forget()  # what lies between two frames far apart is no movement
                self._step = max(step, self._period)
                self._times.append(t)
                self._rows.append(self._describer.describe(frame).astype(np.float16))
            while self._times and self._times[0] < self._times[-1] - self._seconds:
                self._times.popleft()
                self._rows.popleft()

    def take(self, start: float = -math.inf) -> Frames:
        """Return the kept frames from `start` seconds on, without looking at older ones."""
        with self._lock:
            newest = zip(reversed(self._times), reversed(self._rows), strict=True)
            taken = list(itertools.takewhile(lambda frame: frame[0] >= start, newest))[::-1]
        times, rows = [t for t, _ in taken], [row for _, row in taken]
        stacked = np.array(rows, np.float32) if rows else np.zeros((0, 0), np.float32)
        return Frames(np.array(times, np.float64), stacked)

    def forget(self, start: float, end: float) -> int:
        """Remove the frames of [start, end) seconds. Returns how many."""
        with self._lock:
            kept = [(t, row) for t, row in zip(self._times, self._rows, strict=True) if not start <= t < end]
            removed = len(self._times) - len(kept)
            if self._times and start <= self._times[-1] < end:
                self._describer.forget()
            self._times = deque(t for t, _ in kept)
            self._rows = deque(row for _, row in kept)
        return removed
