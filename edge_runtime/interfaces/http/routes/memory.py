"""Route of the memory: when and in which cell of the grid tokens lie, never the tokens themselves."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.interfaces.http.openapi import documented
from edge_runtime.interfaces.http.schemas import MemoryFacts
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import coverage_to_json


def add_memory_routes(app: FastAPI, service: Service) -> None:
    @app.get("/api/v1/memory", **documented(MemoryFacts))
    def memory(camera: str | None = None) -> dict[str, Any]:
        """What a camera remembers; without a name that of the only camera."""
        return memory_json(service.camera(camera))


def memory_json(camera: CameraRun) -> dict[str, Any]:
    """Return the remembered tokens in order of time.

    After each `clip_s` seconds it is decided what of them to remember; `clip_frames` frames of the
    running clip have come. What is older than `horizon_s` is dropped.
    """
    network = camera.engines.bundle.manifest.network
    version = camera.version
    memory = version.memory
    n = memory.filled
    columns = memory.tick[:n].tolist(), memory.cell[:n].tolist(), memory.score[:n].tolist()
    tokens = [
        {"t": tick / TICKS_PER_SECOND, "cell": cell, "score": _number(score)}
        for tick, cell, score in zip(*columns, strict=True)
    ]
    return {
        "camera": camera.name,
        "memory_version": memory.version,
        "slots": memory.slots,
        "tokens": tokens,
        "coverage": coverage_to_json(camera.header, version),
        "clip_s": network.clip_frames / network.sample_fps,
        "clip_frames": len(version.pending),
        "grid": network.grid,
        "horizon_s": network.horizon_s,
        "live": camera.live,
        "on_clock": camera.header.clock is not None,
        "zones": {name: list(points) for name, points in camera.zones.polygons.items()},
    }


def _number(score: float) -> float | None:
    """Return a number for JSON, which has neither NaN nor infinity."""
    return round(score, 4) if math.isfinite(score) else None
