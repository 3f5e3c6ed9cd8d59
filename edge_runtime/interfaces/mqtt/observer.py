"""Observe the service, connected or not: events go to their outbox, cameras to the retained states.

Four retained messages describe a camera to Home Assistant:
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.outbox import Message, Outbox, StateOutbox
from edge_runtime.interfaces.mqtt.payloads import (
    MAX_PAYLOAD_BYTES,
    OFF,
    OFFLINE,
    ON,
    CameraView,
    as_bytes,
    display_name,
    event_payload,
    newer,
    read_cameras,
    stats,
)
from edge_runtime.interfaces.mqtt.published_topics import PublishedTopics
from edge_runtime.interfaces.mqtt.topics import MAX_NAME, TopicNames, Topics
from edge_runtime.service.events import Event, Subscription
from edge_runtime.service.runtime import Service
from edge_runtime.system.release import read_version
from edge_runtime.system.text import printable

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


_OURS = ("status", "paused/state", "activity")
_LISTED_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME + 20}}}\Z")
MAX_STALE = 256
"""Cameras of an earlier run whose topics are removed."""


def is_forgetting(event: Event) -> bool:
    """Return whether an event says that a camera has forgotten something."""
    return event.kind == "privacy" and bool(event.after and event.after.get("forgotten"))


class RetainedStates:
    """Writes the states into `outbox`. All calls belong to one thread."""

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        names: TopicNames,
        published: PublishedTopics | None = None,
    ) -> None:
        self._settings, self._topics, self._names = settings, topics, names
        self._published = published or PublishedTopics()
        self.outbox = StateOutbox(self._note_removal)
        self._cameras: set[str] = set()
        self._other: str | None = None

    def update(self, views: Mapping[str, CameraView]) -> None:
        """Set the states of the cameras, and remove topics of cameras that are gone."""
        for camera in self._cameras - set(views):
            self._remove_topics(self._names.safe_name(camera))
        self._cameras = set(views)
        self._names.keep(views)
        self._published.remember(self._settings.address, self._topics.prefix, self._list_topics())
        for camera, view in views.items():
            name = self._names.safe_name(camera)
            self.outbox.set(self._topics.camera_topic(name, "status"), view.status.encode())
            self.outbox.set(self._topics.camera_topic(name, "paused/state"), ON if view.paused else OFF)
            if self._settings.discovery.enabled:
                self.outbox.set_all(self._discovery(name, view.title or camera))
        self.outbox.set(self._topics.cameras, self._listing())

    def apply_event(self, event: Event) -> None:
        """Set the newest recognised activity of a camera; none after it has forgotten anything."""
        if is_forgetting(event) and event.camera in self._cameras:
            self.outbox.set(self._topics.camera_topic(self._names.safe_name(event.camera), "activity"), b"")
        if event.kind != "activity" or event.camera not in self._cameras:
            return
        topic = self._topics.camera_topic(self._names.safe_name(event.camera), "activity")
        published = self.outbox.get(topic)
        if event.after is not None and newer(event.after, published):
            row = as_bytes(event.after)
            if len(row) <= MAX_PAYLOAD_BYTES:
                self.outbox.set(topic, row)
        elif event.after is None and event.before is not None and published:
            if json.loads(published).get("id") == event.before.get("id"):
                self.outbox.set(topic, b"")

    def take_listing(self, payload: bytes) -> None:
        """Remove topics of an earlier run's cameras, which the broker retained under `PREFIX/cameras`."""
        listing = _listed(payload)
        if listing is None:
            return
        owner, with_discovery, cameras = listing
        if owner != self._settings.name and read_owner(payload) != self._published.id:
            if owner != self._other:
                log.warning(
                    "MQTT: %s uses the topic prefix %s too; give each device its own mqtt.topic_prefix",
                    printable(owner),
                    self._topics.prefix,
                )
            self._other = owner
            return
        current = self._list_topics()
        for topic in self._published.topics(self._settings.address, self._topics.prefix):
            if topic not in current:
                self.outbox.set(topic, b"")
        here = {self._names.safe_name(camera) for camera in self._cameras}
        for name in cameras:
            if name not in here:
                self._remove_topics(name)
            elif with_discovery and not self._settings.discovery.enabled:
                self._remove_discovery(name)

    def list_old_listings(self) -> list[str]:
        """Return the listings under earlier prefixes; `take_old_listing` takes what comes there."""
        prefixes = self._published.prefixes(self._settings.address)
        return [f"{prefix}/cameras" for prefix in prefixes if prefix != self._topics.prefix]

    def take_old_listing(self, topic: str, payload: bytes) -> None:
        """Remove the topics under an earlier prefix, unless another device uses that now."""
        prefix = topic.removesuffix("/cameras")
        if read_owner(payload) != self._published.id:
            self._published.forget(self._settings.address, prefix)
            return
        current = self._list_topics()
        for old in self._published.topics(self._settings.address, prefix):
            if old not in current:
                self.outbox.set(old, b"")

    def set_offline(self) -> None:
        """Set all cameras offline."""
        for camera in self._cameras:
            self.outbox.set(self._topics.camera_topic(self._names.safe_name(camera), "status"), OFFLINE)

    def _list_topics(self) -> set[str]:
        """Return the retained topics of the present cameras."""
        topics = {self._topics.available, self._topics.cameras}
        for name in map(self._names.safe_name, self._cameras):
            topics |= {self._topics.camera_topic(name, what) for what in _OURS}
            if self._settings.discovery.enabled:
                topics |= set(discovery_topics(self._settings.discovery.prefix, self._topics, name).values())
        return topics

    def _note_removal(self, topic: str) -> None:
        """Forget a topic that the broker does not retain any more."""
        for prefix in self._published.prefixes(self._settings.address):
            if topic == f"{prefix}/cameras":
                self._published.forget(self._settings.address, prefix)
            elif prefix == self._topics.prefix and topic not in self._list_topics():
                self._published.forget(self._settings.address, prefix, [topic])

    def _discovery(self, name: str, title: str) -> dict[str, bytes]:
        settings = self._settings
        return discovery(
            settings.discovery.prefix, self._topics, name, display_name(title), settings.stats_interval_s
        )

    def _listing(self) -> bytes:
        return as_bytes(
            {
                "client_id": self._settings.name,
                "id": self._published.id,
                "discovery": self._settings.discovery.enabled,
                "cameras": {
                    self._names.safe_name(camera): display_name(camera) for camera in sorted(self._cameras)
                },
            }
        )

    def _remove_topics(self, name: str) -> None:
        for what in _OURS:
            self.outbox.set(self._topics.camera_topic(name, what), b"")
        self._remove_discovery(name)

    def _remove_discovery(self, name: str) -> None:
        for topic in discovery_topics(self._settings.discovery.prefix, self._topics, name).values():
            self.outbox.set(topic, b"")


def read_owner(listing: bytes) -> str | None:
    """Return the id of the device that wrote a listing, None where it has none."""
    try:
        owner = json.loads(listing)["id"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return owner if isinstance(owner, str) else None


def _listed(payload: bytes) -> tuple[str, bool, list[str]] | None:
    """Return client, whether with discovery, and camera names of our own kind of listing, else None."""
    try:
        fields: Any = json.loads(payload)
        owner, cameras = fields["client_id"], fields["cameras"]
        names = [name for name in cameras if _LISTED_NAME.match(name)]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(owner, str) or not isinstance(cameras, dict) or len(owner) > 64:
        return None
    return owner, fields.get("discovery") is True, names[:MAX_STALE]


ENTITIES = (
    ("binary_sensor", "connectivity"),
    ("sensor", "activity"),
    ("sensor", "frames_per_s"),
    ("switch", "paused"),
)

_CONNECTED = "{{ {'online': 'ON', 'paused': 'None', 'starting': 'None'}.get(value, 'OFF') }}"
"""Unknown while a camera is paused: a pause is no alarm."""
_ATTRIBUTES = "{{ (value_json if value_json is defined else {}) | tojson }}"
"""A removed state is an empty message; without this Home Assistant would go on showing what was forgotten."""


def discovery_topics(prefix: str, topics: Topics, camera: str) -> dict[str, str]:
    """Return the topic of each entity of a camera, by its name in topics."""
    node = _node(topics, camera)
    return {entity: f"{prefix}/{component}/{node}/{entity}/config" for component, entity in ENTITIES}


def discovery(
    prefix: str, topics: Topics, camera: str, display_name: str, stats_interval_s: float
) -> dict[str, bytes]:
    """Return payloads by topic. `camera` is the name in topics, `display_name` the one for people."""
    node = _node(topics, camera)
    common: dict[str, Any] = {
        "availability_topic": topics.available,
        "device": {
            "identifiers": [node],
            "name": display_name,
            "manufacturer": "lvm-edge",
            "model": "camera with a memory",
            "sw_version": read_version(),
        },
        "origin": {"name": "lvm-edge", "sw_version": read_version()},
    }
    own: dict[str, dict[str, Any]] = {
        "connectivity": {
            "name": "Connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": topics.camera_topic(camera, "status"),
            "value_template": _CONNECTED,
        },
        "activity": {
            "name": "Activity",
            "icon": "mdi:hand-extended",
            "state_topic": topics.camera_topic(camera, "activity"),
            "value_template": "{{ value_json.activity if value_json is defined else None }}",
            "json_attributes_topic": topics.camera_topic(camera, "activity"),
            "json_attributes_template": _ATTRIBUTES,
        },
        "frames_per_s": {
            "name": "Frames",
            "unit_of_measurement": "fps",
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "state_topic": topics.stats,
            "value_template": f"{{{{ (value_json.cameras['{camera}'] | default({{}})).frames_per_s }}}}",
            "expire_after": round(3 * stats_interval_s) + 1,
        },
        "paused": {
            "name": "Privacy pause",
            "icon": "mdi:eye-off",
            "state_topic": topics.camera_topic(camera, "paused/state"),
            "command_topic": topics.camera_topic(camera, "paused/set"),
        },
    }
    where = discovery_topics(prefix, topics, camera)
    return {
        where[entity]: as_bytes(entity_fields | common | {"unique_id": f"{node}_{entity}"})
        for entity, entity_fields in own.items()
    }


def _node(topics: Topics, camera: str) -> str:
    """Return an id of letters, digits, _ and -, as Home Assistant requires."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', topics.prefix)}_{camera}"
