"""Interrupt a run for a privacy pause or an edit of the memory.

A thread that pauses or edits never touches the run's data. It requests the pause or edit, the source is
closed, and the run's own thread waits or edits before it opens the source again. So no picture is decoded
during a pause, and no frame is being processed during an edit.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from engines.errors import LvmError

T = TypeVar("T")

EDIT_TIMEOUT_S = 30.0
"""An edit waits for the frames in progress and for a snapshot; longer means that the run hangs."""


class RunGate:
    """Pauses and edits of one run. `interrupt` ends the run's current iteration, from any thread."""

    def __init__(self, interrupt: Callable[[], None], *, paused: bool = False) -> None:
        self._interrupt = interrupt
        self._changed = threading.Condition()
        self._edits: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._paused = paused
        self._stopped = False
        self._running = False

    # -- for any thread -------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self, paused: bool) -> None:
        """Begin or end a pause. Not for signal handlers: it takes a lock that the run may hold."""
        with self._changed:
            if paused == self._paused:
                return
            self._paused = paused
            self._changed.notify_all()
        if paused:
            self._interrupt()

    def edit(self, change: Callable[[], T]) -> T:
        """Call `change` while no frame is being processed, and return its result. Raises what it raises.

        It is called in the run's thread if there is a run, else in this one. Raises LvmError if the run does
        not finish it within `EDIT_TIMEOUT_S`; a change that has not begun by then is cancelled.
        """
        with self._changed:
            if not self._running:
                return change()
            done: Future[T] = Future()
            self._edits.append((change, done))
            self._changed.notify_all()
        self._interrupt()
        try:
            return done.result(EDIT_TIMEOUT_S)
        except FutureTimeout:
            if done.done():  # the change itself raised a TimeoutError
                raise
            outcome = "nothing was changed" if done.cancel() else "it may still be done"
        raise LvmError(
            f"the camera was busy for {EDIT_TIMEOUT_S:g} s, its disk or an engine hangs: {outcome}"
        )

    def stop(self) -> None:
        """End every wait in here. May be called from a signal handler."""
        self._stopped = True  # takes no lock: `wait_while_paused` checks it regularly

    # -- for the run ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Let the run do the edits while it is in this context; those left are done at the end."""
        with self._changed:
            self._running = True
        try:
            yield
        finally:
            with self._changed:
                self._running = False
                self._do_edits()

    def do_pending_edits(self) -> None:
        with self._changed:
            self._do_edits()

    def wait_while_paused(self, is_over: Callable[[], bool], every_s: float = 0.25) -> None:
        """Wait until the pause ends, `stop` is called or `is_over()`; edits are done meanwhile."""
        with self._changed:
            while self._paused and not self._stopped and not is_over():
                self._do_edits()
                self._changed.wait(every_s)

    def _do_edits(self) -> None:
        while self._edits:
            change, done = self._edits.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(change())
            except BaseException as error:  # passed on to the thread that called `edit`
                done.set_exception(error)
