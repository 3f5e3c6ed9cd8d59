"""Observe the service, connected or not: events go to their outbox, cameras to the retained states."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.outbox import Message, Outbox
from edge_runtime.interfaces.mqtt.payloads import (
    CameraView,
    event_payload,
    read_cameras,
    stats,
)
from edge_runtime.interfaces.mqtt.published_topics import PublishedTopics
from edge_runtime.interfaces.mqtt.retained_states import RetainedStates, is_forgetting
from edge_runtime.interfaces.mqtt.topics import TopicNames, Topics
from edge_runtime.service.events import Event, Subscription
from edge_runtime.service.runtime import Service

log = logging.getLogger(__name__)

POLL_S = 1.0
"""A source that loses its camera publishes no event; polling sees it within this time."""


class Observer:
    """For the event loop. `on_change` is called where there is something to publish."""

    def __init__(
        self,
        service: Service,
        settings: MqttSettings,
        topics: Topics,
        names: TopicNames,
        on_change: Callable[[], None],
        published: PublishedTopics | None = None,
    ) -> None:
        self._service, self._settings, self._topics, self._names = service, settings, topics, names
        self._on_change = on_change
        self.states = RetainedStates(settings, topics, names, published)
        self.events = Outbox(settings.buffer_events, round(settings.buffer_mb * 1e6))
        self._subscription: Subscription | None = None
        self._before: Mapping[str, CameraView] = {}
        self._unfit = self._overrun = 0
        self._wake, self._observe_now = asyncio.Event(), False
        self.seen = asyncio.Event()
        """Set when the cameras were read once."""

    @contextlib.contextmanager
    def subscribed(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Subscribe to events, so that none is missed before `run` begins."""

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed while a camera was publishing
                loop.call_soon_threadsafe(self._wake.set)

        with self._service.events.subscribe(self._settings.buffer_events, wake) as subscription:
            self._subscription = subscription
            yield

    async def run(self) -> None:
        """Observe until cancelled, while `subscribed`."""
        try:
            while True:
                await self.observe()
                await self._wait_next()
        finally:
            self._take()

    async def observe(self) -> None:
        """Read the cameras now."""
        loop = asyncio.get_running_loop()
        # Blocks while a camera that is being added reads its memory.
        self.states.update(await loop.run_in_executor(None, read_cameras, self._service))
        self.seen.set()
        self._on_change()

    def observe_soon(self) -> None:
        self._observe_now = True
        self._wake.set()

    def stats(self, more: Mapping[str, Any]) -> bytes:
        """Return the counters; rates are since the last call. Blocks: not for the event loop."""
        now, before = read_cameras(self._service), self._before
        self._before = now
        names = {camera: self._names.safe_name(camera) for camera in now}
        return stats(now, before, names, more)

    def as_json(self) -> dict[str, int]:
        """Return counts; `overrun` events came too fast, `unfit` ones were too long or not JSON."""
        return self.events.as_json() | {"overrun": self._overrun, "unfit": self._unfit}

    async def _wait_next(self) -> None:
        until = time.monotonic() + POLL_S
        while (left := until - time.monotonic()) > 0 and not self._observe_now:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)
            self._wake.clear()
            self._take()
        self._observe_now = False

    def _take(self) -> None:
        assert self._subscription is not None
        while (event := self._subscription.get(0)) is not None:
            self._put(event)
        self._overrun = self._subscription.lost

    def _put(self, event: Event) -> None:
        if event.kind in ("camera", "privacy"):
            self._observe_now = True
        if event.kind == "answer" and not self._settings.answers:
            return
        try:
            payload = event_payload(event)
            self.states.apply_event(event)
        except (ValueError, TypeError) as error:
            self._unfit += 1
            log.error("MQTT: an event of kind %s cannot be published: %s", event.kind, error)
            return
        if is_forgetting(event) and event.camera is not None:
            self.events.forget(event.camera)
        about = event.camera if event.kind in ("activity", "answer") else None
        self.events.put(Message(self._topics.events, payload, about=about))
        self._on_change()
