"""Routes of pictures: the newest, a live stream, and thumbnails where they are switched on.

Privacy zones are masked in all of them; there are none while a camera is paused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from edge_runtime.interfaces.http.errors import error_response
from edge_runtime.interfaces.http.routes.cameras import find_camera
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.pictures import MAX_FPS, MIN_FPS, Picture, TooManyViewers
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError

BOUNDARY = "lvm-edge-picture"
STREAM_HEADERS = {
    "Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}",
    "Cache-Control": "no-store",
}
POLL_S = 0.02
STALE_S = 20.0
"""A stream ends after so long without a new picture: only then does it notice that its viewer has left."""
WATCHING = ("waiting", "starting", "running")


def add_picture_routes(app: FastAPI, service: Service) -> None:
    @app.get("/api/v1/cameras/{name:path}/latest.jpg", response_class=Response)
    def latest(name: str, width: int = 640) -> Response:
        """The newest picture as JPEG; `X-LVM-T` is its second of the stream."""
        camera = find_camera(service, name)
        picture = None if camera.paused else camera.pictures.newest()
        if picture is None:
            return _no_picture(camera)
        headers = {"Cache-Control": "no-store", "X-LVM-T": f"{picture.t:.3f}"}
        return Response(picture.jpeg(width), media_type="image/jpeg", headers=headers)

    @app.get("/api/v1/cameras/{name:path}/live.mjpg", response_class=StreamingResponse)
    async def live(request: Request, name: str, fps: float = 12.0, width: int = 640) -> Response:
        """JPEG after JPEG, as `multipart/x-mixed-replace`; each part says its `X-LVM-T`."""
        camera = find_camera(service, name)
        if not MIN_FPS <= fps <= MAX_FPS:
            raise QueryError(f"fps must be {MIN_FPS:g} to {MAX_FPS:g} pictures a second, got {fps:g}")
        if camera.paused or camera.condition not in WATCHING:
            return _no_picture(camera)
        if request.method == "HEAD":
            return Response(headers=STREAM_HEADERS)
        viewer = contextlib.ExitStack()
        try:
            viewer.enter_context(camera.pictures.preview.watch(fps))
        except TooManyViewers as error:
            return error_response(503, str(error))

        def is_watching() -> bool:
            exists = service.cameras.get(name) is camera
            return exists and not camera.paused and camera.condition in WATCHING

        return _Stream(camera, width, fps, is_watching, viewer)

    @app.get("/api/v1/cameras/{name:path}/thumbnail.jpg", response_class=Response)
    def thumbnail(name: str, t: float) -> Response:
        """The thumbnail of the remembered moment at `t` seconds, where thumbnails are switched on."""
        camera = find_camera(service, name)
        thumbnails = camera.privacy.thumbnails
        if not thumbnails.enabled:
            return _not_found("no thumbnails are kept: privacy.thumbnails is off in the configuration")
        data = thumbnails.read(t)
        if data is None:
            return _not_found(f"there is no thumbnail of {t:g} s")
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


class _Stream(StreamingResponse):
    """Leaves the viewers however it ends, also before its first part."""

    def __init__(
        self,
        camera: CameraRun,
        width: int,
        fps: float,
        is_watching: Callable[[], bool],
        viewer: contextlib.ExitStack,
    ) -> None:
        self._viewer = viewer
        super().__init__(
            _parts(camera, width, fps, is_watching),
            headers=STREAM_HEADERS,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._viewer:
            await super().__call__(scope, receive, send)


async def _parts(
    camera: CameraRun, width: int, fps: float, is_watching: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield a part for each picture. A slow viewer misses the pictures in between."""
    clock = asyncio.get_running_loop().time
    sent: Picture | None = None
    due = newest_at = clock()
    while is_watching() and clock() - newest_at < STALE_S:
        picture = camera.pictures.preview.newest()
        if picture is None or picture is sent or clock() < due:
            await asyncio.sleep(POLL_S)
            continue
        sent, newest_at = picture, clock()
        due = max(due + 1 / fps, newest_at - 1 / fps)
        jpeg = await run_in_threadpool(picture.jpeg, width)
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
        yield f"{head}X-LVM-T: {picture.t:.3f}\r\n\r\n".encode() + jpeg + b"\r\n"


def _no_picture(camera: CameraRun) -> Response:
    if camera.paused:
        return _not_found(f"{camera.name} is paused for privacy: no picture is taken or shown")
    return _not_found(f"{camera.name} has no picture now: it is {camera.condition}")


def _not_found(sentence: str) -> Response:
    return error_response(404, sentence, {"Cache-Control": "no-store"})
