"""What is told of cameras, as JSON: their states, the counters, and the events of the bus."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.service.camera import CameraRun
from edge_runtime.service.events import Event
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import compute_oldest_age_s, read_resident_bytes
from edge_runtime.sources.supervised import SupervisedSource
from edge_runtime.system.secrets import mask_secrets, redact
from engines.errors import LvmError

MAX_PAYLOAD_BYTES = 1 << 16
"""Of an event or a state: what a broker refuses for its length would be tried forever."""

ONLINE, OFFLINE = b"online", b"offline"
ON, OFF = b"ON", b"OFF"


@dataclass(frozen=True)
class View:
    """A camera at one moment. `frames` is None where its memory was not read yet; `facts` are those of the
    stats."""

    status: str
    paused: bool
    frames: int | None
    at: float
    facts: Mapping[str, Any]


def look(service: Service) -> dict[str, View]:
    """Every camera that is wanted, by name. It waits where one is being added, so not for an event loop."""
    cameras, late = service.cameras_and_errors
    views = {name: _view(service, name, camera) for name, camera in cameras.items()}
    paused = service.pending.paused
    return views | {name: _late(error, paused) for name, error in late.items()}


def _late(error: LvmError, paused: bool) -> View:
    """Of a camera that could not be taken in yet: what it remembers is on a disk that is not there."""
    facts: dict[str, Any] = {
        "condition": "awaited",
        "error": _said(str(error)),
        "source": None,
        "problems": [],
    }
    return View("offline", paused, None, time.monotonic(), facts)


def _view(service: Service, name: str, camera: CameraRun) -> View:
    version, source, error = camera.version, camera.source, service.camera_error(name)
    why = source.status.why if isinstance(source, SupervisedSource) else ""
    facts = {
        "condition": camera.condition,
        "error": None if error is None else _said(str(error) or type(error).__name__),
        "source": _said(why) or None,
        "problems": [_said(one) for one in camera.problems],
        "frames": version.frames,
        "lost": dict(camera.drop_counter.by_reason),
        "tokens": version.memory.filled,
        "slots": version.memory.slots,
        "oldest_age_s": compute_oldest_age_s(version),
        "position_s": version.coverage.end,
    }
    return View(status_word(camera), camera.paused, version.frames, time.monotonic(), facts)


def status_word(camera: CameraRun) -> str:
    """online, offline (the source gives nothing), starting, paused, ended, stopped or failed."""
    if camera.paused and camera.condition not in ("ended", "stopped", "failed"):
        return "paused"
    if camera.condition == "running":
        source = camera.source
        gone = isinstance(source, SupervisedSource) and source.status.state != "live"
        return "offline" if gone else "online"
    return "starting" if camera.condition == "waiting" else camera.condition


def stats(
    now: Mapping[str, View], before: Mapping[str, View], names: Mapping[str, str], more: Mapping[str, Any]
) -> bytes:
    """The counters of all cameras, by their names in topics (`names`), beside `more`."""
    cameras = {}
    for name, view in now.items():
        told = {"camera": shown(name), "status": view.status, "frames_per_s": _rate(view, before.get(name))}
        cameras[names[name]] = told | dict(view.facts)
    return as_bytes(
        {"at": round(time.time(), 3), "resident_bytes": read_resident_bytes()}
        | dict(more)
        | {"cameras": cameras}
    )


def _rate(now: View, then: View | None) -> float | None:
    if then is None or then.frames is None or now.frames is None or now.at <= then.at:
        return None
    return round(max(0, now.frames - then.frames) / (now.at - then.at), 2)


def event_payload(event: Event) -> bytes:
    """`{type, before, after}` with kind, camera and time. Raises ValueError where it cannot be told."""
    told = event.as_json()
    if event.camera is not None:
        told["camera"] = shown(event.camera)
    payload = as_bytes(told)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"an event has at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
    return payload


def newer(row: Mapping[str, Any], than: bytes | None) -> bool:
    """Whether a row of the activity log is the newest, `than` being the one that is told as such."""
    if not than:
        return True
    known = json.loads(than)
    return bool(row.get("id") == known.get("id") or _begun(row) >= _begun(known))


def _begun(row: Mapping[str, Any]) -> float:
    begun = row.get("from_at")
    if not isinstance(begun, (int, float)):  # a recording has no wall clock
        begun = row.get("from")
    return float(begun) if isinstance(begun, (int, float)) else 0.0


def shown(camera: str) -> str:
    """A camera's name for others: one that is named after its source may hold credentials."""
    return mask_secrets(redact(camera))


def _said(text: str) -> str:
    return mask_secrets(redact(text))[:300]


def as_bytes(value: Any) -> bytes:
    """Compact JSON. Raises ValueError for NaN, TypeError for what JSON does not know."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
