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

import pytest
from _pytest.runner import runtestprotocol

BEAT_S = 0.01
HELD_UP_S = 0.05
"""By so much a thread that only sleeps is woken late where somebody else has the cores."""
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


METRONOME = Metronome()
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
            pause = METRONOME.longest(began)
            if attempt == ATTEMPTS or not pause:
                raise
            said = f"{name} is run again: {pause:.2f} s without a processor ({error!r:.120})"
            warnings.warn(said, stacklevel=2)


timed = pytest.mark.timed
"""For tests with bounds in seconds: the same, with fixtures that are made anew (`protocol`)."""


def protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """What pytest is to do with a test that bears `timed`; see its hook `pytest_runtest_protocol`."""
    if item.get_closest_marker("timed") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        pause = METRONOME.longest(began) if any(one.failed for one in reports) else 0.0
        if attempt == ATTEMPTS or not pause:
            break
        warnings.warn(f"{item.name} is run again: {pause:.2f} s without a processor", stacklevel=2)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
