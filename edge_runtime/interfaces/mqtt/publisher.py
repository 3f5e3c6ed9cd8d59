"""Publish over one connection, from the first message to the last."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge_runtime.interfaces.mqtt.outbox import Message, Outbox, StateOutbox
from edge_runtime.interfaces.mqtt.payloads import OFFLINE, ONLINE
from edge_runtime.interfaces.mqtt.topics import Topics

if TYPE_CHECKING:
    from edge_runtime.interfaces.mqtt.connection import Connection

GOODBYE_S = 1.0
"""For the messages that are left at the end."""
CLOSE_S = 0.3


class Publisher:
    """Sends states, replies and events, in this order.

    What is not confirmed when the connection is lost stays in its outbox; a reply does not, since its
    receiver has lost the connection too.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        old_listings: Sequence[str],
        states: StateOutbox,
        replies: Outbox,
        events: Outbox,
        stats: Callable[[], bytes],
        stats_every_s: float,
    ) -> None:
        self._connection, self._topics, self._old_listings = connection, topics, old_listings
        self._states, self._replies, self._events = states, replies, events
        self._stats, self._stats_every_s = stats, stats_every_s
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Wake the loop: there is something to send."""
        self._changed.set()

    async def run(self, listen: list[str], on_ready: Callable[[], None]) -> None:
        """Send until cancelled. Raises MqttError when the connection is lost.

        All states are published again, since the broker may have lost them, and `available` after them.
        """
        await self._connection.listen(*listen)
        await self._connection.try_to_listen(*self._old_listings)  # what it may not read stays there
        self._states.mark_all()
        await self._send_states()
        await self._connection.send(Message(self._topics.available, ONLINE, retain=True))
        on_ready()
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                payload = await asyncio.get_running_loop().run_in_executor(None, self._stats)
                await self._connection.send(Message(self._topics.stats, payload), qos=0)
                due = max(due + self._stats_every_s, time.monotonic())
            self._changed.clear()
            if not await self._send_next():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), max(due - time.monotonic(), 0.001))

    async def goodbye(self) -> None:
        """Send what is left, and that this device is offline, within `GOODBYE_S`. Raises MqttError."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._send_rest(time.monotonic() + 0.7 * GOODBYE_S), 0.7 * GOODBYE_S)
        gone = Message(self._topics.available, OFFLINE, retain=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._connection.send(gone), 0.3 * GOODBYE_S)

    async def _send_rest(self, until: float) -> None:
        while time.monotonic() < until and await self._send_next():
            pass

    async def _send_next(self) -> bool:
        """Send one message. Returns whether there was one."""
        await self._send_states()
        reply = self._replies.take()
        if reply is not None:
            try:
                await self._connection.send(reply)
            except BaseException:
                self._replies.dropped += 1
                raise
            self._replies.done()
            return True
        event = self._events.take()
        if event is None:
            return False
        try:
            await self._connection.send(event)
        except BaseException:  # cancellation too: it is not known whether it arrived
            self._events.give_back(event)
            raise
        self._events.done()
        return True

    async def _send_states(self) -> None:
        while (state := self._states.take()) is not None:
            await self._connection.send(state)
            self._states.done(state)
