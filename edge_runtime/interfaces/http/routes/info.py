"""Routes of information: version, bundle, newest answers; alive, ready."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response

from edge_runtime.interfaces.http.openapi import documented
from edge_runtime.interfaces.http.schemas import Alive, Answers, BundleFacts, LogLines, Ready, VersionFacts
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.events import MAX_ANSWERS
from edge_runtime.service.runtime import Service
from edge_runtime.system.logs import MAX_RECENT, recent_log
from edge_runtime.system.release import read_version


def precision_name(engines: Engines) -> str:
    """Return the precision of the graphs in use, joined by + where they differ."""
    target = engines.choice.backend.partition("-")[0]
    graphs = engines.bundle.manifest.graphs
    records = dict(graphs).get(target, {})  # type: ignore[call-overload]
    return "+".join(sorted({record.precision for record in records.values()})) or "unknown"


def add_info_routes(app: FastAPI, service: Service) -> None:
    @app.get("/version", **documented(VersionFacts))
    async def version() -> dict[str, Any]:
        return {"name": "lvm-edge", "version": read_version(), "api": "v1"}

    @app.get("/api/v1/bundle", **documented(BundleFacts))
    def bundle() -> dict[str, Any]:
        """The bundle in use, its activities, and the backend that runs it."""
        engines = service.engines
        manifest = engines.bundle.manifest
        return {
            "name": manifest.name,
            "digest": engines.bundle.digest,
            "activities": [{"name": item.name, "description": item.doing} for item in manifest.classes],
            "m": manifest.network.memory_tokens,
            "rate": manifest.network.sample_fps,
            "clip_s": manifest.network.clip_frames / manifest.network.sample_fps,
            "precision": precision_name(engines),
            "trained": manifest.training.trained,
            "recipe": manifest.training.recipe,
            "backend": engines.choice.backend,
            "why": engines.choice.why,
        }

    @app.get("/api/v1/log", **documented(LogLines))
    def log_lines(limit: Annotated[int, Query(ge=1, le=MAX_RECENT)] = 200) -> dict[str, Any]:
        """The newest lines of the log, without secrets. In RAM only; forgetting drops those of its time."""
        recent = recent_log()
        records = recent.newest(limit) if recent is not None else []
        level = logging.getLevelName(logging.getLogger().level).lower()
        return {"level": level, "lines": [dict(vars(record)) for record in records]}

    @app.get("/api/v1/answers", **documented(Answers))
    def answers(limit: Annotated[int, Query(ge=1, le=MAX_ANSWERS)] = MAX_ANSWERS) -> dict[str, Any]:
        """Answers of all interfaces, the newest first. In RAM only; forgetting drops those of its camera."""
        return {"answers": service.answer_history.newest(limit)}


def add_health_routes(app: FastAPI, service: Service) -> None:
    # Not in the thread pool, so that they answer under any load.
    @app.get("/healthz", **documented(Alive))
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", **documented(Ready))
    async def readyz(response: Response) -> dict[str, Any]:
        frames = sum(camera.version.frames for camera in service.cameras.values())
        response.status_code = 200 if frames else 503
        return {"ready": frames > 0, "frames": frames}
