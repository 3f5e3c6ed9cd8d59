"""The local door for programs: questions as JSON over HTTP, on 127.0.0.1 unless told otherwise.

Imported only when it is switched on. Access control and the page come with a later version; until then it
refuses to listen beyond loopback.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from edge_runtime.addressed import parse_addressed
from edge_runtime.patience import TimedProtocol
from edge_runtime.privacy.doors import add_privacy_routes
from edge_runtime.queries import MAX_QUESTION_BYTES
from edge_runtime.secret import masked
from edge_runtime.service import Service
from edge_runtime.status import status_of_camera
from engines.errors import LvmError

MAX_CONNECTIONS = 64
"""At once; the next is told 503."""
DEFAULT_LISTEN = "127.0.0.1:8971"
MAX_BODY_BYTES = MAX_QUESTION_BYTES
MAX_HELD_BYTES = 100_000_000
"""Of all questions that are being read and answered together: the largest one and many small ones."""


class Busy(LvmError):
    """There is no room for this question now; the same one may be put again."""


def make_app(service: Service) -> FastAPI:
    """Routes over one service and its cameras."""
    app = FastAPI(title="lvm-edge", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)

    @app.exception_handler(LvmError)
    async def _refused(request: Request, error: LvmError) -> JSONResponse:
        return JSONResponse({"error": masked(str(error))}, 503 if isinstance(error, Busy) else 422)

    held = Held()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, Any]:
        frames = sum(camera.version.frames for camera in service.cameras.values())
        response.status_code = 200 if frames else 503
        return {"ready": frames > 0, "frames": frames}

    @app.get("/api/v1/status")
    def status() -> dict[str, Any]:
        """That of the only camera, or of all by their names."""
        found = {name: _status(service, name) for name in service.cameras}
        return next(iter(found.values())) if len(found) == 1 else {"cameras": found}

    @app.get("/api/v1/cameras")
    def cameras() -> dict[str, Any]:
        return {"cameras": [_status(service, name) for name in service.cameras]}

    # A PUT, which no page of another origin can make a browser send unasked.
    @app.put("/api/v1/cameras/{name:path}/paused")
    async def pause(name: str, request: Request) -> dict[str, Any]:
        async with held.body(request) as body:
            wanted = body.strip()
        if wanted not in (b"true", b"false"):
            raise LvmError("paused must be true or false")
        # Leaving a source may have to wait for its driver.
        await run_in_threadpool(service.pause if wanted == b"true" else service.resume, name)
        return _status(service, name)

    @app.get("/api/v1/cameras/{name:path}")
    def camera(name: str) -> dict[str, Any]:
        return _status(service, name)

    @app.post("/api/v1/query")
    async def query(request: Request) -> JSONResponse:
        async with held.body(request) as body:
            asked = parse_addressed(body)
            # The reader runs in a thread, so that health checks are answered meanwhile.
            answer = await run_in_threadpool(service.ask, asked.query, asked.camera)
        return JSONResponse(answer.model_dump(mode="json"))

    add_privacy_routes(app, service.camera)
    return app


class BriefLog(logging.Filter):
    """A client that breaks the rules of HTTP costs a line of the log; uvicorn would log a page, each time."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and type(record.exc_info[1]).__name__ == "LocalProtocolError":
            record.msg, record.args, record.exc_info = "a client broke the rules of HTTP", (), None
        return True


class HttpServer:
    """uvicorn in a thread of its own. Raises LvmError if the address cannot be used."""

    def __init__(self, service: Service, listen: str) -> None:
        host, port = parse_listen(listen)
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            # Now, not when uvicorn has started: until somebody listens, a second process may bind as well.
            self._socket.listen(128)
        except OSError as error:
            self._socket.close()
            raise LvmError(f"--http {listen}: {error.strerror}; choose another port or --no-http") from error
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            make_app(service),
            http=TimedProtocol,
            log_config=None,
            access_log=False,
            limit_concurrency=MAX_CONNECTIONS,
        )
        logging.getLogger("uvicorn.error").addFilter(BriefLog())
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=2)
        self._socket.close()


def _status(service: Service, name: str) -> dict[str, Any]:
    return status_of_camera(service.camera(name), service.error_of(name))


def parse_listen(listen: str) -> tuple[str, int]:
    """HOST:PORT, loopback only."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        number = int(port)
    except ValueError:
        raise LvmError(f"--http must be HOST:PORT like {DEFAULT_LISTEN}, got {listen!r}") from None
    if not loopback:
        raise LvmError(f"--http {listen}: this version has no access control and listens on loopback only")
    if not 0 <= number <= 65535:
        raise LvmError(f"--http port must be 0..65535, got {number}")
    return ("127.0.0.1" if host == "localhost" else host), number


class Held:
    """What all requests together hold in memory. For one event loop, which is one thread."""

    def __init__(self) -> None:
        self.bytes = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body, counted until it is left. Raises LvmError for one that is too large, Busy where
        others leave no room for it."""
        parts: list[bytes] = []
        try:
            try:
                await self._read(request, parts)
            except ClientDisconnect:
                # Nobody is left to be told; unhandled it would be a page of traceback in the log, each time.
                raise LvmError("the client went before its question was whole") from None
            yield b"".join(parts)
        finally:
            self.bytes -= sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes]) -> None:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise LvmError(f"a question has at most {MAX_BODY_BYTES} bytes")
            if self.bytes + len(part) > MAX_HELD_BYTES:
                raise Busy("other large questions are being answered; ask again")
            self.bytes += len(part)
            parts.append(part)
