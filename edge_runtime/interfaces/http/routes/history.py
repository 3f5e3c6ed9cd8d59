"""Sample the last minutes of a service, for small curves: in RAM only, bounded."""

from __future__ import annotations

import contextlib
import logging
import math
import statistics
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from edge_runtime.interfaces.http.openapi import documented
from edge_runtime.interfaces.http.schemas import HistoryFacts
from edge_runtime.service.events import Event
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import read_resident_bytes

log = logging.getLogger(__name__)

EVERY_S = 2.0
SAMPLES = 300


@dataclass
class _Curves:
    """Samples of one camera; `frames`, `calls` and `seconds` of its engine are as of the last one."""

    frames: int
    calls: int
    seconds: float
    at: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    fps: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    lost: deque[int] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    query_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    engine_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class History:
    """Samples a service every two seconds, in a thread that ends when this object is freed."""

    def __init__(self, service: Service, *, every_s: float = EVERY_S) -> None:
        self._service = service
        self._curves: dict[str, _Curves] = {}
        self._resident: deque[int] = deque(maxlen=SAMPLES)
        self._sampled_at = time.monotonic()
        self._lock = threading.Lock()
        ended = threading.Event()
        resources = contextlib.ExitStack()
        self._answers = resources.enter_context(service.events.subscribe())
        resources.callback(ended.set)
        weakref.finalize(self, resources.close)
        threading.Thread(
            target=_sample_forever, args=(weakref.ref(self), ended, every_s), name="history", daemon=True
        ).start()

    def take_sample(self) -> None:
        """Add a sample of every curve."""
        now = time.monotonic()
        cameras = self._service.cameras
        with self._lock:
            past, self._sampled_at = max(now - self._sampled_at, 1e-3), now
            query_times = self._query_times()
            self._curves = {name: curves for name, curves in self._curves.items() if name in cameras}
            for name, camera in cameras.items():
                frames = camera.version.frames
                counts, seconds = camera.ingest.stages.backbone.read()
                calls = counts[-1]
                curves = self._curves.setdefault(name, _Curves(frames, calls, seconds))
                curves.at.append(round(time.time(), 3))
                curves.fps.append(round(max(frames - curves.frames, 0) / past, 2))
                curves.lost.append(sum(camera.drop_counter.by_reason.values()))
                took = query_times.get(name)
                curves.query_ms.append(round(statistics.median(took), 2) if took else None)
                mean = (seconds - curves.seconds) / (calls - curves.calls) if calls > curves.calls else None
                curves.engine_ms.append(None if mean is None else round(1000 * mean, 2))
                curves.frames, curves.calls, curves.seconds = frames, calls, seconds
            self._resident.append(read_resident_bytes())

    def _query_times(self) -> dict[str, list[float]]:
        """Return the milliseconds of questions answered since the last sample, by camera."""
        took: dict[str, list[float]] = {}
        while (event := self._answers.get(0)) is not None:
            milliseconds = _milliseconds(event)
            if event.camera is not None and milliseconds is not None:
                took.setdefault(event.camera, []).append(milliseconds)
        return took

    def as_json(self) -> dict[str, Any]:
        """Return lists of equal length for each camera, oldest first.

        `query_ms` is null where nothing was asked, `engine_ms` (of a call for a batch of pictures, waiting
        included) where no picture came.
        """
        with self._lock:
            cameras = {
                name: {
                    "at": list(curves.at),
                    "fps": list(curves.fps),
                    "lost": list(curves.lost),
                    "query_ms": list(curves.query_ms),
                    "engine_ms": list(curves.engine_ms),
                }
                for name, curves in self._curves.items()
            }
            return {"cameras": cameras, "resident_bytes": list(self._resident), "every_s": EVERY_S}


def _milliseconds(event: Event) -> float | None:
    """Return how long a question took; None for other events, or an answer without that."""
    if event.kind != "answer":
        return None
    answer = (event.after or {}).get("answer")
    value = answer.get("milliseconds") if isinstance(answer, dict) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _sample_forever(history: weakref.ref[History], ended: threading.Event, every_s: float) -> None:
    healthy = True
    while not ended.wait(every_s):
        current = history()
        if current is not None:
            try:
                current.take_sample()
                healthy = True
            except Exception:  # one missing sample must not end all later ones
                if healthy:  # logged once, or it would fill a disk
                    log.exception("the history of the last minutes lacks samples")
                healthy = False
        del current  # or this thread would keep it alive


def add_history_routes(app: FastAPI, history: History) -> None:
    @app.get("/api/v1/history", **documented(HistoryFacts))
    def curves() -> dict[str, Any]:
        """Frames remembered a second, frames lost so far, and what questions took, over the last minutes."""
        return history.as_json()
