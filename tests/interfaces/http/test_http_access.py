"""Who may come in: tokens and roles, sessions, browsers, names of hosts, limits."""

import json
import re
import ssl
import subprocess
import urllib.request

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from typer.testing import CliRunner

from edge_runtime.config.access_tokens import ROLES, AccessTokens, Holder, hash_token
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.schema import Config, load_config
from edge_runtime.interfaces.cli.main import app as cli
from edge_runtime.interfaces.cli.query_text import QueryText
from edge_runtime.interfaces.cli.remote import Server, make_curl_command
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.http.auth import (
    LASTS_S,
    MAX_SESSIONS,
    Access,
    Asking,
    Hosts,
    NotAllowed,
    Rates,
    Sessions,
    TooMany,
    address_key,
    needed_role,
)
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.run import Run
from engines.errors import LvmError
from tools.fuzzing.small import small_service

# The same in every process of the tests: they are in the names of tests.
TOKENS = {role: f"lvm_{role}-0123456789abcdefghijklmnopqrstuvwxyz" for role in ROLES}
WHERE = {"type": "object", "activity": "scan"}
OURS = {"X-LVM-Edge": "1"}


def _settings(**other) -> HttpSettings:
    tokens = [{"name": role, "role": role, "token_hash": hash_token(token)} for role, token in TOKENS.items()]
    return HttpSettings.model_validate({"tokens": tokens, **other})


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with small_service(tmp_path_factory.mktemp("access")) as service:
        yield service


@pytest.fixture
def client(service):
    return TestClient(make_app(service, Run(service, Config(http=_settings()))))


def _bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[role]}"}


CALLS = [
    ("GET", "/healthz", None),
    ("GET", "/api/v1/session", None),
    ("GET", "/page/app.js", None),
    ("GET", "/api/v1/status", "viewer"),
    ("GET", "/openapi.json", "viewer"),
    ("GET", "/api/v1/nothing", "viewer"),
    ("POST", "/api/v1/query", "viewer"),
    ("PUT", "/page/app.js", "operator"),
    ("POST", "/api/v1/query/", "operator"),
    ("PUT", "/api/v1/cameras/demo/paused", "operator"),
    ("POST", "/api/v1/privacy", "operator"),
    ("DELETE", "/api/v1/whatever/comes/later", "operator"),
    ("PUT", "/api/v1/config", "admin"),
    ("POST", "/api/v1/forget", "admin"),
    ("GET", "/api/v1/tokens", "admin"),
]


@pytest.mark.parametrize(("method", "path", "needed"), CALLS)
def test_each_role_gets_what_is_its_own_and_no_more(client, method, path, needed):
    assert needed_role(method, path) == needed
    stranger = client.request(method, path)
    assert (stranger.status_code == 401) == (needed is not None)
    if needed is not None:
        assert "token" in stranger.json()["error"] and stranger.headers["www-authenticate"] == "Bearer"
    for role in ROLES:
        reply = client.request(method, path, headers=_bearer(role))
        enough = needed is None or ROLES.index(role) >= ROLES.index(needed)
        assert (reply.status_code not in (401, 403)) == enough, (role, reply.text)


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer x", "Basic " + TOKENS["admin"], TOKENS["admin"], "Bearer " + "a" * 5000,
     "Bearer " + TOKENS["admin"][:-1], "Bearer " + TOKENS["admin"].upper()],
)  # fmt: skip
def test_a_forged_token_is_nobody(client, header):
    reply = client.get("/api/v1/status", headers={"Authorization": header})
    assert reply.status_code == 401 and TOKENS["admin"] not in reply.text


def test_every_token_is_compared_whichever_fits():
    tokens = AccessTokens((hash_token(token), Holder(role, role)) for role, token in TOKENS.items())
    for role, token in TOKENS.items():
        assert tokens.find_holder(token) == Holder(role, role)
    assert tokens.find_holder("") is None and not AccessTokens(())


def test_the_page_signs_in_for_a_cookie_that_no_script_reads(client):
    assert client.get("/api/v1/session").json() == {"role": None, "required": True}
    refused = client.post("/api/v1/session", json={"token": "x" * 40}, headers=OURS)
    assert refused.status_code == 401 and "x" * 9 not in refused.text
    reply = client.post("/api/v1/session", json={"token": TOKENS["operator"]}, headers=OURS)
    assert reply.json() == {"role": "operator", "required": True} and TOKENS["operator"] not in reply.text
    said = reply.headers["set-cookie"]
    assert "HttpOnly" in said and "SameSite=strict" in said and TOKENS["operator"] not in said
    assert client.get("/api/v1/status").status_code == 200
    forged = client.put("/api/v1/cameras/demo/paused", content="true")
    assert forged.status_code == 403 and "X-LVM-Edge" in forged.json()["error"]
    assert client.put("/api/v1/cameras/demo/paused", content="false", headers=OURS).status_code == 200
    assert client.post("/api/v1/forget", json={}, headers=OURS).status_code == 403  # an admin's
    value = client.cookies["lvm_session"]
    assert client.request("DELETE", "/api/v1/session", headers=OURS).json()["role"] is None
    client.cookies.set("lvm_session", value)
    assert client.get("/api/v1/status").status_code == 401


def test_a_page_of_another_origin_gets_nothing_done_on_loopback_either(service):
    client = TestClient(make_app(service))
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Cookie": "a=b"}):
        for path in ("/api/v1/query", "/api/v1/privacy", "/api/v1/session"):
            assert client.post(path, json=WHERE, headers=headers).status_code == 403
        assert client.post("/api/v1/query", json=WHERE, headers=headers | OURS).status_code == 200


def test_sessions_end_and_are_bounded():
    now = [0.0]
    sessions, holder = Sessions(lambda: now[0]), Holder("a", "viewer")
    first = sessions.begin(holder)
    assert sessions.holder(first) == holder and sessions.holder("") is None
    now[0] = LASTS_S
    assert sessions.holder(first) is None and len(sessions) == 0
    kept = [sessions.begin(holder) for _ in range(MAX_SESSIONS + 3)]
    assert len(sessions) == MAX_SESSIONS and sessions.holder(kept[2]) is None
    assert sessions.holder(kept[3]) == holder


def test_who_guesses_is_stopped_and_who_shares_his_address_is_not():
    access = Access(_settings(failed_logins_per_minute=3))
    guesser, admin = "10.0.0.9", TOKENS["admin"]
    assert access.sign_in(TOKENS["viewer"], guesser).role == "viewer"
    for _ in range(3):
        with pytest.raises(LvmError, match="not known"):
            access.sign_in("guess", guesser)
    for guess in ("guess", admin):  # right or wrong: the answer is the same
        with pytest.raises(TooMany, match="too many unknown tokens"):
            access.sign_in(guess, guesser)
    assert access.sign_in(TOKENS["viewer"], guesser).role == "viewer"
    assert access.sign_in(admin, "10.0.0.10").role == "admin"


def test_each_token_asks_so_often_and_no_oftener(service):
    run = Run(service, Config(http=_settings(queries_per_s=0.001)))
    client = TestClient(make_app(service, run))
    assert client.post("/api/v1/query", json=WHERE, headers=_bearer("viewer")).status_code == 200
    reply = client.post("/api/v1/query", json=WHERE, headers=_bearer("viewer"))
    assert reply.status_code == 429 and int(reply.headers["retry-after"]) > 1
    assert client.post("/api/v1/query", json=WHERE, headers=_bearer("admin")).status_code == 200


def test_rates_refill_and_their_table_is_bounded():
    now = [0.0]
    rates = Rates(2.0, 3, most=10, clock=lambda: now[0])
    assert [rates.take("a") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    now[0] = 0.5
    assert rates.take("a") == 0 and rates.take("a") == 0.5
    for n in range(1000):
        rates.take(f"{n}")
    assert len(rates) == 10 and Rates(None, 1).take("a") == Rates(None, 1).take("a") == 0
    assert address_key("2001:db8::1") == address_key("2001:db8::2") != address_key("2001:db8:1::1")
    assert address_key("::ffff:10.0.0.1") == "10.0.0.1" and address_key("made up") == "made up"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8971", "[::1]:80", "127.9.9.9", None]
)
def test_on_loopback_it_is_called_by_loopback_names(host):
    Hosts(loopback=True).check(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8971", "10.0.0.1", "", "localhost.evil.example", "[x"]
)
def test_a_name_that_was_bound_to_loopback_is_not_served(host):
    with pytest.raises(NotAllowed):
        Hosts(loopback=True).check(host)


def test_beyond_loopback_addresses_and_configured_names_will_do():
    hosts = Hosts(loopback=False, names=["Kiosk.example."])
    for host in ("10.0.0.5:8971", "[fd00::1]:80", "kiosk.example", "kiosk.example:8971", "localhost"):
        hosts.check(host)
    with pytest.raises(NotAllowed, match="http.hosts"):
        hosts.check("evil.example")


def test_the_server_checks_the_name_it_is_called_by(service):
    with HttpServer(service, "127.0.0.1:0") as server:
        request = urllib.request.Request(server.address + "/healthz", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 403 and b"http.hosts" in refused.value.read()


def test_a_websocket_of_another_origin_is_refused():
    access = Access(HttpSettings())
    ours = {"host": "127.0.0.1:8971", "origin": "http://127.0.0.1:8971"}
    access.let_in(Asking("GET", "/api/v1/events", "127.0.0.1", ours, websocket=True))
    with pytest.raises(NotAllowed, match="another origin"):
        theirs = ours | {"origin": "http://evil.example"}
        access.let_in(Asking("GET", "/api/v1/events", "127.0.0.1", theirs, websocket=True))


def test_what_leaves_carries_the_headers_of_safety(client):
    for path in ("/healthz", "/api/v1/status", "/none"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store" and "server" not in headers


@pytest.mark.parametrize(
    "token, words",
    [
        ({}, "one of both"),
        ({"token": "a" * 20, "token_hash": hash_token("a")}, "one of both"),
        ({"token": "correct horse"}, "16 to 200 characters"),
        ({"token": 1234567890123456789}, "must be text"),
        ({"token_hash": "sha256:12"}, "token_hash"),
        ({"token": "a" * 20, "role": "root"}, "role"),
    ],
)
def test_a_wrong_token_setting_is_one_sentence_without_the_token(tmp_path, token, words):
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"http": {"tokens": [{"name": "a", **token}]}}))
    with pytest.raises(LvmError, match=words) as refused:
        load_config(file)
    assert "horse" not in str(refused.value) and "1234567890" not in str(refused.value)


def test_two_tokens_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="a name of its own"):
        HttpSettings.model_validate({"tokens": [{"name": "a", "token": c * 20} for c in "xy"]})


def test_a_new_token_comes_with_the_lines_that_let_it_in(tmp_path):
    said = CliRunner().invoke(cli, ["token", "new", "--role", "operator", "--name", "till 3"]).output
    token, yaml = re.fullmatch(r"token: (\S+)\n(http:\n.*)", said, re.DOTALL).groups()
    file = tmp_path / "c.yaml"
    file.write_text(yaml)
    assert load_config(file).http.access_tokens().find_holder(token) == Holder("till 3", "operator")
    assert token not in yaml and len(token) > 40


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_over_tls_with_a_token_it_is_asked_from_the_command_line(service, certificate):
    cert, key = certificate
    run = Run(service, Config(http=_settings(tls={"cert": cert, "key": key})))
    words = QueryText("object", activity="scan")
    with HttpServer(service, "127.0.0.1:0", run) as server:
        assert server.address.startswith("https://127.0.0.1:")
        assert Server(server.address, TOKENS["viewer"], cert).ask(words).type == "object"
        with pytest.raises(LvmError, match="LVM_EDGE_TOKEN"):
            Server(server.address, None, cert).ask(words)
        with pytest.raises(LvmError, match="is not trusted here, self-signed .*; name its file with --ca"):
            Server(server.address, TOKENS["viewer"], None).ask(words)
        context = ssl.create_default_context(cafile=cert)
        signing_in = urllib.request.Request(
            server.address + "/api/v1/session", json.dumps({"token": TOKENS["viewer"]}).encode()
        )
        with urllib.request.urlopen(signing_in, context=context, timeout=30) as reply:
            assert "Secure" in reply.headers["set-cookie"]


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["catalogue", "list"],
        ["forget", "--from", "1", "--to", "2"],
        ["ask", "object", "--activity", "scan"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_every_command_reaches_a_service_with_a_token_and_a_certificate_of_its_own(
    service, certificate, command
):
    cert, key = certificate
    run = Run(service, Config(http=_settings(tls={"cert": cert, "key": key})))
    with HttpServer(service, "127.0.0.1:0", run) as server:
        whole = [*command, "--url", server.address, "--ca", str(cert)]
        got_in = CliRunner().invoke(cli, whole, env={"LVM_EDGE_TOKEN": TOKENS["admin"]})
        assert got_in.exit_code == 0, got_in.exception
        refused = CliRunner().invoke(cli, whole, env={"LVM_EDGE_TOKEN": None})
    assert "set LVM_EDGE_TOKEN in the environment" in str(refused.exception)


def test_of_a_running_one_no_folder_is_named(tmp_path):
    for command in (["status", "--state"], ["catalogue", "list", "--catalogue"], ["activities", "--key"]):
        said = CliRunner().invoke(cli, [*command, str(tmp_path), "--url", "http://127.0.0.1:1"])
        assert f"name --url or {command[-1]}, not both" in str(said.exception)


def test_what_is_no_certificate_is_one_sentence(service, tmp_path):
    (tmp_path / "cert.pem").write_text("hello")
    tls = {"cert": tmp_path / "cert.pem", "key": tmp_path / "none.pem"}
    with pytest.raises(LvmError, match="http.tls: .*cert.pem and .*none.pem are no certificate"):
        HttpServer(service, "127.0.0.1:0", Run(service, Config(http=HttpSettings(tls=tls))))


def test_the_question_is_told_as_a_command_of_curl(tmp_path):
    told = make_curl_command(QueryText("object", activity="it's", camera="a"), Server("http://h:1/", "lvm_x"))
    assert told.endswith('-H "Authorization: Bearer $LVM_EDGE_TOKEN"') and "http://h:1/api/v1/query" in told
    assert """'{"type": "object", "activity": "it'"'"'s", "camera": "a"}'""" in told
