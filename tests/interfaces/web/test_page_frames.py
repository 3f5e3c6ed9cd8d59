"""The page in a frame of another site, in a real browser: who may show it, and signing in there."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.run import Run
from tests.support.broker import free_port, make_certificates
from tests.support.browser import PATIENCE_MS, chromium
from tests.support.reverse_proxy import reverse_proxy, strip_prefix
from tools.fuzzing.small import small_service

TOKEN = "a" * 40
OUTER = "the outer site"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with small_service(tmp_path_factory.mktemp("frames")) as service:
        yield service


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder / "server.pem", folder / "server.key"


@contextmanager
def outer_site(body: str, certificate) -> Iterator[str]:
    """Serve a page at `https://localhost:PORT`, another site than 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()


def sign_in(frame) -> None:
    frame.wait_for_selector("#login[open]")
    frame.fill("#token", TOKEN)
    frame.click("#login-form button")


@pytest.mark.parametrize("frames, shown", [([], False), (["https://other.example"], False), ([OUTER], True)])
def test_only_a_site_that_is_named_shows_the_page_and_one_signs_in_there(
    browser, service, certificate, frames, shown
):
    target = free_port()
    with outer_site(f"<iframe src='https://127.0.0.1:{target}/'></iframe>", certificate) as outer:
        http = {
            "tokens": [{"name": "a", "role": "admin", "token": TOKEN}],
            "trusted_proxies": ["127.0.0.1"],
            "allowed_frames": [outer if frame == OUTER else frame for frame in frames],
        }
        run = Run(service, Config.model_validate({"http": http}))
        rewrite = strip_prefix("", proto="https")
        with (
            HttpServer(service, "127.0.0.1:0", run) as server,
            reverse_proxy(server.address, rewrite, certificate, target),
        ):
            page = browser.new_page(ignore_https_errors=True)
            page.set_default_timeout(PATIENCE_MS)
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            try:
                page.goto(f"{outer}/")
                if not shown:
                    assert any("frame-ancestors" in text for text in said), said
                    return
                inner = page.frames[1]
                sign_in(inner)
                inner.wait_for_selector("#sign-out:not([hidden])")
                inner.wait_for_selector("html[data-events=listening]")  # the cookie goes with it too
                (cookie,) = [one for one in page.context.cookies() if one["name"] == "lvm_session"]
                assert cookie["sameSite"] == "None" and cookie["secure"] and cookie["httpOnly"]
            finally:
                page.close()
