"""Measure durations: one histogram of seconds each, of fixed size however long the process runs."""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the bins; one more bin has no bound."""


class DurationHistogram:
    """Counts durations of one operation by bin. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        index = bisect.bisect_left(BOUNDS_S, seconds)
        with self._lock:
            self._counts[index] += 1
            self._seconds += seconds

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Add the duration of the `with` block, also where it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began)

    def read(self) -> tuple[list[int], float]:
        """Return how many durations were at most each of `BOUNDS_S`, then how many in all, and their sum."""
        with self._lock:
            return list(itertools.accumulate(self._counts)), self._seconds


@dataclass(frozen=True)
class StageTimings:
    """Durations of an ingest, from a source's picture to the disk; decoding belongs to the source.

    `prepare`: resizing a batch for the network. `backbone`: the engine's call for a batch, with the wait for
    other cameras. `remember`: a batch's novelty and, where a clip ends, its selection. `sampler` and
    `background` are parts of that: the call that scores, with its wait, and the update of the background.
    `journal`: writing a batch to disk.
    """

    prepare: DurationHistogram = field(default_factory=DurationHistogram)
    backbone: DurationHistogram = field(default_factory=DurationHistogram)
    remember: DurationHistogram = field(default_factory=DurationHistogram)
    sampler: DurationHistogram = field(default_factory=DurationHistogram)
    background: DurationHistogram = field(default_factory=DurationHistogram)
    journal: DurationHistogram = field(default_factory=DurationHistogram)
