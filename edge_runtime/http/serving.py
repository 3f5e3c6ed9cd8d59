"""The local door for programs: questions as JSON over HTTP, on 127.0.0.1 unless told otherwise.

Imported only when it is switched on. Access control and the page come with a later version; until then it
refuses to listen beyond loopback.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading

import uvicorn

from edge_runtime.companions import Run
from edge_runtime.http.app import make_app
from edge_runtime.http.patience import TimedProtocol
from edge_runtime.service import Service
from engines.errors import LvmError

MAX_CONNECTIONS = 64
"""At once; the next is told 503."""
DEFAULT_LISTEN = "127.0.0.1:8971"


class BriefLog(logging.Filter):
    """A client that breaks the rules of HTTP costs a line of the log; uvicorn would log a page, each time."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and type(record.exc_info[1]).__name__ == "LocalProtocolError":
            record.msg, record.args, record.exc_info = "a client broke the rules of HTTP", (), None
        return True


class HttpServer:
    """uvicorn in a thread of its own. Raises LvmError if the address cannot be used."""

    def __init__(self, service: Service, listen: str, run: Run | None = None) -> None:
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
            make_app(service, run),
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
