"""What a camera remembers, to be drawn: when and in which cell of the grid, never the tokens themselves."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.interfaces.http.openapi import told
from edge_runtime.interfaces.http.schemas import MemoryFacts
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import coverage_to_json


def add_memory_routes(app: FastAPI, service: Service) -> None:
    @app.get("/api/v1/memory", **told(MemoryFacts))
    def memory(camera: str | None = None) -> dict[str, Any]:
        """Of the only camera where none is named."""
        return memory_json(service.camera(camera))


def memory_json(camera: CameraRun) -> dict[str, Any]:
    """`tokens` in order of time; `clip_s` seconds are watched before it is decided what of them to remember,
    of which `clip_frames` frames have come; what is older than `horizon_s` is let go."""
    network = camera.engines.bundle.manifest.network
    version = camera.version
    kept = version.memory
    n = kept.filled
    columns = kept.tick[:n].tolist(), kept.cell[:n].tolist(), kept.score[:n].tolist()
    tokens = [
        {"t": tick / TICKS_PER_SECOND, "cell": cell, "score": _number(score)}
        for tick, cell, score in zip(*columns, strict=True)
    ]
    return {
        "camera": camera.name,
        "memory_version": kept.version,
        "slots": kept.slots,
        "tokens": tokens,
        "coverage": coverage_to_json(camera.header, version),
        "clip_s": network.clip_frames / network.sample_fps,
        "clip_frames": len(version.pending),
        "horizon_s": network.horizon_s,
        "live": camera.live,
        "zones": {name: list(points) for name, points in camera.zones.polygons.items()},
    }


def _number(score: float) -> float | None:
    """For JSON, which knows neither NaN nor infinity."""
    return round(score, 4) if math.isfinite(score) else None
