"""A run whose camera tells events, and its MQTT door at a real broker; no test in here."""

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
from tests.support.broker import Ear, until
from tests.support.cameras import Told, fake_engines

ROOT = Path(__file__).parents[2]
SOON = RetryDelays(0.05, 0.2, 0.2)


@contextmanager
def told_service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service with one camera, "lane1", of ten seconds."""
    monkeypatch.setattr(
        camera_run, "open_source", lambda spec, *, sample_fps, start, settings: Told(10, start=start)
    )
    with Service(fake_engines()) as one:
        one.add(CameraSettings("a", folder / "lane1", "lane1"))
        yield one


def door(service: Service, port: int, **more: Any) -> MqttClient:
    wanted = {"enabled": True, "host": "127.0.0.1", "port": port, "client_id": "me", **more}
    return MqttClient(service, MqttSettings(**wanted), SOON)


def happened(number: int, size: int = 0) -> Event:
    return Event("activity", "new", "lane1", None, {"id": number, "activity": "scan" + "x" * size})


def numbers(ear: Ear) -> list[int]:
    told = [json.loads(payload) for payload in ear.all("lvm/events")]
    return [one["after"]["id"] for one in told if one["kind"] == "activity"]


def answer_to(ear: Ear, name: str) -> dict[str, Any]:
    until(lambda: ear.all(f"lvm/query/response/{name}"), f"the answer {name}")
    (payload,) = ear.all(f"lvm/query/response/{name}")
    answer: dict[str, Any] = json.loads(payload)
    return answer
