"""Whether this process stood still: what a test of seconds must know before its failure means anything.

A virtual machine is now and then given no processor for a second or two, and everything that is timed then
comes late, whoever wrote it. A metronome, a thread that does nothing but sleep, notices: a test that failed
while it was held up says nothing about the code, and is run again.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import pytest

P = ParamSpec("P")
BEAT_S = 0.01
HELD_UP_S = 0.2
"""A thread that only sleeps is late by less than this on a machine that is merely busy."""
ATTEMPTS = 4


class Metronome:
    """Notes each time it is woken `HELD_UP_S` late or more. Ends with the process.

    A thread that keeps the interpreter to itself for so long counts too: it cannot be told apart.
    """

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._run, name="metronome", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(BEAT_S)
            now = time.monotonic()
            if now - before - BEAT_S >= HELD_UP_S:
                self._late.append((now, now - before - BEAT_S))
            before = now

    def longest(self, since: float) -> float:
        """Seconds of the longest pause that ended after `since` (monotonic s), 0 without one."""
        time.sleep(3 * BEAT_S)  # a pause that has just ended is noted at the next beat
        return max((late for at, late in self._late if at >= since), default=0.0)


_metronome = Metronome()
"""From the beginning, for tests that count threads."""


def unless_held_up(body: Callable[[], None], name: str) -> None:
    """Run `body`; again where it failed while this process stood still, at most four times.

    The last failure is raised, and the first one that came without a pause.
    """
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        try:
            return body()
        except (Exception, pytest.fail.Exception) as error:
            pause = _metronome.longest(began)
            if attempt == ATTEMPTS or not pause:
                raise
            said = f"{name} is run again: {pause:.2f} s without a processor ({error!r:.120})"
            warnings.warn(said, stacklevel=2)


def timed(test: Callable[P, None]) -> Callable[P, None]:
    """For tests with bounds in seconds which may be run twice with the same fixtures."""

    @wraps(test)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        unless_held_up(lambda: test(*args, **kwargs), test.__name__)

    return wrapped
