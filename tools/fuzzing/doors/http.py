"""HTTP: raw bytes of a connection through uvicorn's own parser into our routes, without a socket."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from edge_runtime.http.app import make_app
from edge_runtime.http.serving import BriefLog
from tools.fuzzing.doors.query import TYPED, WORDS
from tools.fuzzing.doors.query import Door as QueryDoor
from tools.fuzzing.mutate import any_bytes, json_tree
from tools.fuzzing.small import small_service

HEADERS = (
    b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"PRI * HTTP/2.0\r\n\r\n", b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n", b"\r\n\r\n",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Content-Type: text/xml\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"/api/v1/query",
    b"/api/v1/status",
    b"/healthz", b"/readyz", b"/openapi.json", b"/../", b"/%2e%2e/", b"%00", b"//", b"?a=b",
    b"Connection: close\r\n",
)  # fmt: skip


PATHS = (
    "/healthz", "/readyz", "/api/v1/status", "/api/v1/cameras", "/api/v1/privacy", "/openapi.json", "/none",
)  # fmt: skip


class Door:
    longest = 8192

    def __init__(self, folder: Path) -> None:
        self._app = make_app(small_service(folder))
        self._loop = asyncio.new_event_loop()
        self._config = uvicorn.Config(
            self._app, http="h11", ws="none", log_config=None, access_log=False, lifespan="off"
        )
        self._config.load()
        self._questions = QueryDoor(folder).seeds()[:6]
        self._failures: list[str] = []
        self._loop.set_exception_handler(lambda loop, context: self._failures.append(str(context)))
        log = logging.getLogger("uvicorn.error")
        log.propagate = False
        log.handlers = [_Failures(self._failures)]
        log.addFilter(BriefLog())

    def seeds(self) -> list[bytes]:
        made = [
            f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            for path in (
                "/healthz",
                "/readyz",
                "/api/v1/status",
                "/api/v1/cameras",
                "/api/v1/privacy",
                "/openapi.json",
                "/none",
            )
        ]
        made += [_post(question) for question in self._questions]
        chunked = b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        return [*made, chunked + b"2\r\n{}\r\n0\r\n\r\n", made[0] + made[5]]

    def mutate(self, data: bytes, dice: Random) -> bytes | None:
        head, gap, body = data.partition(b"\r\n\r\n")
        if gap and body and dice.random() < 0.5:
            changed = json_tree(body, dice, WORDS)
            if changed is not None:
                return _post(changed)
        return any_bytes(data, dice, HEADERS if dice.random() < 0.7 else TYPED)

    def run(self, data: bytes) -> None:
        self._loop.run_until_complete(self._serve(data))

    async def _serve(self, data: bytes) -> None:
        self._failures.clear()
        state = ServerState()
        protocol = H11Protocol(self._config, state, {}, self._loop)
        wire = _Wire()
        protocol.connection_made(wire)  # type: ignore[arg-type]
        if data:  # a loop never calls it with nothing
            protocol.data_received(data)
        for _ in range(100):  # the routes run in threads of a pool
            if not state.tasks:
                break
            await asyncio.wait(list(state.tasks), timeout=0.05)
            # A body that never comes: the client goes.
            protocol.eof_received()
            protocol.connection_lost(None)
        if protocol.timeout_keep_alive_task is not None:
            protocol.timeout_keep_alive_task.cancel()
        await asyncio.sleep(0)
        _check(bytes(wire.sent))
        assert not self._failures, self._failures[0]


class _Failures(logging.Handler):
    """Keeps what uvicorn logs as an error of the application."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self._kept.append(logging.Formatter().format(record))


class _Wire(asyncio.Transport):
    """The other end of a connection: what was sent is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 8971), "peername": ("127.0.0.1", 5)}.get(name, default)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def _check(sent: bytes) -> None:
    """Every reply is a status of ours, and no reply tells of an inner failure."""
    head, _, body = sent.partition(b"\r\n\r\n")
    if not sent:
        return
    status = int(head.split(b" ")[1])
    assert status in (100, 101, 200, 400, 401, 403, 404, 405, 411, 413, 422, 426, 429, 431, 503), head
    if status == 422:
        said = json.loads(body.split(b"HTTP/1.1 ")[0])["error"]
        assert said.isprintable() and len(said) < 1500, said
    assert b"Traceback" not in sent


def _post(body: bytes) -> bytes:
    head = f"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
