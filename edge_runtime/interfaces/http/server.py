"""Serve HTTP for programs and the page: on 127.0.0.1 by default, on other addresses with tokens only.

Imported only when it is switched on. Connections whose client does not finish its request or does not read
the response are closed: uvicorn limits only the pause between two requests. A client that opens connections
and sends nothing, or a byte now and then, would take all of them and shut everybody else out.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import re
import socket
import ssl
import threading

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_runtime.config.http import HttpSettings
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.http.auth import AllowedHosts
from edge_runtime.interfaces.http.proxies import TrustedProxies
from edge_runtime.interfaces.http.routes.events import PING_S
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from engines.errors import LvmError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
"""At once; the next gets a 503."""
DEFAULT_LISTEN = "127.0.0.1:8971"
_HOST = re.compile(r"[0-9A-Fa-f:.]+(%\w+)?|[^\W_]([\w.-]*[^\W_])?\.?")


class BriefLog(logging.Filter):
    """Logs one line for a client that breaks the rules of HTTP, where uvicorn would log a traceback.

    Nothing for a WebSocket that was refused with a sentence, which uvicorn takes for an error of ours.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg == "ASGI callable returned without completing handshake.":
            return False
        if record.exc_info and type(record.exc_info[1]).__name__ == "LocalProtocolError":
            record.msg, record.args, record.exc_info = BROKEN, (), None
        return True


class HttpServer:
    """Runs uvicorn in a thread, within `with`.

    Raises LvmError if the address, the tokens or the certificate cannot be used.
    """

    def __init__(self, service: Service, listen: str, run: Run | None = None) -> None:
        host, port, loopback = parse_listen(listen)
        name = host_name(listen)
        settings = run.settings.http if run is not None else HttpSettings()
        _check_protection(settings, listen, loopback)
        trusted = TrustedProxies(settings.proxy_networks())
        hosts = AllowedHosts(loopback=loopback, names=[*settings.hosts, *([name] if name else [])])
        config = uvicorn.Config(
            make_app(service, run, hosts),
            http=type("Protocol", (TimeoutProtocol,), {"trusted": trusted}),
            proxy_headers=False,  # ours knows more of them, and believes no address by default
            ws="websockets-sansio",
            ws_max_size=4096,  # what a listener sends is ignored
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=1,
            ssl_certfile=settings.tls.cert if settings.tls else None,
            ssl_keyfile=settings.tls.key if settings.tls else None,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            assert settings.tls is not None
            where = f"{settings.tls.cert} and {settings.tls.key}"
            raise LvmError(f"http.tls: {where} are no certificate with its key, PEM ({error})") from None
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            # Now, not when uvicorn has started: until then a second process could bind too.
            self._socket.listen(128)
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise LvmError(
                    f"--http {listen}: this machine has no address {host}; listen at one of its own, or at "
                    "0.0.0.0"
                ) from error
            raise LvmError(f"--http {listen}: {error.strerror}; choose another port or --no-http") from error
        display_host = f"[{host}]" if ":" in host else name or host
        scheme = "https" if settings.tls else "http"
        self.address = f"{scheme}://{display_host}:{self._socket.getsockname()[1]}"
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


def _check_protection(settings: HttpSettings, listen: str, loopback: bool) -> None:
    """Raise LvmError for an address beyond loopback without tokens."""
    if loopback:
        if settings.trusted_proxies and not settings.tokens:
            log.warning(
                "without http.tokens everybody whom a proxy of http.trusted_proxies lets in may do everything"
            )
        return
    if not settings.tokens:
        raise LvmError(
            f"--http {listen} is beyond loopback, where everybody needs a token and there is none; "
            "make one with lvm-edge token new and add it under http.tokens of --config FILE"
        )
    if settings.tls is None and not settings.trusted_proxies:
        log.warning("tokens cross the network in the clear: set http.tls, or put a TLS proxy before it")


def parse_listen(listen: str) -> tuple[str, int, bool]:
    """Return the address of HOST:PORT, its port and whether it is loopback. Raises LvmError."""
    host, number = _split_listen(listen)
    if host == "localhost":
        return "127.0.0.1", number, True
    try:
        return host, number, ipaddress.ip_address(host).is_loopback
    except ValueError:
        address = _resolve(host)
        return address, number, ipaddress.ip_address(address.partition("%")[0]).is_loopback


def host_name(listen: str) -> str | None:
    """Return the name in HOST:PORT, None for an address. Raises LvmError."""
    host, _ = _split_listen(listen)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None


def _split_listen(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _HOST.fullmatch(host) or not (port.isascii() and port.lstrip("-").isdecimal()):
        raise LvmError(f"--http must be HOST:PORT like {DEFAULT_LISTEN}, got {listen!r}")
    if not 0 <= int(port) <= 65535:
        raise LvmError(f"--http port must be 0..65535, got {int(port)}")
    return host, int(port)


def _resolve(name: str) -> str:
    """Return the address of a host name, an IPv4 one where it has any."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise LvmError(
            f"--http {name}: this machine knows no address of that name; listen at 0.0.0.0 or at an address "
            "of this machine, and add the name to http.hosts"
        ) from None
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


BROKEN = "a client broke the rules of HTTP"
HEAD_S = 10.0
"""From the start of a connection, or the first byte of a later request, to the end of the request's head."""
BODY_S = 30.0
"""From the end of the head to the end of the body."""
READ_S = 30.0
"""Longest pause in which a client reads nothing of a response."""
MAX_PER_ADDRESS = 64
"""Connections of one address at once, a quarter of all."""


class TimeoutProtocol(H11Protocol):
    """uvicorn's protocol with time limits for a request's head and body and for reading the response."""

    trusted = TrustedProxies()
    """They may open more connections than others: each stands for many clients."""
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None and self.client[0] not in self.trusted:
            clients = [getattr(connection, "client", None) for connection in self.connections]
            if [client and client[0] for client in clients].count(self.client[0]) > MAX_PER_ADDRESS:
                transport.abort()
        self._start_deadline(HEAD_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_unread()

    def _cancel_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            self._start_deadline(HEAD_S)
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            # uvicorn answers a broken body with a text, which the response to HEAD may not have.
            log.warning(BROKEN)
            self.transport.close()
            return
        state = self.conn.their_state
        if state is h11.SEND_BODY and not self._in_body:
            self._start_deadline(BODY_S)
        elif state not in (h11.IDLE, h11.SEND_BODY):  # the request is whole
            self._cancel_deadline()
        self._in_body = state is h11.SEND_BODY

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._cancel_unread()
        super().connection_lost(exc)

    def _start_deadline(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
