"""The routes of the HTTP door: forms, answers, bundle, configuration, metrics, events."""

import contextlib
import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import edge_runtime.interfaces.http.routes.events as events_room
from edge_runtime.config.access_tokens import hash_token, new_token
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.schema import Config, load_config
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.http.routes.configuration import is_allowed_source
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.events import MAX_ANSWERS, Event
from edge_runtime.service.run import Run
from tools.fuzzing.small import small_service

WHERE = {"type": "object", "activity": "scan"}


@pytest.fixture
def service(tmp_path):
    with small_service(tmp_path) as service:
        yield service


@pytest.fixture
def client(service):
    return TestClient(make_app(service), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def photo() -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.full((20, 20, 3), 90, np.uint8))[1].tobytes()


def test_a_form_with_photos_is_the_question_in_json(client, photo):
    import base64

    text = base64.b64encode(photo).decode()
    as_json = client.post("/api/v1/query", json={"type": "activity", "object": {"photos": [text]}}).json()
    as_form = client.post(
        "/api/v1/query",
        data={"query": '{"type": "activity", "camera": "demo"}'},
        files=[("photos", ("a.png", photo, "image/png"))],
    ).json()
    assert as_form["type"] == "activity"
    assert {**as_form, "milliseconds": 0} == {**as_json, "milliseconds": 0}


@pytest.mark.parametrize(
    "query, files, words",
    [
        (None, {"photos": b"x"}, "the field query once"),
        ("{", {"photos": b"x"}, "not JSON"),
        ('{"type": "activity", "object": {}}', {"photos": b"x"}, "the photos are its object"),
        ('{"type": "activity"}', {"other": b"x"}, "nothing else"),
        ('{"type": "activity"}', {"photos": b"hello"}, "damaged or of another kind"),
        ('{"type": "activity", "camera": 3}', {"photos": b"x"}, "name of a camera"),
        ('{"type": "activity", "from": "nan"}', {"photos": b"x"}, "from"),
    ],
)
def test_a_form_that_is_no_question_is_refused(client, query, files, words):
    parts = [(name, (name, data)) for name, data in files.items()]
    reply = client.post("/api/v1/query", data={"query": query} if query else {}, files=parts or None)
    assert reply.status_code == 422 and words in reply.json()["error"], reply.text


@pytest.mark.parametrize(
    "kind, body",
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"x"),
        ("multipart/form-data; boundary=a", b"--a\r\n\r\nx\r\n--a--"),
        ("multipart/form-data; boundary=a", b'--a\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx'),
        ("multipart/form-data; boundary=" + "a" * 500, b"--" + b"a" * 500),
    ],
)  # fmt: skip
def test_a_damaged_form_is_one_sentence(client, kind, body):
    reply = client.post("/api/v1/query", content=body, headers={"content-type": kind})
    assert reply.status_code == 422 and reply.json()["error"].isprintable()


def test_the_newest_answers_are_told_without_photos_and_forgotten_with_their_camera(client, service, photo):
    for _ in range(MAX_ANSWERS + 5):
        client.post("/api/v1/query", json=WHERE)
    files = [("photos", ("a.png", photo, "image/png"))]
    client.post("/api/v1/query", data={"query": '{"type": "time"}'}, files=files)
    found = client.get("/api/v1/answers").json()["answers"]
    assert len(found) == MAX_ANSWERS and found[0]["question"] == {"type": "time", "object": {"photos": 1}}
    assert found[1]["question"] == WHERE and found[1]["camera"] == "demo"
    assert found[0]["at"] >= found[-1]["at"] and found[0]["answer"]["type"] == "time"
    assert len(client.get("/api/v1/answers?limit=3").json()["answers"]) == 3
    assert client.get("/api/v1/answers?limit=0").status_code == 422
    service.camera().privacy.forget(0, 3)
    assert client.get("/api/v1/answers").json() == {"answers": []}


def test_the_bundle_is_told_for_people(client, service):
    told = client.get("/api/v1/bundle").json()
    classes = service.engines.bundle.manifest.classes
    assert [one["name"] for one in told["activities"]] == [one.name for one in classes]
    assert told["m"] == 12 and told["backend"] == "fake"
    assert client.get("/version").json()["name"] == "lvm-edge"


# -- configuration -------------------------------------------------------------------------------------------

FILE = """# Till 3, asked for by the branch office
version: 1
cameras:
  lane1: {source: "rtsp://kiosk:hunter2hunter2@10.0.0.5/live", sampler: fifo}
http:
  allow_sources: ["rtsp://10.0.0.6/*"]
  queries_per_s: 1000
"""


@pytest.fixture
def configured(service, tmp_path):
    file = tmp_path / "shop.yaml"
    file.write_text(FILE)
    file.chmod(0o640)
    run = Run(service, load_config(file), file, reload=lambda: reloaded.append(file.read_text()) or [])
    reloaded: list[str] = []
    client = TestClient(make_app(service, run), raise_server_exceptions=False)
    return client, file, reloaded


def test_what_holds_is_told_without_credentials(configured, service):
    client, _, _ = configured
    told = client.get("/api/v1/config")
    assert "10.0.0.5" in told.text and "hunter2" not in told.text
    token = {"name": "a", "token_hash": hash_token("b" * 40)}
    run = Run(service, Config(http=HttpSettings.model_validate({"tokens": [token]})))
    guarded = TestClient(make_app(service, run), headers={"Authorization": "Bearer " + "b" * 40})
    assert guarded.get("/api/v1/config").json()["http"]["tokens"][0]["token_hash"] == "***"
    schema = client.get("/api/v1/config/schema.json").json()
    assert set(schema["properties"]) == set(Config.model_fields)


def test_another_configuration_is_written_whole_with_its_comments_and_applied(configured):
    client, file, reloaded = configured
    wanted = (
        FILE.replace("live", "other")
        .replace("sampler: fifo", "sampler: random")
        .replace("10.0.0.5", "10.0.0.6")
    )
    reply = client.put("/api/v1/config", content=wanted)
    assert reply.status_code == 200, reply.text
    assert reply.json()["problems"] == [] and "hunter2" not in reply.text
    assert file.read_text() == wanted and reloaded == [wanted] and file.stat().st_mode & 0o777 == 0o640
    assert file.with_name("shop.yaml.bak").read_text() == FILE
    assert sorted(one.name for one in file.parent.glob("*shop*")) == ["shop.yaml", "shop.yaml.bak"]


@pytest.mark.parametrize(
    "old, new, status, words",
    [
        ("10.0.0.5/live", "10.0.0.7/live", 403, "allow_sources"),
        ("rtsp://kiosk:hunter2hunter2@10.0.0.5/live", "/etc/passwd", 403, "allow_sources"),
        ("kiosk:hunter2hunter2@10.0.0.5", "***@10.0.0.6", 422, "masked"),
        ("rtsp://10.0.0.6/*", "*", 403, "http can be changed in the file"),
        ("version: 1", "version: 1\nmodel: {bundle: /tmp/mine}", 403, "model can be changed in the file"),
        ("version: 1", "version: 1\nstate: {directory: /etc}", 403, "state can be changed in the file"),
        ("sampler: fifo", "state: /etc", 403, "cameras.lane1.state"),
        ("lane1", "../lane1", 422, "configuration:4: cameras"),
        ("version: 1", "version: 2", 422, "configuration:2: version"),
        (FILE, "a: &a [*a]", 422, "configuration:1"),
    ],
)
def test_a_configuration_that_may_not_be_changes_nothing(configured, old, new, status, words):
    client, file, reloaded = configured
    reply = client.put("/api/v1/config", content=FILE.replace(old, new))
    assert reply.status_code == status and words in reply.json()["error"], reply.text
    assert file.read_text() == FILE and reloaded == [] and len(list(file.parent.glob("*shop*"))) == 1
    assert "hunter2" not in reply.text


def test_a_read_only_system_is_a_sentence_and_no_fault_of_ours(configured, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    client, file, reloaded = configured
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # Linux says so of a name that is not there, too
    reply = client.put("/api/v1/config", content=FILE.replace("fifo", "random"))
    monkeypatch.undo()
    assert reply.status_code == 422 and "Read-only file system; change" in reply.json()["error"], reply.text
    assert file.read_text() == FILE and reloaded == []


def test_without_a_configuration_file_there_is_nothing_to_write(client):
    reply = client.put("/api/v1/config", content="version: 1")
    assert reply.status_code == 404 and "--config FILE" in reply.json()["error"]


@pytest.mark.parametrize(
    "source, pattern, may",
    [
        ("rtsp://user:word@10.0.0.6/a", "rtsp://10.0.0.6/*", True),
        ("rtsp://10.0.0.6@evil.example/a", "rtsp://10.0.0.6/*", False),
        ("rtsp://10.0.0.6/@evil.example/a", "rtsp://10.0.0.6/*", True),
        ("rtsp://a@b@10.0.0.6/a", "rtsp://10.0.0.6/*", False),
        ("rtsp://evil.example\\@10.0.0.6/a", "rtsp://10.0.0.6/*", False),
        ("rtsp://10.0.0.6.evil.example/a", "rtsp://10.0.0.6/*", False),
        ("RTSP://10.0.0.6/a", "rtsp://10.0.0.6/*", True),
        ("0", "0", True),
        ("/dev/video0\n", "/dev/video*", False),
        ("demo", "", False),
    ],
)
def test_a_source_is_allowed_by_its_host_whatever_stands_before_it(source, pattern, may):
    assert is_allowed_source(source, (pattern,)) is may


# -- metrics -------------------------------------------------------------------------------------------------


def test_metrics_are_told_in_base_units_with_few_labels(client, service):
    from prometheus_client.parser import text_string_to_metric_families

    service.camera().drop_counter.by_reason["engine fault"] += 3
    for _ in range(3):
        client.post("/api/v1/query", json=WHERE)
    client.get("/none")
    found = {
        (one.name, *sorted(one.labels.values())): one.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for one in family.samples
    }
    assert found["lvm_query_seconds_count", "object"] == 3
    assert 0 < found["lvm_query_seconds_sum", "object"] < 60
    assert found["lvm_frames_dropped_total", "demo", "engine fault"] == 3
    # Prometheus sees no increase of what appears with its first increase.
    assert found["lvm_frames_dropped_total", "demo", "reconnect"] == 0
    assert found["lvm_gap_seconds_total", "demo", "forgotten"] == 0
    assert found["lvm_query_seconds_count", "time"] == 0
    assert found["lvm_frames_total", "demo"] == 8 and found["lvm_memory_bytes", "demo"] > 0
    assert found["lvm_memory_tokens", "demo"] == service.camera().version.memory.filled
    assert found["lvm_coverage_seconds", "demo"] == 8
    assert found["lvm_http_responses_total", "404"] == 1
    assert found["lvm_camera_condition", "demo", "waiting"] == 1
    assert ("process_resident_memory_bytes",) in found
    assert any(name[0] == "lvm_engine_info" and "fake" in name for name in found)


# -- events --------------------------------------------------------------------------------------------------


@pytest.fixture
def server(service):
    with HttpServer(service, "127.0.0.1:0") as server:
        yield server


def _events(server, query: str = "", **more):
    return connect(server.address.replace("http", "ws") + "/api/v1/events" + query, open_timeout=30, **more)


def _listening(service, count: int) -> None:
    end = time.monotonic() + 30
    while len(service.events._subscriptions) < count:
        assert time.monotonic() < end, "nobody subscribed"
        time.sleep(0.01)


def test_events_come_as_they_happen_those_that_were_asked_for(service, server):
    before = len(service.events._subscriptions)
    with _events(server) as every, _events(server, "?kinds=camera,activity") as some:
        _listening(service, before + 2)
        service.events.publish(Event("privacy", "new", "demo", after={"n": 1}))
        service.events.publish(Event("camera", "update", "demo", {"condition": "a"}, {"condition": "b"}))
        got = [json.loads(every.recv(30)) for _ in range(2)]
        assert [one["kind"] for one in got] == ["privacy", "camera"] and got[0]["after"] == {"n": 1}
        assert json.loads(some.recv(30)) == got[1]
        every.send("what a listener says is not listened to")
        service.events.publish(Event("privacy", "update", "demo", after={"paused": True}))
        assert json.loads(every.recv(30))["kind"] == "privacy"
    end = time.monotonic() + 30
    while len(service.events._subscriptions) > before:
        assert time.monotonic() < end, "who has gone is still told"
        time.sleep(0.01)


def test_a_question_is_an_event(service, server, client):
    before = len(service.events._subscriptions)
    with _events(server, "?kinds=answer") as socket:
        _listening(service, before + 1)
        client.post("/api/v1/query", json=WHERE)
        told = json.loads(socket.recv(30))
    assert told["after"]["question"] == WHERE and told["after"]["answer"]["type"] == "object"


def test_a_pause_is_an_event_once(service, client):
    with service.events.subscribe() as told:
        for wanted in ("true", "true", "false"):
            assert client.put("/api/v1/cameras/demo/paused", content=wanted).status_code == 200
        events = [told.get(0) for _ in range(3)]
    assert [(one.kind, one.before, one.after) for one in events if one is not None] == [
        ("privacy", {"paused": False}, {"paused": True}),
        ("privacy", {"paused": True}, {"paused": False}),
    ]


def test_so_many_listen_and_no_more(service, server, monkeypatch):
    monkeypatch.setattr(events_room, "MAX_LISTENERS", 2)
    before = len(service.events._subscriptions)
    with _events(server), _events(server):
        _listening(service, before + 2)
        with pytest.raises(InvalidStatus):
            _events(server)


def test_kinds_that_there_are_not_are_refused(client):
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/api/v1/events?kinds=x"):
        pass
    assert refused.value.code == 1008


def test_a_listener_who_reads_nothing_is_cut_off_and_delays_nobody(service, server, monkeypatch):
    monkeypatch.setattr(events_room, "SEND_S", 0.3)
    before = len(service.events._subscriptions)
    large = {"words": "x" * 200_000}
    got: list[str] = []
    with _events(server, max_queue=1) as slow, _events(server, max_size=None) as quick:
        _listening(service, before + 2)

        def read() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    got.append(quick.recv())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        sent, end = 0, time.monotonic() + 60
        while len(service.events._subscriptions) > before + 1:
            assert time.monotonic() < end, "the slow one is still told"
            service.events.publish(Event("camera", "update", "demo", after=large))
            sent += 1
            deadline = time.monotonic() + 30
            while len(got) < sent and time.monotonic() < deadline:
                time.sleep(0.002)
        assert len(got) == sent, "the quick one missed some"
        with pytest.raises(ConnectionClosed):
            while True:
                slow.recv(30)


def test_without_a_token_nobody_listens(service):
    token = new_token()
    tokens = [{"name": "a", "token_hash": hash_token(token)}]
    run = Run(service, Config(http=HttpSettings.model_validate({"tokens": tokens})))
    with HttpServer(service, "127.0.0.1:0", run) as server:
        with pytest.raises(InvalidStatus) as refused:
            _events(server)
        assert refused.value.response.status_code == 401 and b"a token" in refused.value.response.body
        with _events(server, additional_headers={"Authorization": f"Bearer {token}"}):
            pass
