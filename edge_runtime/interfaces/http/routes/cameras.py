"""Routes of the cameras: their status and their privacy pause."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from edge_runtime.interfaces.http.errors import NotFound
from edge_runtime.interfaces.http.openapi import accepts, documented
from edge_runtime.interfaces.http.request_bodies import BodyReader
from edge_runtime.interfaces.http.schemas import Cameras, CameraStatus, StatusOfAll
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import make_camera_status
from edge_runtime.system.errors import QueryError
from edge_runtime.system.secrets import hide_all, hide_secrets
from engines.errors import LvmError


def find_camera(service: Service, name: str) -> CameraRun:
    """Return the camera that a path names. Raises NotFound, naming the cameras that exist."""
    try:
        return service.camera(name)
    except QueryError as error:
        raise NotFound(str(error)) from None


def add_camera_routes(app: FastAPI, service: Service, bodies: BodyReader) -> None:
    def status(name: str) -> dict[str, Any]:
        return make_camera_status(find_camera(service, name), service.camera_error(name))

    def statuses() -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        """Return the status of watched cameras by name, and why others are pending."""
        cameras, late = service.cameras_and_errors
        # From the cameras, not from their names: a camera may be removed meanwhile.
        watched = {
            name: make_camera_status(camera, service.camera_error(name)) for name, camera in cameras.items()
        }
        pending = [
            {"camera": name, "error": hide_secrets(str(error))} | hide_all(service.pending.describe(name))
            for name, error in late.items()
        ]
        return watched, pending

    @app.get("/api/v1/status", **documented(CameraStatus | StatusOfAll))
    def all_status() -> dict[str, Any]:
        """Status of the only camera, else of all cameras by name, and the pending ones."""
        watched, pending = statuses()
        if len(watched) == 1 and not pending:
            return next(iter(watched.values()))
        return {"cameras": watched, "awaited": pending}

    @app.get("/api/v1/cameras", **documented(Cameras))
    def cameras() -> dict[str, Any]:
        watched, pending = statuses()
        return {"cameras": list(watched.values()), "awaited": pending}

    # A PUT, which a page of another origin cannot make a browser send without a preflight.
    @app.put(
        "/api/v1/cameras/{name:path}/paused",
        **documented(CameraStatus),
        **accepts({"application/json": {"schema": {"type": "boolean"}}}),
    )
    async def pause(name: str, request: Request) -> dict[str, Any]:
        async with bodies.read(request) as body:
            paused = body.strip()
        if paused not in (b"true", b"false"):
            raise LvmError("paused must be true or false")
        camera = find_camera(service, name)
        # Closing a source may have to wait for its driver.
        await run_in_threadpool(camera.pause if paused == b"true" else camera.resume)
        return status(name)


def add_camera_route(app: FastAPI, service: Service) -> None:
    """Add the route of one camera, after all routes that begin like it: names may hold slashes."""

    @app.get("/api/v1/cameras/{name:path}", **documented(CameraStatus))
    def camera(name: str) -> dict[str, Any]:
        return make_camera_status(find_camera(service, name), service.camera_error(name))
