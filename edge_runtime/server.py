"""The local door for programs: questions as JSON over HTTP, on 127.0.0.1 unless told otherwise.

Imported only when it is switched on. Access control and the page come with a later version; until then it
refuses to listen beyond loopback.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from edge_runtime.queries import MAX_PHOTO_TEXT, parse_query
from edge_runtime.service import Service
from edge_runtime.status import status_of
from engines.errors import LvmError

DEFAULT_LISTEN = "127.0.0.1:8971"
MAX_BODY_BYTES = MAX_PHOTO_TEXT + 4096


def make_app(service: Service) -> FastAPI:
    """Routes over one service."""
    app = FastAPI(title="lvm-edge", version="1", docs_url=None, redoc_url=None)

    @app.exception_handler(LvmError)
    async def _refused(request: Request, error: LvmError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=422)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, Any]:
        ready = service.version.frames > 0
        response.status_code = 200 if ready else 503
        return {"ready": ready, "frames": service.version.frames}

    @app.get("/api/v1/status")
    def status() -> dict[str, Any]:
        return status_of(service.snapshot(), service.folder.folder).as_json()

    @app.post("/api/v1/query")
    async def query(request: Request) -> JSONResponse:
        body = await _limited_body(request)
        question = parse_query(body)
        # The reader runs in a thread, so that health checks are answered meanwhile.
        from starlette.concurrency import run_in_threadpool

        answer = await run_in_threadpool(service.ask, question)
        return JSONResponse(answer.model_dump(mode="json"))

    return app


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
        config = uvicorn.Config(make_app(service), log_level="warning", access_log=False)
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


async def _limited_body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise LvmError(f"a question has at most {MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
