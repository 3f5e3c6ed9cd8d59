"""Wait for tasks, cancel them, and run calls in threads that no exit waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar


async def cancel_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks, and wait until they have ended.

    Repeatedly: before Python 3.12 `asyncio.wait_for` swallows a cancellation that comes at the moment when
    what it waits for is done, and the task would go on.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=0.05)
        for task in done:
            if not task.cancelled():
                task.exception()  # read it, or asyncio logs it as never retrieved


async def wait_first(*awaitables: Awaitable[object]) -> None:
    """Wait for the first to be done, and cancel the others. Raises what it raises."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancel_all(tasks)


async def wait_unless(event: asyncio.Event, awaitable: Awaitable[object]) -> bool:
    """Wait for `awaitable`, or cancel it where `event` comes first. Returns whether it was done."""
    task, stop = asyncio.ensure_future(awaitable), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        await cancel_all((task, stop))


T = TypeVar("T")


class DaemonThreadExecutor(ThreadPoolExecutor):
    """An executor that runs each call in a daemon thread of its own; callers bound how many there are.

    Threads of the standard pool are no daemons: the interpreter would wait for them at its end.
    """

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:  # it is raised where the future is awaited
                future.set_exception(error)

        threading.Thread(target=work, name=f"{self._thread_name_prefix}call", daemon=True).start()
        return future
