"""Health checks: alive, ready."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from edge_runtime.interfaces.http.openapi import documented
from edge_runtime.interfaces.http.schemas import Alive, Ready
from edge_runtime.service.runtime import Service


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
