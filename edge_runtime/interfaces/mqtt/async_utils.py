"""Waiting for several things at once in an event loop, and ending the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar


async def ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel them, and wait until they have ended, however they do.

    Again and again: before Python 3.12 `asyncio.wait_for` swallows a cancellation that comes in the moment in
    which what it waits for is done, and the task would go on.
    """
    left = set(tasks)
    while left:
        for one in left:
            one.cancel()
        done, left = await asyncio.wait(left, timeout=0.05)
        for one in done:
            if not one.cancelled():
                one.exception()  # which asyncio would otherwise complain that nobody has looked at


async def first_of(*wanted: Awaitable[object]) -> None:
    """Until one of them is done, raising what it raises; the others are ended."""
    tasks = [asyncio.ensure_future(one) for one in wanted]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        await ended(tasks)


async def unless(event: asyncio.Event, wanted: Awaitable[object]) -> bool:
    """Wait for `wanted`, or end it where `event` comes first. Whether it was done; raises what it raises."""
    task, stop = asyncio.ensure_future(wanted), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        await ended((task, stop))


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
