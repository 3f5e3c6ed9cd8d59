"""Routes of the cameras: how each fares, and its privacy pause."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from edge_runtime.interfaces.http.errors import Unknown
from edge_runtime.interfaces.http.openapi import takes, told
from edge_runtime.interfaces.http.request_bodies import Held
from edge_runtime.interfaces.http.schemas import Cameras, CameraStatus, StatusOfAll
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import make_camera_status
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError


def camera_of(service: Service, name: str) -> CameraRun:
    """The camera that a path names. Raises Unknown, naming those that there are."""
    try:
        return service.camera(name)
    except QueryError as error:
        raise Unknown(str(error)) from None


def add_camera_routes(app: FastAPI, service: Service, held: Held) -> None:
    def status(name: str) -> dict[str, Any]:
        return make_camera_status(camera_of(service, name), service.camera_error(name))

    def wanted() -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
        """Those that are watched, and those that are awaited."""
        cameras, late = service.cameras_and_errors
        # Of the cameras themselves, not of their names: one may be taken out meanwhile.
        found = {name: make_camera_status(one, service.camera_error(name)) for name, one in cameras.items()}
        return found, [{"camera": name, "error": str(error)} for name, error in late.items()]

    @app.get("/api/v1/status", **told(CameraStatus | StatusOfAll))
    def all_status() -> dict[str, Any]:
        """That of the only camera that is wanted, else of all by their names, with those that are awaited."""
        found, others = wanted()
        if len(found) == 1 and not others:
            return next(iter(found.values()))
        return {"cameras": found, "awaited": others}

    @app.get("/api/v1/cameras", **told(Cameras))
    def cameras() -> dict[str, Any]:
        found, others = wanted()
        return {"cameras": list(found.values()), "awaited": others}

    # A PUT, which no page of another origin can make a browser send unasked.
    @app.put(
        "/api/v1/cameras/{name:path}/paused",
        **told(CameraStatus),
        **takes({"application/json": {"schema": {"type": "boolean"}}}),
    )
    async def pause(name: str, request: Request) -> dict[str, Any]:
        async with held.body(request) as body:
            wanted = body.strip()
        if wanted not in (b"true", b"false"):
            raise LvmError("paused must be true or false")
        camera = camera_of(service, name)
        # Leaving a source may have to wait for its driver.
        await run_in_threadpool(camera.pause if wanted == b"true" else camera.resume)
        return status(name)


def add_camera_route(app: FastAPI, service: Service) -> None:
    """The route of one camera. After every other that begins like it: names may hold slashes."""

    @app.get("/api/v1/cameras/{name:path}", **told(CameraStatus))
    def camera(name: str) -> dict[str, Any]:
        return make_camera_status(camera_of(service, name), service.camera_error(name))
