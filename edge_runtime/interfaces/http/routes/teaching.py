"""Routes of what cameras are taught: list, show, add and remove examples.

POST /api/v1/taught  {"name": "stocking", "from": "10:03:10", "to": "10:03:25"}       also "shows": false
DELETE /api/v1/taught/stocking?example=3
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from edge_runtime.interfaces.http.errors import NotFound
from edge_runtime.interfaces.http.openapi import accepts, documented, json_body
from edge_runtime.interfaces.http.request_bodies import BodyReader, parse_body
from edge_runtime.interfaces.http.routes.cameras import find_camera
from edge_runtime.interfaces.http.schemas import (
    TaughtActivities,
    TaughtActivity,
    TaughtExampleAdded,
    TaughtExamplesRemoved,
)
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError
from edge_runtime.teaching.examples import MAX_NAME, check_taught


class TeachBody(BaseModel):
    """A span of what a camera watched lately that shows an activity, or (`shows` false) does not."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=MAX_NAME)
    start: float | str = Field(alias="from")
    end: float | str = Field(alias="to")
    shows: bool = True
    camera: str | None = None


def add_teaching_routes(app: FastAPI, service: Service, bodies: BodyReader) -> None:
    def find(name: str | None) -> CameraRun:
        return service.camera() if name is None else find_camera(service, name)

    @app.get("/api/v1/taught", **documented(TaughtActivities))
    def taught(camera: str | None = None) -> dict[str, Any]:
        """What a camera was taught, how sure it is of each, and how many more examples it wants."""
        return find(camera).teacher.as_json()

    @app.get("/api/v1/taught/{name:path}", **documented(TaughtActivity))
    def show(name: str, camera: str | None = None) -> dict[str, Any]:
        """A taught activity with its examples."""
        return _require_taught(find(camera), name).teacher.describe(name)

    # JSON only: a browser sends that to another origin after a preflight request, which is not answered.
    @app.post("/api/v1/taught", **documented(TaughtExampleAdded), **accepts(json_body(TeachBody)))
    async def add(request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise QueryError("this must be sent with Content-Type: application/json")
        async with bodies.read(request) as data:
            body = parse_body(TeachBody, data)
        return await run_in_threadpool(_add, find(body.camera), body)

    @app.delete("/api/v1/taught/{name:path}", **documented(TaughtExamplesRemoved))
    def remove(name: str, camera: str | None = None, example: int | None = None) -> dict[str, Any]:
        return {"name": name, "removed": _require_taught(find(camera), name).teacher.remove(name, example)}


def _add(camera: CameraRun, body: TeachBody) -> dict[str, Any]:
    start, end = camera.time_reader().read_window(str(body.start), str(body.end))
    return camera.teacher.add(body.name, start, end, shows=body.shows)


def _require_taught(camera: CameraRun, name: str) -> CameraRun:
    """Return the camera. Raises NotFound where it was not taught that."""
    try:
        check_taught(name, camera.teacher.file.read())
    except QueryError as error:
        raise NotFound(str(error)) from None
    return camera
