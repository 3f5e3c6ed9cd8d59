"""What stays at the broker of each camera: its states, its entities, and the list of both."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.home_assistant import discovery, discovery_topics
from edge_runtime.interfaces.mqtt.outbox import StateOutbox
from edge_runtime.interfaces.mqtt.payloads import (
    MAX_PAYLOAD_BYTES,
    OFF,
    OFFLINE,
    ON,
    CameraView,
    as_bytes,
    display_name,
    newer,
)
from edge_runtime.interfaces.mqtt.published_topics import PublishedTopics
from edge_runtime.interfaces.mqtt.topics import MAX_NAME, TopicNames, Topics
from edge_runtime.service.events import Event
from edge_runtime.system.text import printable

log = logging.getLogger(__name__)

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
