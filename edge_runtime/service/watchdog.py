"""Whether the ingest is alive: not whether frames come, but whether what has come gets done.

A camera that is unplugged is no reason to restart a process that would only find it unplugged again; an
engine call or a write that never returns is.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

STUCK_AFTER_S = 30.0
"""A batch takes milliseconds, a snapshot on a worn card seconds: what takes longer never ends."""


class Pulse:
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
