"""What others are to know of the cameras, kept as retained states, whether connected or not."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.homeassistant import discovery, discovery_topics
from edge_runtime.interfaces.mqtt.outbox import States
from edge_runtime.interfaces.mqtt.payloads import (
    MAX_PAYLOAD_BYTES,
    OFF,
    OFFLINE,
    ON,
    View,
    as_bytes,
    newer,
    shown,
)
from edge_runtime.interfaces.mqtt.topics import MAX_NAME, Names, Topics
from edge_runtime.service.events import Event
from edge_runtime.system.text import printable

log = logging.getLogger(__name__)

_OURS = ("status", "paused/state", "activity")
_FOUND_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME + 20}}}\Z")
MAX_FOUND = 256
"""Cameras of an earlier run that are taken back."""


def forgets(event: Event) -> bool:
    """Whether it says that a camera has forgotten something."""
    return event.kind == "privacy" and bool(event.after and event.after.get("forgotten"))


class Board:
    """`states` is what there is to tell. All calls belong to one thread."""

    def __init__(self, settings: MqttSettings, topics: Topics, names: Names) -> None:
        self._settings, self._topics, self._names = settings, topics, names
        self.states = States()
        self._cameras: set[str] = set()
        self._other: str | None = None

    def show(self, views: Mapping[str, View]) -> None:
        """The cameras as they are now; those that are gone are taken back."""
        for camera in self._cameras - set(views):
            self._take_back(self._names.of(camera))
        self._cameras = set(views)
        self._names.keep(views)
        for camera, view in views.items():
            name = self._names.of(camera)
            self.states.set(self._topics.of(name, "status"), view.status.encode())
            self.states.set(self._topics.of(name, "paused/state"), ON if view.paused else OFF)
            if self._settings.discovery.enabled:
                self.states.update(self._discovery(name, camera))
        self.states.set(self._topics.cameras, self._listing())

    def event(self, event: Event) -> None:
        """The newest recognised activity of a camera; none where any of its past was forgotten."""
        if forgets(event) and event.camera in self._cameras:
            self.states.set(self._topics.of(self._names.of(event.camera), "activity"), b"")
        if event.kind != "activity" or event.camera not in self._cameras:
            return
        topic = self._topics.of(self._names.of(event.camera), "activity")
        told = self.states.get(topic)
        if event.after is not None and newer(event.after, told):
            row = as_bytes(event.after)
            if len(row) <= MAX_PAYLOAD_BYTES:
                self.states.set(topic, row)
        elif event.after is None and event.before is not None and told:
            if json.loads(told).get("id") == event.before.get("id"):
                self.states.set(topic, b"")

    def found(self, payload: bytes) -> None:
        """What the broker still had under `PREFIX/cameras`: cameras of an earlier run are taken back."""
        found = _listed(payload)
        if found is None:
            return
        owner, with_discovery, cameras = found
        if owner != self._settings.name:
            if owner != self._other:
                log.warning(
                    "MQTT: %s uses the topic prefix %s too; give each device its own mqtt.topic_prefix",
                    printable(owner),
                    self._topics.prefix,
                )
            self._other = owner
            return
        here = {self._names.of(camera) for camera in self._cameras}
        for name in cameras:
            if name not in here:
                self._take_back(name)
            elif with_discovery and not self._settings.discovery.enabled:
                self._take_back_discovery(name)

    def leave(self) -> None:
        """Nobody watches any more."""
        for camera in self._cameras:
            self.states.set(self._topics.of(self._names.of(camera), "status"), OFFLINE)

    def _discovery(self, name: str, camera: str) -> dict[str, bytes]:
        settings = self._settings
        return discovery(
            settings.discovery.prefix, self._topics, name, shown(camera), settings.stats_interval_s
        )

    def _listing(self) -> bytes:
        return as_bytes(
            {
                "client_id": self._settings.name,
                "discovery": self._settings.discovery.enabled,
                "cameras": {self._names.of(camera): shown(camera) for camera in sorted(self._cameras)},
            }
        )

    def _take_back(self, name: str) -> None:
        for what in _OURS:
            self.states.set(self._topics.of(name, what), b"")
        self._take_back_discovery(name)

    def _take_back_discovery(self, name: str) -> None:
        for topic in discovery_topics(self._settings.discovery.prefix, self._topics, name).values():
            self.states.set(topic, b"")


def _listed(payload: bytes) -> tuple[str, bool, list[str]] | None:
    """Client, whether with discovery, and names of cameras, of what is a listing as we write it."""
    try:
        fields: Any = json.loads(payload)
        owner, cameras = fields["client_id"], fields["cameras"]
        names = [name for name in cameras if _FOUND_NAME.match(name)]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(owner, str) or not isinstance(cameras, dict) or len(owner) > 64:
        return None
    return owner, fields.get("discovery") is True, names[:MAX_FOUND]
