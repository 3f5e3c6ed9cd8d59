"""What may interrupt a run: a privacy pause, and edits of what is remembered.

Whoever pauses or edits never touches what the run is working with. It asks, the source is closed, and the run
itself waits or edits before it opens the source again. So no picture is decoded during a pause, and an edit
finds no frame on its way.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillWaiting
from typing import Any, TypeVar

from engines.errors import LvmError

T = TypeVar("T")

EDIT_TIMEOUT_S = 30.0
"""An edit waits for the frames on their way and for a snapshot; longer means that the run hangs."""


class Gate:
    """`interrupt` ends, from any thread, the iteration that the run is in."""

    def __init__(self, interrupt: Callable[[], None], *, paused: bool = False) -> None:
        self._interrupt = interrupt
        self._change = threading.Condition()
        self._edits: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._paused = paused
        self._stopped = False
        self._running = False

    # -- for anybody ---------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self, paused: bool) -> None:
        """From now on (not) paused. Never from a signal handler: it takes a lock that the run may hold."""
        with self._change:
            if paused == self._paused:
                return
            self._paused = paused
            self._change.notify_all()
        if paused:
            self._interrupt()

    def edit(self, change: Callable[[], T]) -> T:
        """Do `change` while nothing is on its way, and wait for it. Raises what it raises.

        In the run's thread while there is a run, else here. Raises LvmError where the run does not come to it
        within `EDIT_TIMEOUT_S`; what it has not begun by then is never done.
        """
        with self._change:
            if not self._running:
                return change()
            done: Future[T] = Future()
            self._edits.append((change, done))
            self._change.notify_all()
        self._interrupt()
        try:
            return done.result(EDIT_TIMEOUT_S)
        except StillWaiting:
            if done.done():  # its own
                raise
            what = "nothing was changed" if done.cancel() else "it may still be done"
        raise LvmError(f"the camera was busy for {EDIT_TIMEOUT_S:g} s, its disk or an engine hangs: {what}")

    def stop(self) -> None:
        """End every wait in here. May be called from a signal handler."""
        self._stopped = True  # seen at the latest when the wait looks up, see `wait_while_paused`

    # -- for the run ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """While a run is under way, edits are left to it; what it leaves undone is done at its end."""
        with self._change:
            self._running = True
        try:
            yield
        finally:
            with self._change:
                self._running = False
                self._do_edits()

    def settle(self) -> None:
        """Do the edits that wait."""
        with self._change:
            self._do_edits()

    def wait_while_paused(self, over: Callable[[], bool], every_s: float = 0.25) -> None:
        """Until the pause ends, `stop` is called or `over` says so; edits are done meanwhile."""
        with self._change:
            while self._paused and not self._stopped and not over():
                self._do_edits()
                self._change.wait(every_s)

    def _do_edits(self) -> None:
        while self._edits:
            change, done = self._edits.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(change())
            except BaseException as error:  # whatever it is belongs to the one who asked
                done.set_exception(error)
