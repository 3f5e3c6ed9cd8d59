"""One connection to the broker, from its first word to its last."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_runtime.interfaces.mqtt.outbox import Line, Message, States
from edge_runtime.interfaces.mqtt.payloads import OFFLINE, ONLINE
from edge_runtime.interfaces.mqtt.topics import Topics

if TYPE_CHECKING:
    from edge_runtime.interfaces.mqtt.connection import Wire

GOODBYE_S = 1.0
"""For what is still to be said at the end."""
CLOSE_S = 0.3


class Talk:
    """Tells states, replies and events, in this order. What is not confirmed when the connection is lost
    stays where it was; a reply does not, since who asked has lost the connection too."""

    def __init__(
        self,
        wire: Wire,
        topics: Topics,
        states: States,
        replies: Line,
        events: Line,
        stats: Callable[[], bytes],
        stats_every_s: float,
    ) -> None:
        self._wire, self._topics = wire, topics
        self._states, self._replies, self._events = states, replies, events
        self._stats, self._stats_every_s = stats, stats_every_s
        self._news = asyncio.Event()

    def news(self) -> None:
        """There is something to tell."""
        self._news.set()

    async def run(self, listen: list[str], on_ready: Callable[[], None]) -> None:
        """Until cancelled, or raises MqttError when the connection is lost.

        That this device is `available` is said last, when all else is told anew: the broker may have lost it.
        """
        await self._wire.listen(*listen)
        self._states.all_untold()
        await self._tell_states()
        await self._wire.tell(Message(self._topics.available, ONLINE, retain=True))
        on_ready()
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                payload = await asyncio.get_running_loop().run_in_executor(None, self._stats)
                await self._wire.tell(Message(self._topics.stats, payload), qos=0)
                due = max(due + self._stats_every_s, time.monotonic())
            self._news.clear()
            if not await self._tell_one():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), max(due - time.monotonic(), 0.001))

    async def goodbye(self) -> None:
        """Say what is left to say, and that we are gone, within `GOODBYE_S`. Raises MqttError."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._rest(time.monotonic() + 0.7 * GOODBYE_S), 0.7 * GOODBYE_S)
        gone = Message(self._topics.available, OFFLINE, retain=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wire.tell(gone), 0.3 * GOODBYE_S)

    async def _rest(self, until: float) -> None:
        while time.monotonic() < until and await self._tell_one():
            pass

    async def _tell_one(self) -> bool:
        """Whether there was anything to tell."""
        await self._tell_states()
        reply = self._replies.take()
        if reply is not None:
            try:
                await self._wire.tell(reply)
            except BaseException:
                self._replies.dropped += 1
                raise
            self._replies.done()
            return True
        event = self._events.take()
        if event is None:
            return False
        try:
            await self._wire.tell(event)
        except BaseException:  # being cancelled, too: nobody knows whether it has arrived
            self._events.give_back(event)
            raise
        self._events.done()
        return True

    async def _tell_states(self) -> None:
        while (state := self._states.take()) is not None:
            await self._wire.tell(state)
            self._states.done(state)
