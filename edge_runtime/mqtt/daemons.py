"""Calls that may hang (a name server, a driver) in threads that never keep the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Daemons(ThreadPoolExecutor):
    """An executor for an event loop. Each call has a daemon thread of its own, which the standard pool's
    threads are not: the interpreter waits for those at its end. Callers bound how many there are."""

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:  # it belongs to whoever waits for the future
                future.set_exception(error)

        threading.Thread(target=work, name=f"{self._thread_name_prefix}call", daemon=True).start()
        return future
