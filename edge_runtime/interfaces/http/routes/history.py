"""The last minutes of a service as numbers, for small curves: in RAM only, bounded."""

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

from edge_runtime.interfaces.http.openapi import told
from edge_runtime.interfaces.http.schemas import HistoryFacts
from edge_runtime.service.events import Event
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import read_resident_bytes

log = logging.getLogger(__name__)

EVERY_S = 2.0
SAMPLES = 300


@dataclass
class _Curves:
    """Of one camera; `frames`, and the `calls` and `seconds` of its engine's, are the counts at the last
    sample."""

    frames: int
    calls: int
    seconds: float
    at: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    fps: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    lost: deque[int] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    query_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    engine_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class History:
    """Looks at a service every two seconds, in a thread that ends when nobody holds this any more."""

    def __init__(self, service: Service, *, every_s: float = EVERY_S) -> None:
        self._service = service
        self._curves: dict[str, _Curves] = {}
        self._resident: deque[int] = deque(maxlen=SAMPLES)
        self._looked = time.monotonic()
        self._lock = threading.Lock()
        ended = threading.Event()
        kept = contextlib.ExitStack()
        self._answers = kept.enter_context(service.events.subscribe())
        kept.callback(ended.set)
        weakref.finalize(self, kept.close)
        threading.Thread(
            target=_look_on, args=(weakref.ref(self), ended, every_s), name="history", daemon=True
        ).start()

    def look(self) -> None:
        """One sample more of everything."""
        now = time.monotonic()
        cameras = self._service.cameras
        with self._lock:
            past, self._looked = max(now - self._looked, 1e-3), now
            asked = self._asked()
            self._curves = {name: one for name, one in self._curves.items() if name in cameras}
            for name, camera in cameras.items():
                frames = camera.version.frames
                counts, seconds = camera.ingest.stages.backbone.read()
                calls = counts[-1]
                curves = self._curves.setdefault(name, _Curves(frames, calls, seconds))
                curves.at.append(round(time.time(), 3))
                curves.fps.append(round(max(frames - curves.frames, 0) / past, 2))
                curves.lost.append(sum(camera.drop_counter.by_reason.values()))
                took = asked.get(name)
                curves.query_ms.append(round(statistics.median(took), 2) if took else None)
                mean = (seconds - curves.seconds) / (calls - curves.calls) if calls > curves.calls else None
                curves.engine_ms.append(None if mean is None else round(1000 * mean, 2))
                curves.frames, curves.calls, curves.seconds = frames, calls, seconds
            self._resident.append(read_resident_bytes())

    def _asked(self) -> dict[str, list[float]]:
        """Milliseconds of the questions answered since the last look, by camera."""
        took: dict[str, list[float]] = {}
        while (event := self._answers.get(0)) is not None:
            milliseconds = _milliseconds(event)
            if event.camera is not None and milliseconds is not None:
                took.setdefault(event.camera, []).append(milliseconds)
        return took

    def as_json(self) -> dict[str, Any]:
        """Lists of the same length a camera, oldest first; `query_ms` null where nobody asked, `engine_ms`
        (of a call for a batch of pictures, waiting included) where no picture came."""
        with self._lock:
            cameras = {
                name: {
                    "at": list(one.at),
                    "fps": list(one.fps),
                    "lost": list(one.lost),
                    "query_ms": list(one.query_ms),
                    "engine_ms": list(one.engine_ms),
                }
                for name, one in self._curves.items()
            }
            return {"cameras": cameras, "resident_bytes": list(self._resident), "every_s": EVERY_S}


def _milliseconds(event: Event) -> float | None:
    """What a question took; None for an event of another kind, or an answer that does not tell it."""
    if event.kind != "answer":
        return None
    answer = (event.after or {}).get("answer")
    told = answer.get("milliseconds") if isinstance(answer, dict) else None
    return float(told) if isinstance(told, (int, float)) and math.isfinite(told) else None


def _look_on(history: weakref.ref[History], ended: threading.Event, every_s: float) -> None:
    well = True
    while not ended.wait(every_s):
        one = history()
        if one is not None:
            try:
                one.look()
                well = True
            except Exception:  # curves that lack a sample are no reason to have none ever after
                if well:  # said once, or it would fill a disk
                    log.exception("the history of the last minutes lacks samples")
                well = False
        del one  # or this thread would be the last to hold it


def add_history_routes(app: FastAPI, history: History) -> None:
    @app.get("/api/v1/history", **told(HistoryFacts))
    def curves() -> dict[str, Any]:
        """Frames remembered a second, frames lost so far, and what questions took, over the last minutes."""
        return history.as_json()
