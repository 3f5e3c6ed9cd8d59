"""The HTTP door: answers as JSON, refusals as one sentence, and nothing beyond loopback."""

import json
import socket
import urllib.error
import urllib.request

import pytest
from fastapi.testclient import TestClient

import edge_runtime.server as server_module
from edge_runtime.engine_set import Engines
from edge_runtime.paths import default_bundle
from edge_runtime.server import HttpServer, make_app, parse_listen
from edge_runtime.service import Service
from edge_runtime.state import StateFolder
from engines.bundle import Bundle
from engines.errors import LvmError

WHERE = {"type": "object", "activity": "scan"}


@pytest.fixture(scope="module")
def engines():
    return Engines.load(Bundle.open(default_bundle()), "onnxruntime", threads=1)


@pytest.fixture(scope="module")
def watched(engines, tmp_path_factory):
    """A service that has seen 35 seconds."""
    with StateFolder(tmp_path_factory.mktemp("state")) as folder:
        service = Service(engines, "demo?size=64x48", folder)
        service.run(35)
        yield service


@pytest.fixture
def client(watched):
    return TestClient(make_app(watched), raise_server_exceptions=False)


def test_a_question_is_answered_with_everything_that_an_answer_has(client):
    reply = client.post("/api/v1/query", json=WHERE)
    body = reply.json()
    assert reply.status_code == 200 and body["type"] == "object" and body["trained"] is True
    assert body["coverage"] == {"from": 0, "to": 35, "gaps": []} and body["memory_version"] == 1
    assert all(set(one) == {"t", "cell", "box", "weight"} for one in body["evidence"])


def test_the_status_is_that_of_the_service(client, watched):
    body = client.get("/api/v1/status").json()
    assert body["frames"] == 35 and body["source"] == "demo?size=64x48" and body["state_bytes"] > 0


def test_alive_and_ready(client, engines, tmp_path):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").status_code == 200
    with StateFolder(tmp_path) as folder:
        fresh = TestClient(make_app(Service(engines, "demo", folder)))
        assert fresh.get("/healthz").status_code == 200
        reply = fresh.get("/readyz")
        assert reply.status_code == 503 and reply.json() == {"ready": False, "frames": 0}
        answer = fresh.post("/api/v1/query", json=WHERE).json()
        assert answer["abstained"] and answer["coverage"] == {"from": None, "to": None, "gaps": []}


@pytest.mark.parametrize(
    "body, words",
    [
        (b"", "question not understood"),
        (b"\xff\xfe", "question not understood"),
        (b"{", "question not understood"),
        (b'{"type": "colour"}', "type must be activity, object or time"),
        (b'{"type": "object", "activity": "scan", "from": NaN}', "from"),
        (b'{"type": "object", "activity": "scam"}', "nearest is 'scan'"),
        (b'{"type": "activity", "object": {"photos": ["aGVsbG8="]}}', "damaged or of another kind"),
        (b'{"type": "activity", "object": {"product": "milk"}}', "not in the catalogue"),
        (b'{"type": "activity", "object": {"box": [0, 0, 1, 1], "t": 1e300}}', "object.box.t"),
    ],
)
def test_a_refusal_is_one_sentence_with_status_422(client, body, words):
    reply = client.post("/api/v1/query", content=body)
    assert reply.status_code == 422 and list(reply.json()) == ["error"]
    assert words in reply.json()["error"] and reply.json()["error"].isprintable()


def test_a_body_above_the_limit_is_refused(client, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_BODY_BYTES", 1000)
    reply = client.post("/api/v1/query", content=b" " * 1001)
    assert reply.status_code == 422 and reply.json() == {"error": "a question has at most 1000 bytes"}
    assert client.post("/api/v1/query", content=json.dumps(WHERE).ljust(1000)).status_code == 200


def test_there_are_no_other_doors(client):
    assert client.get("/").status_code == 404 and client.get("/docs").status_code == 404
    assert client.get("/api/v1/query").status_code == 405


@pytest.mark.parametrize(
    "listen, address",
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("localhost:0", ("127.0.0.1", 0)), ("[::1]:8971", ("::1", 8971))],
)
def test_loopback_addresses_are_understood(listen, address):
    assert parse_listen(listen) == address


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "192.168.1.4:80", "[::]:80", "8.8.8.8:1"])
def test_beyond_loopback_it_does_not_listen(listen):
    with pytest.raises(LvmError, match="listens on loopback only"):
        parse_listen(listen)


@pytest.mark.parametrize(
    "listen", ["", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:x", "example.com:80", "::"]
)
def test_what_is_no_address_is_one_sentence(listen):
    with pytest.raises(LvmError, match="--http must be HOST:PORT like 127.0.0.1:8971, got"):
        parse_listen(listen)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist_is_one_sentence(port):
    with pytest.raises(LvmError, match="port must be 0..65535"):
        parse_listen(f"127.0.0.1:{port}")


def _get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.loads(reply.read())


def test_it_listens_while_it_is_held_and_not_after(watched):
    with HttpServer(watched, "127.0.0.1:0") as server:
        assert _get(server.address + "/healthz") == {"status": "alive"}
    with pytest.raises(urllib.error.URLError):
        _get(server.address + "/healthz")


def test_an_ipv6_address_is_one_that_a_client_understands(watched):
    try:
        server = HttpServer(watched, "[::1]:0")
    except (LvmError, OSError):
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        assert server.address.startswith("http://[::1]:")
        assert _get(server.address + "/healthz") == {"status": "alive"}


def test_a_port_that_another_program_has_is_one_sentence(watched):
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(LvmError, match="choose another port or --no-http"):
            HttpServer(watched, f"127.0.0.1:{other.getsockname()[1]}")


def test_of_two_that_start_together_one_gets_the_port(watched):
    first = HttpServer(watched, "127.0.0.1:0")
    with pytest.raises(LvmError, match="choose another port"):
        HttpServer(watched, first.address.removeprefix("http://"))
    with first:
        assert _get(first.address + "/healthz") == {"status": "alive"}
