"""Fuzz HTTP: raw bytes of a connection through uvicorn's own parser into our routes, without a socket."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from random import Random
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from edge_runtime.config.privacy import ThumbnailSettings
from edge_runtime.config.schema import load_config
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.http.server import BriefLog, TimeoutProtocol
from edge_runtime.privacy.thumbnails import FOLDER, Thumbnails
from edge_runtime.service.activity_recorder import ActivityRecorder
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.run import Run
from tools.fuzzing.mutate import mutate_bytes, mutate_json
from tools.fuzzing.small import small_service
from tools.fuzzing.targets.query import TYPED, WORDS
from tools.fuzzing.targets.query import Target as QueryTarget

HEADERS = (
    b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"PRI * HTTP/2.0\r\n\r\n", b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n", b"\r\n\r\n",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Content-Type: text/xml\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"/api/v1/query",
    b"/api/v1/status",
    b"/healthz", b"/readyz", b"/openapi.json", b"/../", b"/%2e%2e/", b"%00", b"//", b"?a=b",
    b"Connection: close\r\n", b"DELETE ", b"PUT ", b"/metrics", b"/api/v1/session", b"/api/v1/config",
    b"/api/v1/answers?limit=", b"/api/v1/catalogue/", b"X-LVM-Edge: 1\r\n", b"Origin: null\r\n",
    b"Cookie: lvm_session=a\r\n", b"Authorization: Bearer a\r\n", b"multipart/form-data; boundary=a",
    b"?t=nan", b"&from=", b"&to=", b"=1e999",
    b"--a--", b'Content-Disposition: form-data; name="photos"; filename="a"\r\n\r\n',
)  # fmt: skip


PATHS = ("/openapi.json", "/none", "/page/none.js", "/api/v1/cameras/demo/latest.jpg?width=64")
"""Further paths, beside those of the OpenAPI document (`list_documented_paths`)."""
ENDLESS = "/live.mjpg"
VALUES: dict[str, tuple[str, ...]] = {
    "string": ("demo", "2", "14:05", "nan", "9" * 30),
    "integer": ("3", "-1"),
    "number": ("1.2", "nan", "1e999"),
}
"""Values of a parameter by its type in the document; the first one is plausible."""
FORM = (
    b'--a\r\nContent-Disposition: form-data; name="query"\r\n\r\n{"type": "activity"}\r\n'
    b'--a\r\nContent-Disposition: form-data; name="photos"; filename="a.png"\r\n\r\nPNG\r\n--a--\r\n'
)


class Target:
    max_bytes = 8192

    def __init__(self, folder: Path) -> None:
        service, file = small_service(folder), folder / "fuzz.yaml"
        file.write_text("version: 1\ncameras: {a: {source: demo}}\n")
        run = Run(service, load_config(file), file, reload=list)
        run.activities = ActivityRecorder(service, run.settings.activities)
        run.activities._sync_cameras()  # without its thread, as a case must be deterministic
        self._app = make_app(service, run)
        self._camera = service.camera()
        self._version = self._camera.version
        _save_thumbnails(self._camera)
        self._loop = asyncio.new_event_loop()
        self._config = uvicorn.Config(
            self._app, http="h11", ws="none", log_config=None, access_log=False, lifespan="off"
        )
        self._config.load()
        self._questions = QueryTarget(folder).seeds()[:6]
        self._failures: list[str] = []
        self._loop.set_exception_handler(lambda loop, context: self._failures.append(str(context)))
        log = logging.getLogger("uvicorn.error")
        log.propagate = False
        log.handlers = [FailureLog(self._failures)]
        log.addFilter(BriefLog())

    def seeds(self) -> list[bytes]:
        paths = [*PATHS, *list_documented_paths(self._app.openapi())]
        made = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths]
        made += [_make_post(question) for question in self._questions]
        json_type = "Content-Type: application/json\r\n"
        for span in (
            b'{"from": 1, "to": 2}',
            b'{"from": "14:05", "to": "14:06:07.5", "reset_background": true}',
        ):
            made.append(_make_post(span, "POST /api/v1/forget", json_type))
        made.append(_make_post(b'{"paused": true, "camera": "demo"}', "POST /api/v1/privacy", json_type))
        chunked = b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        others = [
            _make_post(FORM, "POST /api/v1/query", "Content-Type: multipart/form-data; boundary=a\r\n"),
            _make_post(b'{"token": "' + b"a" * 40 + b'"}', "POST /api/v1/session", "X-LVM-Edge: 1\r\n"),
            _make_post(b"version: 1\ncameras: {a: {source: demo}}\n", "PUT /api/v1/config"),
            _make_post(b"true", "PUT /api/v1/cameras/demo/paused"),
            _make_post(b"", "DELETE /api/v1/session", "Cookie: lvm_session=a\r\nX-LVM-Edge: 1\r\n"),
        ]
        return [*made, *others, chunked + b"2\r\n{}\r\n0\r\n\r\n", made[0] + made[5]]

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        head, gap, body = data.partition(b"\r\n\r\n")
        if gap and body and rng.random() < 0.5:
            changed = mutate_json(body, rng, WORDS)
            if changed is not None:
                line, _, headers = head.partition(b"\r\n")
                if b"/forget" in line:  # byte mutations reach the other routes
                    return _make_post(changed, "POST /api/v1/forget", "Content-Type: application/json\r\n")
                return _make_post(changed)
        return mutate_bytes(data, rng, HEADERS if rng.random() < 0.7 else TYPED)

    def run(self, data: bytes) -> None:
        self._camera.ingest.version = self._version  # the case before may have made it forget
        self._loop.run_until_complete(self._serve(data))

    async def _serve(self, data: bytes) -> None:
        self._failures.clear()
        state = ServerState()
        protocol = TimeoutProtocol(self._config, state, {}, self._loop)
        transport = FakeTransport()
        protocol.connection_made(transport)
        if data:  # an event loop never calls it with nothing
            protocol.data_received(data)
        gone = False
        for _ in range(100):  # the routes run in a thread pool
            if not state.tasks:
                break
            await asyncio.wait(list(state.tasks), timeout=0.05)
            # The client disconnects, in case the body never comes.
            protocol.eof_received()
            protocol.connection_lost(None)
            gone = True
        if not gone:
            protocol.connection_lost(None)
        if protocol.timeout_keep_alive_task is not None:
            protocol.timeout_keep_alive_task.cancel()
        await asyncio.sleep(0)
        _check_reply(bytes(transport.sent))
        assert not self._failures, self._failures[0]


def list_documented_paths(document: dict[str, Any]) -> list[str]:
    """List each GET of an OpenAPI document: with all parameters, and with each value of each alone."""
    found = []
    for path, methods in document["paths"].items():
        if "get" not in methods or path.endswith(ENDLESS):
            continue
        asked = [one for one in methods["get"].get("parameters", []) if one["in"] == "query"]
        values = {one["name"]: VALUES[_type(one["schema"])] for one in asked}
        queries = ["&".join(f"{name}={values_of[0]}" for name, values_of in values.items())]
        queries += [f"{name}={one}" for name, values_of in values.items() for one in values_of]
        found += [path.replace("{name}", "demo") + (f"?{query}" if query else "") for query in queries]
    return found


def _type(schema: dict[str, Any]) -> str:
    """Of a parameter; one that may be null is what it is otherwise."""
    return str(schema["type"] if "type" in schema else schema["anyOf"][0]["type"])


def _save_thumbnails(camera: CameraRun) -> None:
    """As where they are switched on, with a picture of second 1.2."""
    folder = camera.folder.folder
    camera.privacy.thumbnails = Thumbnails(folder, ThumbnailSettings(enabled=True), None)
    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    (folder / FOLDER / "6.jpg").write_bytes(b"JPEG")


class FailureLog(logging.Handler):
    """Keep what uvicorn logs as an error of the application."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self._messages.append(logging.Formatter().format(record))


class FakeTransport(asyncio.Transport):
    """The other end of a connection, which stores the bytes that were sent."""

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

    abort = close

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def _check_reply(sent: bytes) -> None:
    """Assert that every reply has one of our status codes and does not show an internal error."""
    head, _, body = sent.partition(b"\r\n\r\n")
    if not sent:
        return
    status = int(head.split(b" ")[1])
    assert status in (100, 101, 200, 400, 401, 403, 404, 405, 411, 413, 422, 426, 429, 431, 503), head
    if status == 422:
        # Another reply may follow, and the message may quote anything, even an HTTP head.
        message = json.JSONDecoder().raw_decode(body.decode(errors="replace"))[0]["error"]
        assert message.isprintable() and len(message) < 1500, message
    assert b"Traceback" not in sent


def _make_post(body: bytes, line: str = "POST /api/v1/query", headers: str = "") -> bytes:
    head = f"{line} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
