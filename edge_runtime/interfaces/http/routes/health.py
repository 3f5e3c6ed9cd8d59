"""Routes for those who watch over the process: alive, ready."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from edge_runtime.interfaces.http.openapi import told
from edge_runtime.interfaces.http.schemas import Alive, Ready
from edge_runtime.service.runtime import Service


def add_health_routes(app: FastAPI, service: Service) -> None:
    # No thread of the pool: they are answered whatever else is going on.
    @app.get("/healthz", **told(Alive))
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", **told(Ready))
    async def readyz(response: Response) -> dict[str, Any]:
        frames = sum(camera.version.frames for camera in service.cameras.values())
        response.status_code = 200 if frames else 503
        return {"ready": frames > 0, "frames": frames}
