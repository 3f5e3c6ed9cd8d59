"""Signals that come while there is nobody yet to obey them: kept, for whoever does later.

Loading the program and its networks takes seconds, and what SIGUSR1, SIGUSR2 and SIGHUP do to a process that
says nothing is to end it: the privacy pause that somebody asked for would be lost with it. This module
imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

KEPT = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_came: list[signal.Signals] = []


def _keep(number: int, frame: object) -> None:
    _came.append(signal.Signals(number))


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Meanwhile these signals end nothing, and are there for `came`. Main thread only.

    SIGHUP is left as it is where somebody ignores it (nohup).
    """
    before = {
        number: signal.signal(number, _keep)
        for number in KEPT
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def came() -> list[signal.Signals]:
    """Those kept until now, each once; call it when the handlers that obey are in place.

    Several that came during one long call are told in the order of their numbers, not in their own, so that
    nobody knows whether a pause came after its end: then it did.
    """
    found = [number for number in KEPT if number in _came]
    _came.clear()
    if signal.SIGUSR1 in found and signal.SIGUSR2 in found:
        found.remove(signal.SIGUSR2)
    return found
