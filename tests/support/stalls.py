"""Run tests with bounds in seconds again if this process stood still while they failed.

A virtual machine sometimes gets no processor for a second or two, and everything that is timed is then late.
A metronome, a thread that does nothing but sleep, notices such a stall: a failure meanwhile says nothing
about the code, and the test is run again.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable

import pytest
from _pytest.runner import runtestprotocol

BEAT_S = 0.01
STALL_S = 0.05
"""A sleeping thread that wakes up this late had no processor."""
ATTEMPTS = 4


class Metronome:
    """Records each time it wakes up STALL_S late or more. Ends with the process.

    A thread that holds the interpreter lock for so long counts too: the two cannot be distinguished.
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
            if now - before - BEAT_S >= STALL_S:
                self._late.append((now, now - before - BEAT_S))
            before = now

    def longest_stall(self, since: float) -> float:
        """Return the seconds of the longest stall that ended after `since` (monotonic s), 0 without one."""
        time.sleep(3 * BEAT_S)  # a stall that has just ended is recorded at the next beat
        return max((late for at, late in self._late if at >= since), default=0.0)


METRONOME = Metronome()
"""Started at import, for tests that count threads."""


def retry_if_stalled(body: Callable[[], None], name: str) -> None:
    """Run `body`, and again if it failed during a stall, at most four times.

    Raise the last failure, or the first one without a stall.
    """
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        try:
            return body()
        except (Exception, pytest.fail.Exception) as error:
            stall = METRONOME.longest_stall(began)
            if attempt == ATTEMPTS or not stall:
                raise
            message = f"{name} is run again: {stall:.2f} s without a processor ({error!r:.120})"
            warnings.warn(message, stacklevel=2)


timed = pytest.mark.timed
"""For tests with bounds in seconds: the same, with fresh fixtures (`protocol`)."""


def protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test with the mark `timed`; implements pytest's hook `pytest_runtest_protocol`."""
    if item.get_closest_marker("timed") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        stall = METRONOME.longest_stall(began) if any(report.failed for report in reports) else 0.0
        if attempt == ATTEMPTS or not stall:
            break
        warnings.warn(f"{item.name} is run again: {stall:.2f} s without a processor", stacklevel=2)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
