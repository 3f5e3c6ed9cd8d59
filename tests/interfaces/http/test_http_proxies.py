"""Behind reverse proxies: sub-paths, addresses of clients, origins, frames, HEAD."""

from __future__ import annotations

import logging
import re
import socket
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from edge_runtime.config.access_tokens import ROLES, hash_token
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.auth import session_cookie_header
from edge_runtime.interfaces.http.proxies import (
    TrustedProxies,
    clean_prefix,
    make_origin,
    parse_address,
    read_forwarded,
)
from edge_runtime.interfaces.http.server import MAX_PER_ADDRESS, HttpServer
from edge_runtime.service.run import Run
from tests.support.broker import free_port, wait_until
from tests.support.reverse_proxy import caddy, doc_snippet, nginx, reverse_proxy, strip_prefix, traefik
from tools.fuzzing.small import small_service

get, post = partial(httpx.get, timeout=60), partial(httpx.post, timeout=60)
"""A busy machine may take longer than the five seconds of httpx."""

PAGE = Path(__file__).parents[3] / "docs" / "http.md"
TOKENS = {role: f"lvm_{role}-0123456789abcdefghijklmnopqrstuvwxyz" for role in ROLES}
OURS = {"X-LVM-Edge": "1"}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with small_service(tmp_path_factory.mktemp("proxies")) as service:
        yield service


@contextmanager
def serve(service, *, tokens: bool = False, **settings):
    """Yield the address of a server with these settings of `http`."""
    holders = [
        {"name": role, "role": role, "token_hash": hash_token(token)} for role, token in TOKENS.items()
    ]
    http = HttpSettings.model_validate({"tokens": holders if tokens else [], **settings})
    with HttpServer(service, "127.0.0.1:0", Run(service, Config(http=http))) as server:
        yield server.address


def listen(address: str, **headers: str) -> tuple[int, str]:
    """Open the WebSocket of events; return the status and what a refusal says."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    server, _, path = address.partition("://")[2].partition("/")
    uri = f"ws://{named.pop('Host', server)}/{path}{'/' if path else ''}api/v1/events"
    host, _, port = server.partition(":")
    try:
        with (
            socket.create_connection((host, int(port))) as connection,
            connect(uri, sock=connection, additional_headers=named),
        ):
            return 101, ""
    except InvalidStatus as error:
        return error.response.status_code, bytes(error.response.body or b"").decode()


# -- which headers are believed ------------------------------------------------------------------------------

PROXIES = HttpSettings(trusted_proxies=("127.0.0.1", "10.0.0.0/24", "fd00::/8"))
TRUSTED = TrustedProxies(PROXIES.proxy_networks())


@pytest.mark.parametrize(
    "sent, client",
    [
        ({"x-forwarded-for": "1.2.3.4"}, "1.2.3.4"),
        ({"x-forwarded-for": "6.6.6.6, 1.2.3.4"}, "1.2.3.4"),  # the first one is what the client claims
        ({"x-forwarded-for": "6.6.6.6, 1.2.3.4, 10.0.0.7"}, "1.2.3.4"),
        ({"x-forwarded-for": "10.0.0.9, 10.0.0.7"}, "10.0.0.9"),  # all of them are proxies
        ({"x-forwarded-for": "6.6.6.6, 127.0.0.1"}, "127.0.0.1"),  # a client on this machine
        ({"x-forwarded-for": "1.2.3.4:50123"}, "1.2.3.4"),
        ({"x-forwarded-for": "[2001:db8::5]:443, fd00::1"}, "2001:db8::5"),
        ({"x-forwarded-for": "::ffff:1.2.3.4"}, "1.2.3.4"),
        ({"x-forwarded-for": "1.2.3.4, unknown"}, "127.0.0.1"),  # what comes before cannot be checked
        ({"x-forwarded-for": "1.2.3.4, <script>, 10.0.0.7"}, "10.0.0.7"),
        ({"x-forwarded-for": ""}, "127.0.0.1"),
        ({"x-forwarded-for": ", ".join(["6.6.6.6"] * 500 + ["1.2.3.4"])}, "1.2.3.4"),
        ({"forwarded": "for=1.2.3.4;proto=https;host=kiosk.example"}, "1.2.3.4"),
        ({"forwarded": 'for=6.6.6.6, For="[2001:db8::5]:80"; by=10.0.0.7'}, "2001:db8::5"),
        ({"forwarded": "for=_hidden"}, "127.0.0.1"),
        ({"forwarded": 'for="1.2.3.4'}, "127.0.0.1"),  # damaged
        ({"forwarded": "for=6.6.6.6", "x-forwarded-for": "1.2.3.4"}, "127.0.0.1"),  # one is the client's own
        ({"forwarded": "for=1.2.3.4", "x-forwarded-for": "1.2.3.4"}, "1.2.3.4"),
        ({}, "127.0.0.1"),
    ],
)
def test_the_rightmost_address_that_is_no_trusted_proxy_is_the_client(sent, client):
    assert read_forwarded(Headers(sent), "127.0.0.1", TRUSTED).client == client


def test_a_header_that_is_there_twice_is_one_list():
    headers = Headers(raw=[(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"1.2.3.4")])
    assert read_forwarded(headers, "127.0.0.1", TRUSTED).client == "1.2.3.4"


@pytest.mark.parametrize(
    "sent, scheme, host",
    [
        ({"x-forwarded-host": "kiosk.example"}, None, "kiosk.example"),
        ({"x-forwarded-host": "kiosk.example", "x-forwarded-port": "8443"}, None, "kiosk.example:8443"),
        ({"x-forwarded-host": "kiosk.example:1", "x-forwarded-port": "2"}, None, "kiosk.example:1"),
        (
            {"x-forwarded-host": "kiosk.example", "x-forwarded-port": "443", "x-forwarded-proto": "https"},
            "https",
            "kiosk.example",
        ),
        ({"x-forwarded-proto": "HTTPS", "host": "a.example"}, "https", "a.example"),
        ({"x-forwarded-proto": "wss", "host": "a.example"}, "wss", "a.example"),
        ({"x-forwarded-proto": "javascript", "host": "a.example"}, None, "a.example"),
        ({"x-forwarded-host": "evil.example, kiosk.example"}, None, "kiosk.example"),
        ({"x-forwarded-host": "a b<c>", "host": "a.example"}, None, None),
        ({"x-forwarded-host": "[2001:db8::1]:8080"}, None, "[2001:db8::1]:8080"),
        ({"forwarded": 'host="kiosk.example:8443";proto=https;for=1.2.3.4'}, "https", "kiosk.example:8443"),
        # With two trusted hops the value counts that the outer one wrote.
        (
            {
                "x-forwarded-for": "1.2.3.4, 10.0.0.7",
                "x-forwarded-host": "evil.example, kiosk.example, inner:8080",
            },
            None,
            "kiosk.example",
        ),
    ],
)
def test_scheme_and_host_are_what_the_outermost_trusted_proxy_says(sent, scheme, host):
    request = read_forwarded(Headers(sent), "127.0.0.1", TRUSTED)
    assert (request.scheme, request.host) == (scheme, host)


@pytest.mark.parametrize(
    "text, prefix",
    [
        ("/kiosk", "/kiosk"), ("/a/b-c_d.e~f/", "/a/b-c_d.e~f"), ("/", ""), ("", ""),
        ("kiosk", None), ("//evil.example", None), ("/a//b", None), ("/../x", None), ("/a/..", None),
        ('/"><script>', None), ("/a b", None), ("/a\r\nSet-Cookie: x", None), ("https://evil.example", None),
    ],
)  # fmt: skip
def test_a_prefix_is_a_plain_path(text, prefix):
    assert clean_prefix(text) == prefix


@pytest.mark.parametrize(
    "text, address",
    [("1.2.3.4", "1.2.3.4"), ("1.2.3.4:80", "1.2.3.4"), ('"[::1]:80"', "::1"), ("fe80::1%eth0", "fe80::1"),
     ("unknown", None), ("", None), ("1.2.3", None), ("[", None)],
)  # fmt: skip
def test_addresses_come_with_ports_brackets_and_zones(text, address):
    assert str(parse_address(text)) == str(address)


def test_origins_are_compared_with_their_ports():
    assert make_origin("https", "A.example") == make_origin("wss", "a.example:443")
    assert make_origin("http", "a.example") != make_origin("http", "a.example:8080")
    assert make_origin("http", "a.example/x") is None and make_origin("null", "") is None


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"trusted_proxies": ["proxy.example"]}, "an address or a network like 10.0.0.0/24"),
        ({"trusted_proxies": ["10.0.0.5/24"]}, "an address or a network"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, "would trust everybody"),
        ({"trusted_proxies": ["::/0"]}, "would trust everybody"),
        ({"trusted_proxies": ["*"]}, "an address or a network"),
        ({"root_path": "kiosk"}, "root_path is a path like /kiosk"),
        ({"root_path": "/a b"}, "root_path is a path"),
        ({"root_path": "//a"}, "root_path is a path"),
        ({"root_path": "/../a"}, "root_path is a path"),
        ({"root_path": "/api/x"}, "paths of our own"),
        ({"allowed_frames": ["dashboard.example"]}, "origins like https://dashboard.example"),
        ({"allowed_frames": ["https://a.example/page"]}, "origins like"),
        ({"allowed_frames": ["https://a.example; script-src *"]}, "origins like"),
        ({"allowed_frames": ["*"]}, "origins like"),
        ({"allowed_frames": ["'none'"]}, "origins like"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        HttpSettings.model_validate(settings)


def test_a_root_path_loses_its_last_slash():
    assert (
        HttpSettings(root_path="/kiosk/").root_path == "/kiosk"
        and HttpSettings(root_path="/").root_path == ""
    )


# -- limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trusted, header",
    [
        ([], "X-Forwarded-For"),
        (["127.0.0.1"], "X-Forwarded-For"),
        (["127.0.0.1"], "Forwarded"),
        (["10.0.0.0/8"], "X-Forwarded-For"),
    ],
)
def test_rotating_addresses_do_not_pass_the_login_limit(service, trusted, header):
    with serve(service, tokens=True, trusted_proxies=trusted, failed_logins_per_minute=3) as backend:
        rewrite = strip_prefix("") if trusted == ["127.0.0.1"] else lambda path, headers, _: (path, headers)
        with (
            reverse_proxy(backend, rewrite) as address,
            httpx.Client(timeout=60) as client,
        ):  # both on this machine
            statuses = []
            for guess in range(6):
                rotating = f"10.1.1.{guess}" if header == "X-Forwarded-For" else f"for=10.1.1.{guess}"
                reply = client.post(
                    f"{address}/api/v1/session", json={"token": "x" * 40}, headers=OURS | {header: rotating}
                )
                statuses.append(reply.status_code)
    assert statuses == [401, 401, 401, 429, 429, 429]


def test_each_client_behind_a_trusted_proxy_has_a_limit_of_its_own(service):
    with serve(service, tokens=True, trusted_proxies=["127.0.0.1"], failed_logins_per_minute=1) as address:
        for client in ("1.1.1.1", "1.1.1.2"):
            for status in (401, 429):
                headers = OURS | {"X-Forwarded-For": f"{status}.0.0.1, {client}"}
                reply = post(f"{address}/api/v1/session", json={"token": "x" * 40}, headers=headers)
                assert reply.status_code == status


def test_a_trusted_proxy_may_open_more_connections_than_a_client(service):
    for trusted, answers in (([], False), (["127.0.0.1"], True)):
        with serve(service, trusted_proxies=trusted) as address:
            port = int(address.rpartition(":")[2])
            held = [socket.create_connection(("127.0.0.1", port)) for _ in range(MAX_PER_ADDRESS + 6)]
            try:
                get(f"{address}/healthz", timeout=20)
                assert answers
            except httpx.HTTPError:
                assert not answers
            for connection in held:
                connection.close()


def test_what_is_not_believed_is_said_once(service, caplog):
    with serve(service) as address, caplog.at_level(logging.WARNING):
        for _ in range(3):
            get(f"{address}/healthz", headers={"X-Forwarded-For": "1.2.3.4"})
    said = [record.message for record in caplog.records if "http.trusted_proxies" in record.message]
    assert len(said) == 1 and said[0].startswith("127.0.0.1 sends X-Forwarded-For")


# -- origins of WebSockets -----------------------------------------------------------------------------------

PUBLIC = {"X_Forwarded_Host": "kiosk.example", "X_Forwarded_Proto": "https", "X_Forwarded_Port": "8443"}


@pytest.mark.parametrize(
    "trusted, headers, status",
    [
        (
            [],
            {"Origin": "https://kiosk.example", "Host": "kiosk.example"},
            101,
        ),  # a proxy that keeps the host
        ([], {"Origin": "https://kiosk.example:8443", "Host": "kiosk.example:8443"}, 101),
        ([], {"Origin": "https://kiosk.example:8443", "Host": "kiosk.example"}, 403),
        ([], {"Origin": "https://kiosk.example:8443"} | PUBLIC, 403),  # not trusted
        (["127.0.0.1"], {"Origin": "https://kiosk.example:8443"} | PUBLIC, 101),
        (["127.0.0.1"], {"Origin": "https://kiosk.example:8444"} | PUBLIC, 403),
        (["127.0.0.1"], {"Origin": "https://evil.example:8443"} | PUBLIC, 403),
        (["127.0.0.1"], {"Origin": "null"} | PUBLIC, 403),
        (
            ["127.0.0.1"],
            {"Origin": "https://kiosk.example:8443", "Forwarded": "host=kiosk.example:8443;proto=https"},
            101,
        ),
        (
            ["127.0.0.1"],
            {
                "Origin": "https://kiosk.example",
                "X_Forwarded_Host": "kiosk.example:443",
                "X_Forwarded_Proto": "https",
            },
            101,
        ),
        (["127.0.0.1"], {"Origin": "http://192.168.1.5:8080", "X_Forwarded_Host": "192.168.1.5:8080"}, 101),
        (["127.0.0.1"], {"Origin": "http://other.example", "X_Forwarded_Host": "other.example"}, 403),
        (["127.0.0.1"], PUBLIC, 101),  # a program sends no origin
    ],
)
def test_a_websocket_belongs_to_the_origin_that_the_client_sees(service, trusted, headers, status):
    with serve(service, trusted_proxies=trusted, hosts=["kiosk.example"]) as address:
        assert listen(address, **headers)[0] == status


def test_a_refused_origin_is_told_why_in_the_answer_and_in_the_log(service, caplog):
    with serve(service) as address, caplog.at_level(logging.WARNING):
        for _ in range(3):
            _, said = listen(address, Origin="https://kiosk.example:8443")
    for words in (
        "another origin",
        "https://kiosk.example:8443",
        f"this is {address}",
        "http.trusted_proxies",
    ):
        assert words in said
    logged = [record.message for record in caplog.records if "a WebSocket is refused" in record.message]
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []
    assert len(logged) == 1 and "https://kiosk.example:8443" in logged[0]


# -- sub-paths -----------------------------------------------------------------------------------------------


def check_subpath(address: str, prefix: str) -> None:
    """Check the page, its assets, the API, the WebSocket, cookies and links at a sub-path of a proxy."""
    at = address + prefix
    with httpx.Client(follow_redirects=True, timeout=60) as client:
        page = client.get(f"{at}/")
        assert page.status_code == 200 and f'<base href="{prefix}/">' in page.text
        assert str(client.get(at).url).rstrip("/") == at.rstrip("/")
        assert client.get(f"{at}/page/app.js").status_code == 200
        assert client.get(f"{at}/api/v1/status").status_code == 401
        reply = client.post(f"{at}/api/v1/session", json={"token": TOKENS["admin"]}, headers=OURS)
        assert reply.json()["role"] == "admin" and f"Path={prefix}/;" in reply.headers["set-cookie"]
        assert client.get(f"{at}/api/v1/status").status_code == 200
        assert client.head(f"{at}/api/v1/status").status_code == 200
        assert client.get(f"{at}/openapi.json").json()["servers"] == [{"url": prefix}]
        cookie = reply.headers["set-cookie"].partition(";")[0]
        host = address.partition("://")[2]
        scheme = address.partition("://")[0]
        assert listen(at, Cookie=cookie, Origin=f"{scheme}://{host}") == (101, "")
        assert listen(at, Cookie=cookie, Origin=f"{scheme}://evil.example")[0] == 403
        client.request("DELETE", f"{at}/api/v1/session", headers=OURS)
        assert client.get(f"{at}/api/v1/status").status_code == 401 and not client.cookies


@pytest.mark.parametrize(
    "settings, rewrite",
    [
        # Stripped and said, as Traefik does; stripped and configured; left in the path and configured.
        ({}, strip_prefix("/kiosk", prefix="/kiosk")),
        ({"root_path": "/kiosk"}, strip_prefix("/kiosk")),
        ({"root_path": "/kiosk"}, strip_prefix("")),
        ({"root_path": "/elsewhere"}, strip_prefix("/kiosk", prefix="/kiosk/")),
    ],
)
def test_everything_works_at_a_sub_path(service, settings, rewrite):
    with serve(service, tokens=True, trusted_proxies=["127.0.0.1"], **settings) as backend:
        with reverse_proxy(backend, rewrite) as address:
            check_subpath(address, "/kiosk")


def test_a_prefix_is_believed_from_a_proxy_only(service):
    with serve(service) as address:
        assert "<base" not in get(f"{address}/", headers={"X-Forwarded-Prefix": "/kiosk"}).text
        assert get(f"{address}/kiosk/healthz").status_code == 404


@pytest.mark.parametrize("path", ["/kiosk/api/v1/forget", "/api/v1/forget", "/kiosk/kiosk/api/v1/forget"])
def test_a_sub_path_is_no_way_around_a_role(service, path):
    operator = {"Authorization": f"Bearer {TOKENS['operator']}"} | OURS
    with serve(service, tokens=True, root_path="/kiosk") as address:
        reply = post(address + path, json={}, headers=operator)
    assert reply.status_code in (403, 404) and (reply.status_code == 404) == ("/kiosk/kiosk" in path)


def test_nginx_as_the_documentation_sets_it_up(service, tmp_path):
    with serve(service, tokens=True, trusted_proxies=["127.0.0.1"]) as backend:
        location = doc_snippet(PAGE, "nginx", {"http://127.0.0.1:8971": backend})
        with nginx(tmp_path, location) as address:
            check_subpath(address, "/kiosk")
            forged = OURS | {"X-Forwarded-For": "9.9.9.9", "Forwarded": "for=9.9.9.9"}
            statuses = {
                post(f"{address}/kiosk/api/v1/session", json={"token": "x" * 40}, headers=forged).status_code
                for _ in range(12)
            }
            assert statuses == {401, 429}


def test_caddy_as_the_documentation_sets_it_up(service, tmp_path):
    port = free_port()
    with serve(service, tokens=True, trusted_proxies=["127.0.0.1"]) as backend:
        changes = {
            "127.0.0.1:8971": backend.removeprefix("http://"),
            "kiosk.example {": f"http://127.0.0.1:{port} {{",
        }
        with caddy(tmp_path, doc_snippet(PAGE, "caddyfile", changes), port) as address:
            check_subpath(address, "/kiosk")


def test_traefik_as_the_documentation_sets_it_up(service, tmp_path):
    block = re.search(r"```yaml\n(http:   # Traefik.*?)```", PAGE.read_text(), re.DOTALL)
    with serve(service, tokens=True, trusted_proxies=["127.0.0.1"]) as backend:
        assert "http://127.0.0.1:8971" in block[1]
        with traefik(tmp_path, block[1].replace("http://127.0.0.1:8971", backend)) as address:
            wait_until(lambda: get(f"{address}/kiosk/").status_code == 200, "the route", 60)
            check_subpath(address, "/kiosk")
            forged = OURS | {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Prefix": "/elsewhere"}
            page = get(f"{address}/kiosk/", headers=forged)
            assert '<base href="/kiosk/">' in page.text


# -- frames, HEAD --------------------------------------------------------------------------------------------


def test_nobody_may_frame_the_page_unless_it_is_named(service):
    with serve(service) as address:
        reply = get(address)
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-frame-options"] == "DENY"
    with serve(service, allowed_frames=["self", "https://ha.example:8123", "http://*.lan/"]) as address:
        page, data = get(address), get(f"{address}/api/v1/status")
        policy = page.headers["content-security-policy"]
        assert policy.endswith("frame-ancestors 'self' https://ha.example:8123 http://*.lan")
        assert "x-frame-options" not in page.headers
        assert (
            data.headers["x-frame-options"] == "DENY" and "'none'" in data.headers["content-security-policy"]
        )


@pytest.mark.parametrize(
    "frames, proto, site",
    [
        ([], "http", "SameSite=strict"),
        ([], "https", "SameSite=strict; Secure"),
        (["self"], "https", "SameSite=strict; Secure"),
        (["https://ha.example"], "http", "SameSite=strict"),  # no browser takes another one without HTTPS
        (["https://ha.example"], "https", "SameSite=None; Secure; Partitioned"),
    ],
)
def test_a_session_in_a_frame_of_another_site_needs_a_cookie_for_it(service, frames, proto, site):
    with serve(service, tokens=True, trusted_proxies=["127.0.0.1"], allowed_frames=frames) as address:
        headers = OURS | {"X-Forwarded-Proto": proto}
        reply = post(f"{address}/api/v1/session", json={"token": TOKENS["viewer"]}, headers=headers)
    said = reply.headers["set-cookie"]
    assert said.endswith(f"HttpOnly; Max-Age=43200; Path=/; {site}")
    assert session_cookie_header("x", "/", secure=False, framed=False, max_age_s=0).startswith(
        "lvm_session=x; "
    )


def test_head_is_answered_wherever_get_is(service):
    with serve(service) as address, httpx.Client(base_url=address, timeout=60) as client:
        paths = [
            path for path, methods in client.get("/openapi.json").json()["paths"].items() if "get" in methods
        ]
        assert len(paths) > 15
        for path in [*paths, "/", "/page/app.js", "/openapi.json"]:
            path = path.replace("{name}", "demo")
            head = client.head(path)
            assert head.status_code != 405 and head.content == b"", path
            if not path.endswith(".mjpg"):
                got = client.get(path)
                assert got.status_code == head.status_code, path
                assert got.headers.get("content-type") == head.headers.get("content-type")
        assert client.head("/api/v1/query").status_code == 405
        assert client.head("/nothing").status_code == 404
