"""The HTTP door: answers as JSON, refusals as one sentence, and nothing beyond loopback without tokens."""

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from fastapi.testclient import TestClient

import edge_runtime.interfaces.http.request_bodies as bodies
from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.http import server as server_module
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.http.server import HttpServer, parse_listen
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.runtime import Service
from engines.bundle import Bundle
from engines.errors import LvmError
from tests.support.stalls import timed

WHERE = {"type": "object", "activity": "scan"}


@pytest.fixture(scope="module")
def engines():
    return Engines.load(Bundle.open(default_bundle()), "onnxruntime", threads=1)


@pytest.fixture(scope="module")
def watched(engines, tmp_path_factory):
    """A service that has seen 35 seconds."""
    with Service(engines) as service:
        service.add(CameraSettings("demo?size=64x48", tmp_path_factory.mktemp("state")))
        service.run(35)
        yield service


@pytest.fixture
def client(watched):
    return TestClient(make_app(watched), raise_server_exceptions=False)


def test_a_question_is_answered_with_everything_that_an_answer_has(client):
    reply = client.post("/api/v1/query", json=WHERE)
    body = reply.json()
    assert reply.status_code == 200 and body["type"] == "object" and body["trained"] is True
    assert body["coverage"] == {"from": 0, "to": 35, "watched_share": [1, 1], "gaps": []}
    assert body["memory_version"] == 1
    assert all(set(one) == {"t", "cell", "box", "weight"} for one in body["evidence"])


def test_the_status_is_that_of_the_service(client, watched):
    body = client.get("/api/v1/status").json()
    assert body["frames"] == 35 and body["source"] == "demo?size=64x48" and body["state_bytes"] > 0


def test_the_camera_is_listed_by_its_name(client):
    (listed,) = client.get("/api/v1/cameras").json()["cameras"]
    assert listed == client.get("/api/v1/cameras/demo?size=64x48".replace("?", "%3F")).json()
    assert (
        listed["camera"] == "demo?size=64x48" and listed["condition"] == "ended" and listed["error"] is None
    )
    reply = client.get("/api/v1/cameras/nobody")
    assert reply.status_code == 404 and "there is no camera 'nobody'; there are demo" in reply.json()["error"]


def test_alive_and_ready(client, engines, tmp_path):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").status_code == 200
    with Service(engines) as service:
        service.add(CameraSettings("demo", tmp_path))
        fresh = TestClient(make_app(service))
        assert fresh.get("/healthz").status_code == 200
        reply = fresh.get("/readyz")
        assert reply.status_code == 503 and reply.json() == {"ready": False, "frames": 0}
        answer = fresh.post("/api/v1/query", json=WHERE).json()
        nothing = {"from": None, "to": None, "watched_share": [0, 0], "gaps": []}
        assert answer["abstained"] and answer["coverage"] == nothing


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
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)
    reply = client.post("/api/v1/query", content=b" " * 1001)
    assert reply.status_code == 413 and reply.json() == {"error": "this has at most 1000 bytes"}
    assert client.post("/api/v1/query", content=json.dumps(WHERE).ljust(1000)).status_code == 200


def test_questions_together_hold_no_more_than_there_is_room_for(client, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_HELD_BYTES", 1000)
    reply = client.post("/api/v1/query", content=b" " * 1001)
    assert reply.status_code == 503 and "ask again" in reply.json()["error"]
    for _ in range(30):  # what was answered or refused makes room again
        assert client.post("/api/v1/query", content=b"{".ljust(900)).status_code == 422
        assert client.post("/api/v1/query", content=json.dumps(WHERE).ljust(900)).status_code == 200


def test_a_body_counts_until_its_question_is_answered(client, watched, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_HELD_BYTES", 1000)
    begun, go_on, ask = threading.Event(), threading.Event(), watched.ask

    def slow(*asked):
        begun.set()
        assert go_on.wait(30)
        return ask(*asked)

    monkeypatch.setattr(watched, "ask", slow)
    replies = []
    body = json.dumps(WHERE).ljust(600)
    with HttpServer(watched, "127.0.0.1:0") as server:

        def first():
            replies.append(_post(server.address, body))

        asking = threading.Thread(target=first)
        asking.start()
        try:
            assert begun.wait(30)
            assert _post(server.address, body) == 503
        finally:
            go_on.set()
            asking.join(30)
        assert replies == [200] and _post(server.address, body) == 200


def _post(address: str, body: str) -> int:
    request = urllib.request.Request(address + "/api/v1/query", body.encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",  # of a further request
        b"POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half of a second head", "half a body"],
)
@timed
def test_a_client_that_does_not_come_to_the_point_is_hung_up_on(watched, monkeypatch, said):
    monkeypatch.setattr(server_module, "HEAD_S", 0.5)
    monkeypatch.setattr(server_module, "BODY_S", 0.5)
    with HttpServer(watched, "127.0.0.1:0") as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as slow:
            slow.sendall(said)
            begun, heard = time.monotonic(), b""
            with contextlib.suppress(OSError):  # hung up on
                while time.monotonic() - begun < 20:
                    slow.settimeout(0.2)
                    try:
                        part = slow.recv(4096)
                    except TimeoutError:
                        slow.sendall(b"a")  # a letter now and then
                        continue
                    if not part:
                        break
                    heard += part
            assert time.monotonic() - begun < 20
        assert (b"alive" in heard) == (b"GET /hea" in said[40:])
        assert _get(server.address + "/healthz") == {"status": "alive"}


def test_there_are_no_other_doors(client):
    assert client.get("/docs").status_code == 404
    assert client.get("/api/v1/query").status_code == 405


@pytest.mark.parametrize(
    "listen, address",
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("localhost:0", ("127.0.0.1", 0)), ("[::1]:8971", ("::1", 8971))],
)
def test_loopback_addresses_are_understood(listen, address):
    assert parse_listen(listen) == (*address, True)


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "192.168.1.4:80", "[::]:80", "8.8.8.8:1"])
def test_beyond_loopback_it_does_not_listen_without_tokens(watched, listen):
    with pytest.raises(LvmError, match="lvm-edge token new"):
        HttpServer(watched, listen)


@pytest.mark.parametrize(
    "listen",
    ["", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:x", "a b:80", "-x.local:80", "http://x:80", "::"],
)
def test_what_is_no_address_is_one_sentence(listen):
    with pytest.raises(LvmError, match="--http must be HOST:PORT like 127.0.0.1:8971, got"):
        parse_listen(listen)


@pytest.mark.parametrize(
    ("host", "address"), [("kiosk.local", "10.3.4.5"), ("Till-2", "127.0.1.1"), ("v6", "fe80::1")]
)
def test_a_host_name_is_listened_at_where_this_machine_knows_it(monkeypatch, host, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 0))]
    found = (
        [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)), *found] if "." in address else found
    )
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert parse_listen(f"{host}:9181") == (address, 9181, address.startswith("127."))


def test_a_server_answers_to_the_name_that_it_listens_at(watched, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
    asked = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda name, *a, **b: found if name == "kiosk.local" else asked(name, *a, **b)
    )
    with HttpServer(watched, "kiosk.local:0") as server:
        port = int(server.address.rpartition(":")[2])
        assert server.address == f"http://kiosk.local:{port}"
        for name, allowed in {"kiosk.local": True, "KIOSK.local": True, "evil.example": False}.items():
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            client.request("GET", "/healthz", headers={"Host": f"{name}:{port}"})
            assert (client.getresponse().status != 403) == allowed, name
            client.close()


@pytest.mark.parametrize("listen", ["kiosk.invalid:80", "300.1.2.3:80"])
def test_a_host_name_that_nobody_knows_is_one_sentence(listen):
    with pytest.raises(LvmError, match="this machine knows no address of that name; listen at 0.0.0.0"):
        parse_listen(listen)


def test_an_address_of_another_machine_is_one_sentence(watched, monkeypatch):
    monkeypatch.setattr("edge_runtime.interfaces.http.server._check_protection", lambda *_: None)
    with pytest.raises(LvmError, match=r"this machine has no address 192\.0\.2\.7; listen at one of its own"):
        HttpServer(watched, "192.0.2.7:8971")


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
