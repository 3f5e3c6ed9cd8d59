"""Build payloads: states of cameras, counters, and events, as JSON."""

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
from edge_runtime.sources.live_source import LiveSource
from edge_runtime.system.secrets import hide_secrets
from engines.errors import LvmError

MAX_PAYLOAD_BYTES = 1 << 16
"""Longest event or state: one that a broker refuses for its length would be retried forever."""

ONLINE, OFFLINE = b"online", b"offline"
ON, OFF = b"ON", b"OFF"


@dataclass(frozen=True)
class CameraView:
    """A camera at one moment. `frames` is None before its memory was read; `facts` are for the counters."""

    status: str
    paused: bool
    frames: int | None
    at: float
    facts: Mapping[str, Any]
    title: str = ""
    """The camera's name for people."""


def read_cameras(service: Service) -> dict[str, CameraView]:
    """Return the state of every configured camera, by name. Blocks while a camera is being added."""
    cameras, late = service.cameras_and_errors
    views = {name: _view(service, name, camera) for name, camera in cameras.items()}
    paused = service.pending.paused
    titles = {name: service.pending.describe(name).get("title", name) for name in late}
    return views | {name: _pending_view(error, paused, titles[name]) for name, error in late.items()}


def _pending_view(error: LvmError, paused: bool, title: str) -> CameraView:
    """Return the state of a pending camera, whose memory is on a disk that is missing."""
    facts: dict[str, Any] = {
        "condition": "awaited",
        "error": _clean(str(error)),
        "source": None,
        "problems": [],
    }
    return CameraView("offline", paused, None, time.monotonic(), facts, title)


def _view(service: Service, name: str, camera: CameraRun) -> CameraView:
    version, source, error = camera.version, camera.source, service.camera_error(name)
    why = source.status.why if isinstance(source, LiveSource) else ""
    facts = {
        "condition": camera.condition,
        "error": None if error is None else _clean(str(error) or type(error).__name__),
        "source": _clean(why) or None,
        "problems": [_clean(problem) for problem in camera.problems],
        "frames": version.frames,
        "lost": dict(camera.drop_counter.by_reason),
        "tokens": version.memory.filled,
        "slots": version.memory.slots,
        "oldest_age_s": compute_oldest_age_s(version),
        "position_s": version.coverage.end,
    }
    status = status_name(camera)
    return CameraView(status, camera.paused, version.frames, time.monotonic(), facts, camera.title)


def status_name(camera: CameraRun) -> str:
    """Return online, offline (the source gives nothing), starting, paused, ended, stopped or failed."""
    if camera.paused and camera.condition not in ("ended", "stopped", "failed"):
        return "paused"
    if camera.condition == "running":
        source = camera.source
        gone = isinstance(source, LiveSource) and source.status.state != "live"
        return "offline" if gone else "online"
    return "starting" if camera.condition == "waiting" else camera.condition


def stats(
    now: Mapping[str, CameraView],
    before: Mapping[str, CameraView],
    names: Mapping[str, str],
    more: Mapping[str, Any],
) -> bytes:
    """Return the counters of all cameras by their names in topics (`names`), with `more`."""
    cameras = {}
    for name, view in now.items():
        fields = {
            "camera": display_name(name),
            "title": display_name(view.title or name),
            "status": view.status,
            "frames_per_s": _rate(view, before.get(name)),
        }
        cameras[names[name]] = fields | dict(view.facts)
    return as_bytes(
        {"at": round(time.time(), 3), "resident_bytes": read_resident_bytes()}
        | dict(more)
        | {"cameras": cameras}
    )


def _rate(now: CameraView, then: CameraView | None) -> float | None:
    if then is None or then.frames is None or now.frames is None or now.at <= then.at:
        return None
    return round(max(0, now.frames - then.frames) / (now.at - then.at), 2)


def event_payload(event: Event) -> bytes:
    """Return `{type, before, after}` with kind, camera and time.

    Raises ValueError where JSON cannot hold it.
    """
    fields = event.as_json()
    if event.camera is not None:
        fields["camera"] = display_name(event.camera)
    payload = as_bytes(fields)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"an event has at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
    return payload


def newer(row: Mapping[str, Any], than: bytes | None) -> bool:
    """Return whether a row of the activity log is newer than the published one, `than`."""
    if not than:
        return True
    known = json.loads(than)
    return bool(row.get("id") == known.get("id") or _start_time(row) >= _start_time(known))


def _start_time(row: Mapping[str, Any]) -> float:
    start = row.get("from_at")
    if not isinstance(start, (int, float)):  # a recording has no wall clock
        start = row.get("from")
    return float(start) if isinstance(start, (int, float)) else 0.0


def display_name(camera: str) -> str:
    """Return a camera's name for others, masked: a name taken from a source may hold credentials."""
    return hide_secrets(camera)


def _clean(text: str) -> str:
    return hide_secrets(text)[:300]


def as_bytes(value: Any) -> bytes:
    """Encode as compact JSON. Raises ValueError for NaN, TypeError for what JSON does not know."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
