"""A service whose camera publishes events, and its MQTT client at a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import edge_runtime.service.camera as camera_run
from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.client import MqttClient, RetryDelays
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.events import Event
from edge_runtime.service.runtime import Service
from tests.support.broker import Subscriber, wait_until
from tests.support.cameras import ScriptedSource, fake_engines

ROOT = Path(__file__).parents[2]
SOON = RetryDelays(0.05, 0.2, 0.2)


@contextmanager
def open_service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Open a service with one camera, "lane1", of ten seconds."""
    monkeypatch.setattr(
        camera_run,
        "open_source",
        lambda spec, *, sample_fps, start, settings: ScriptedSource(10, start=start),
    )
    with Service(fake_engines()) as service:
        service.add(CameraSettings("a", folder / "lane1", "lane1"))
        yield service


def make_client(service: Service, port: int, **more: Any) -> MqttClient:
    settings = {"enabled": True, "host": "127.0.0.1", "port": port, "client_id": "me", **more}
    return MqttClient(service, MqttSettings(**settings), SOON)


def make_event(number: int, size: int = 0) -> Event:
    return Event("activity", "new", "lane1", None, {"id": number, "activity": "scan" + "x" * size})


def list_event_ids(subscriber: Subscriber) -> list[int]:
    events = [json.loads(payload) for payload in subscriber.all("lvm/events")]
    return [event["after"]["id"] for event in events if event["kind"] == "activity"]


def wait_for_answer(subscriber: Subscriber, name: str) -> dict[str, Any]:
    wait_until(lambda: subscriber.all(f"lvm/query/response/{name}"), f"the answer {name}")
    (payload,) = subscriber.all(f"lvm/query/response/{name}")
    answer: dict[str, Any] = json.loads(payload)
    return answer
