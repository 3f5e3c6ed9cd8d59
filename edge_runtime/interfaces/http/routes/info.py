"""Routes that tell what this is: version, bundle, the newest answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query

from edge_runtime.interfaces.http.openapi import told
from edge_runtime.interfaces.http.schemas import Answers, BundleFacts, VersionFacts
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.events import MAX_ANSWERS
from edge_runtime.service.runtime import Service
from edge_runtime.system.release import read_version


def precision_of(engines: Engines) -> str:
    """Of the graphs that run here; several where they differ."""
    target = engines.choice.backend.partition("-")[0]
    graphs = engines.bundle.manifest.graphs
    records = dict(graphs).get(target, {})  # type: ignore[call-overload]
    return "+".join(sorted({record.precision for record in records.values()})) or "unknown"


def add_about_routes(app: FastAPI, service: Service) -> None:
    @app.get("/version", **told(VersionFacts))
    async def version() -> dict[str, Any]:
        return {"name": "lvm-edge", "version": read_version(), "api": "v1"}

    @app.get("/api/v1/bundle", **told(BundleFacts))
    def bundle() -> dict[str, Any]:
        """What the model knows, and what runs it."""
        engines = service.engines
        manifest = engines.bundle.manifest
        return {
            "name": manifest.name,
            "digest": engines.bundle.digest,
            "activities": [{"name": one.name, "description": one.doing} for one in manifest.classes],
            "m": manifest.network.memory_tokens,
            "rate": manifest.network.sample_fps,
            "clip_s": manifest.network.clip_frames / manifest.network.sample_fps,
            "precision": precision_of(engines),
            "trained": manifest.training.trained,
            "recipe": manifest.training.recipe,
            "backend": engines.choice.backend,
            "why": engines.choice.why,
        }

    @app.get("/api/v1/answers", **told(Answers))
    def answers(limit: Annotated[int, Query(ge=1, le=MAX_ANSWERS)] = MAX_ANSWERS) -> dict[str, Any]:
        """The newest first, of every door. In RAM only; forgetting drops those of its camera."""
        return {"answers": service.answer_history.newest(limit)}
