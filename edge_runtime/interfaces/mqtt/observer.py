"""Follows the service, whether the broker is there or not: events into the line, states onto the board."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.outbox import Line, Message
from edge_runtime.interfaces.mqtt.payloads import View, event_payload, look, stats
from edge_runtime.interfaces.mqtt.retained_states import Board, forgets
from edge_runtime.interfaces.mqtt.topics import Names, Topics
from edge_runtime.service.events import Event, Subscription
from edge_runtime.service.runtime import Service

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""A source that loses its camera publishes no event; within so long it is seen."""


class Follower:
    """For the event loop. `news` is called where there is something to tell."""

    def __init__(
        self,
        service: Service,
        settings: MqttSettings,
        topics: Topics,
        names: Names,
        news: Callable[[], None],
    ) -> None:
        self._service, self._settings, self._topics, self._names = service, settings, topics, names
        self._news = news
        self.board = Board(settings, topics, names)
        self.events = Line(settings.buffer_events, round(settings.buffer_mb * 1e6))
        self._subscription: Subscription | None = None
        self._before: Mapping[str, View] = {}
        self._unfit = self._overrun = 0
        self._woken, self._look_now = asyncio.Event(), False
        self.seen = asyncio.Event()
        """Set when it is known which cameras there are."""

    @contextlib.contextmanager
    def subscribed(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """While the door is open: what happens from now on is not missed, though `run` begins later."""

        def woken() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed while a camera was publishing
                loop.call_soon_threadsafe(self._woken.set)

        with self._service.events.subscribe(self._settings.buffer_events, woken) as subscription:
            self._subscription = subscription
            yield

    async def run(self) -> None:
        """Until cancelled, while `subscribed`."""
        try:
            while True:
                await self.look()
                await self._until_next_look()
        finally:
            self._take()

    async def look(self) -> None:
        """See now how the cameras are."""
        loop = asyncio.get_running_loop()
        # Where a camera is being added it waits until its memory has been read.
        self.board.show(await loop.run_in_executor(None, look, self._service))
        self.seen.set()
        self._news()

    def look_soon(self) -> None:
        self._look_now = True
        self._woken.set()

    def stats(self, more: Mapping[str, Any]) -> bytes:
        """The counters now; rates are since the last call. Not for the event loop."""
        now, before = look(self._service), self._before
        self._before = now
        names = {camera: self._names.of(camera) for camera in now}
        return stats(now, before, names, more)

    def as_json(self) -> dict[str, int]:
        """`overrun`: more at once than could be taken up; `unfit`: too long, or nothing for JSON."""
        return self.events.as_json() | {"overrun": self._overrun, "unfit": self._unfit}

    async def _until_next_look(self) -> None:
        until = time.monotonic() + LOOK_EVERY_S
        while (left := until - time.monotonic()) > 0 and not self._look_now:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)
            self._woken.clear()
            self._take()
        self._look_now = False

    def _take(self) -> None:
        assert self._subscription is not None
        while (event := self._subscription.get(0)) is not None:
            self._put(event)
        self._overrun = self._subscription.lost

    def _put(self, event: Event) -> None:
        if event.kind in ("camera", "privacy"):
            self._look_now = True
        if event.kind == "answer" and not self._settings.answers:
            return
        try:
            payload = event_payload(event)
            self.board.event(event)
        except (ValueError, TypeError) as error:
            self._unfit += 1
            log.error("MQTT: an event of kind %s cannot be told: %s", event.kind, error)
            return
        if forgets(event) and event.camera is not None:
            self.events.forget(event.camera)
        tells = event.camera if event.kind in ("activity", "answer") else None
        self.events.put(Message(self._topics.events, payload, about=tells))
        self._news()
