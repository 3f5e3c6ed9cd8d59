"""How long things take: a histogram of seconds each, of fixed size however long the process lives."""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the bins; the last bin has none."""


class Timing:
    """Of one thing. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        """It took so long once more."""
        place = bisect.bisect_left(BOUNDS_S, seconds)
        with self._lock:
            self._counts[place] += 1
            self._seconds += seconds

    @contextmanager
    def measured(self) -> Iterator[None]:
        """What is done meanwhile, however it ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began)

    def read(self) -> tuple[list[int], float]:
        """How often it took at most each of `BOUNDS_S`, then how often at all, and seconds in all."""
        with self._lock:
            return list(itertools.accumulate(self._counts)), self._seconds


@dataclass(frozen=True)
class Stages:
    """Of an ingest, from the source's picture to the disk; decoding belongs to the source.

    `prepare`: a batch made the network's size. `backbone`: the engine's call for a batch,
    waiting for its turn among other cameras included. `remember`: a batch's novelty and, where a clip ends,
    what is decided then. `sampler` and `background` are the parts of that: the call that scores, waiting
    included, and what is usual, brought up to date. `journal`: a batch put on disk.
    """

    prepare: Timing = field(default_factory=Timing)
    backbone: Timing = field(default_factory=Timing)
    remember: Timing = field(default_factory=Timing)
    sampler: Timing = field(default_factory=Timing)
    background: Timing = field(default_factory=Timing)
    journal: Timing = field(default_factory=Timing)
