"""Watch how a camera fares: work that hangs (`Watchdog`) and sampled frames that were lost (`DropCounter`).

The watchdog does not ask whether frames come, but whether what has come gets done. A camera that is unplugged
is no reason to restart a process that would only find it unplugged again; an engine call or a write that
never returns is.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from edge_runtime.sources.base import Source
from edge_runtime.sources.live_source import LiveSource
from engines.errors import EngineFault

log = logging.getLogger(__name__)

STUCK_AFTER_S = 30.0
"""A batch takes milliseconds, a snapshot on a worn card seconds: what takes longer never ends."""
FAULT = "engine fault"
"""The reason beside those that a source knows (`DropReason`)."""


class Watchdog:
    """Counts work under way. `begin` and `done` pair up in order; `clear` when work was given up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way = 0
        self._progress_at = clock()

    def begin(self) -> None:
        """Count one more piece of work."""
        with self._lock:
            if self._under_way == 0:
                self._progress_at = self._clock()
            self._under_way += 1

    def done(self) -> None:
        """Count the oldest piece of work as finished."""
        with self._lock:
            self._under_way = max(0, self._under_way - 1)
            self._progress_at = self._clock()

    def clear(self) -> None:
        """Forget all work under way."""
        with self._lock:
            self._under_way = 0

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Count the block as one piece of work, however it ends."""
        self.begin()
        try:
            yield
        finally:
            self.done()

    def is_alive(self) -> bool:
        """Whether no work has been under way for too long without any being finished."""
        with self._lock:
            return not self._under_way or self._clock() - self._progress_at < STUCK_AFTER_S


class DropCounter:
    """Counts sampled frames that were not remembered, by reason, on top of `before` in earlier processes."""

    def __init__(self, name: str, before: int) -> None:
        self._name, self._before = name, before
        self.by_reason: Counter[str] = Counter()
        self.problem: str | None = None
        """The engines' last error while they fail, None while they work."""

    @property
    def total(self) -> int:
        return self._before + sum(self.by_reason.values())

    def follow_source(self, source: Source) -> Callable[[], None]:
        """Return a function that adds what `source` has dropped so far to what earlier sources dropped."""
        before = Counter(self.by_reason)

        def update() -> None:
            if isinstance(source, LiveSource):
                for reason, frames in source.status.drops.items():
                    self.by_reason[reason] = before[reason] + frames

        return update

    def add_fault(self, error: EngineFault, times: Sequence[float]) -> None:
        """Count a batch on which the engines failed twice. The next batch is tried all the same."""
        before = self.by_reason[FAULT]
        self.by_reason[FAULT] += len(times)
        self.problem = str(error)
        if len(str(before)) < len(str(self.by_reason[FAULT])) or not before:  # 1, 10, 100 …: no disk fills
            log.warning("%s: %d frames lost so far: %s", self._name, self.by_reason[FAULT], error)
