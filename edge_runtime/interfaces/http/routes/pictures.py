"""Pictures over HTTP: the newest one, a live stream of them, and thumbnails where they are switched on.

All of them have passed the privacy zones; there are none while a camera is paused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from edge_runtime.interfaces.http.errors import refused
from edge_runtime.interfaces.http.routes.cameras import camera_of
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.pictures import MAX_FPS, MIN_FPS, Picture, TooManyViewers
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError

BOUNDARY = "lvm-edge-picture"
LOOK_EVERY_S = 0.02
STALE_S = 20.0
"""Without a new picture, after which a stream ends: only then is it noticed that its viewer has gone."""
WATCHING = ("waiting", "starting", "running")


def add_picture_routes(app: FastAPI, service: Service) -> None:
    @app.get("/api/v1/cameras/{name:path}/latest.jpg", response_class=Response)
    def latest(name: str, width: int = 640) -> Response:
        """The newest picture as JPEG; `X-LVM-T` is its second of the stream."""
        camera = camera_of(service, name)
        picture = None if camera.paused else camera.pictures.newest()
        if picture is None:
            return _none(camera)
        headers = {"Cache-Control": "no-store", "X-LVM-T": f"{picture.t:.3f}"}
        return Response(picture.jpeg(width), media_type="image/jpeg", headers=headers)

    @app.get("/api/v1/cameras/{name:path}/live.mjpg", response_class=StreamingResponse)
    async def live(name: str, fps: float = 12.0, width: int = 640) -> Response:
        """JPEG after JPEG, as `multipart/x-mixed-replace`; each part says its `X-LVM-T`."""
        camera = camera_of(service, name)
        if not MIN_FPS <= fps <= MAX_FPS:
            raise QueryError(f"fps must be {MIN_FPS:g} to {MAX_FPS:g} pictures a second, got {fps:g}")
        if camera.paused or camera.condition not in WATCHING:
            return _none(camera)
        looking = contextlib.ExitStack()
        try:
            looking.enter_context(camera.pictures.preview.watch(fps))
        except TooManyViewers as error:
            return refused(503, str(error))

        def still() -> bool:
            here = service.cameras.get(name) is camera
            return here and not camera.paused and camera.condition in WATCHING

        return _Stream(camera, width, fps, still, looking)

    @app.get("/api/v1/cameras/{name:path}/thumbnail.jpg", response_class=Response)
    def thumbnail(name: str, t: float) -> Response:
        """The kept picture of the remembered moment at `t` seconds, where thumbnails are switched on."""
        camera = camera_of(service, name)
        thumbnails = camera.privacy.thumbnails
        if not thumbnails.enabled:
            return _refused("no thumbnails are kept: privacy.thumbnails is off in the configuration")
        data = thumbnails.read(t)
        if data is None:
            return _refused(f"there is no thumbnail of {t:g} s")
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


class _Stream(StreamingResponse):
    """Gives its place among the viewers back however it ends, also before its first part."""

    def __init__(
        self,
        camera: CameraRun,
        width: int,
        fps: float,
        still: Callable[[], bool],
        looking: contextlib.ExitStack,
    ) -> None:
        self._looking = looking
        super().__init__(
            _parts(camera, width, fps, still),
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
            headers={"Cache-Control": "no-store"},
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._looking:
            await super().__call__(scope, receive, send)


async def _parts(
    camera: CameraRun, width: int, fps: float, still: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """One part a picture. A viewer that takes long to read one misses those in between."""
    clock = asyncio.get_running_loop().time
    shown: Picture | None = None
    due = newest_at = clock()
    while still() and clock() - newest_at < STALE_S:
        picture = camera.pictures.preview.newest()
        if picture is None or picture is shown or clock() < due:
            await asyncio.sleep(LOOK_EVERY_S)
            continue
        shown, newest_at = picture, clock()
        due = max(due + 1 / fps, newest_at - 1 / fps)
        jpeg = await run_in_threadpool(picture.jpeg, width)
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
        yield f"{head}X-LVM-T: {picture.t:.3f}\r\n\r\n".encode() + jpeg + b"\r\n"


def _none(camera: CameraRun) -> Response:
    if camera.paused:
        return _refused(f"{camera.name} is paused for privacy: no picture is taken or shown")
    return _refused(f"{camera.name} has no picture now: it is {camera.condition}")


def _refused(sentence: str) -> Response:
    return refused(404, sentence, {"Cache-Control": "no-store"})
