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
from edge_runtime.sources.supervised import SupervisedSource
from engines.errors import EngineFault

log = logging.getLogger(__name__)

STUCK_AFTER_S = 30.0
"""A batch takes milliseconds, a snapshot on a worn card seconds: what takes longer never ends."""


class Watchdog:
    """Counts work under way. `begin` and `done` pair up in order; `clear` where work was given up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way = 0
        self._moved = clock()

    def begin(self) -> None:
        """One more piece of work is under way."""
        with self._lock:
            if self._under_way == 0:
                self._moved = self._clock()
            self._under_way += 1

    def done(self) -> None:
        """The oldest piece is finished."""
        with self._lock:
            self._under_way = max(0, self._under_way - 1)
            self._moved = self._clock()

    def clear(self) -> None:
        """Nothing is under way any more."""
        with self._lock:
            self._under_way = 0

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """One piece of work, finished however it ends."""
        self.begin()
        try:
            yield
        finally:
            self.done()

    def stuck_s(self) -> float:
        """Seconds since anything was finished although something is under way; 0 where nothing is."""
        with self._lock:
            return self._clock() - self._moved if self._under_way else 0.0

    def alive(self) -> bool:
        """Whether nothing has been stuck for too long."""
        return self.stuck_s() < STUCK_AFTER_S


FAULT = "engine fault"
"""The reason beside those that a source knows (`DropReason`)."""


class DropCounter:
    """Counts since the start of the process, on top of `before` in earlier ones."""

    def __init__(self, name: str, before: int) -> None:
        self._name, self._before = name, before
        self.lost: Counter[str] = Counter()
        self.problem: str | None = None
        """What the engines said when they failed last, None while they do not."""

    @property
    def total(self) -> int:
        return self._before + sum(self.lost.values())

    def of_source(self, source: Source) -> Callable[[], None]:
        """Takes in what `source` has lost until now; the losses of sources before it stay."""
        before = Counter(self.lost)

        def count() -> None:
            if isinstance(source, SupervisedSource):
                for reason, frames in source.status.drops.items():
                    self.lost[reason] = before[reason] + frames

        return count

    def fault(self, error: EngineFault, times: Sequence[float]) -> None:
        """A batch that the engines failed at twice: a gap, and the next one."""
        before = self.lost[FAULT]
        self.lost[FAULT] += len(times)
        self.problem = str(error)
        if len(str(before)) < len(str(self.lost[FAULT])) or not before:  # 1, 10, 100 …: no disk fills
            log.warning("%s: %d frames lost so far: %s", self._name, self.lost[FAULT], error)
