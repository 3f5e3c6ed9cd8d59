"""Defer signals that arrive before their handlers are installed.

Loading the program and its networks takes seconds. By default SIGUSR1, SIGUSR2 and SIGHUP end a process, and
a privacy pause requested by such a signal would be lost. This module imports nothing slow.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

DEFERRED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_received: list[signal.Signals] = []


def _record(number: int, frame: object) -> None:
    _received.append(signal.Signals(number))


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Record the signals that arrive in this context, for `take_deferred`. Main thread only.

    A signal that is ignored (SIGHUP under nohup) stays ignored.
    """
    before = {
        number: signal.signal(number, _record)
        for number in DEFERRED
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def take_deferred() -> list[signal.Signals]:
    """Return the signals received so far, each once; call it when their handlers are installed.

    The order in which they arrived is unknown, since Python delivers signals that wait in the order of their
    numbers. So if both a pause and its end arrived, the pause holds.
    """
    received = [number for number in DEFERRED if number in _received]
    _received.clear()
    if signal.SIGUSR1 in received and signal.SIGUSR2 in received:
        received.remove(signal.SIGUSR2)
    return received


def list_terminals() -> list[int]:
    """Return which of standard input, output and error are terminals that somebody can see."""
    return [number for number in range(3) if os.isatty(number)]


def leave_terminals(terminals: list[int]) -> None:
    """Replace terminals that were closed by a device that takes everything, so that nothing fails on them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in terminals:
        os.dup2(nothing, number)
    os.close(nothing)
