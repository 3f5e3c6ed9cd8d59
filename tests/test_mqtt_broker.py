"""MQTT against a real mosquitto that comes, goes, refuses, hangs, and passes on whatever anybody says."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from broker import Broker, Ear, free_port, make_certificates, need_mosquitto, retained, until
from cameras import Told, fake_engines, two_seconds
from held_up import timed
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import edge_runtime.camera_run as camera_run
from edge_runtime.camera_settings import CameraSettings
from edge_runtime.events import Event
from edge_runtime.mqtt.door import MqttDoor, Waits
from edge_runtime.mqtt.settings import MqttSettings
from edge_runtime.service import Service
from engines.errors import LvmError

ROOT = Path(__file__).parent.parent
SOON = Waits(0.05, 0.2, 0.2)
DOOR = "edge_runtime.mqtt.door"


@pytest.fixture(autouse=True)
def _mosquitto():
    need_mosquitto()


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path) as one:
        yield one


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setattr(
        camera_run, "open_source", lambda spec, *, sample_fps, start, settings: Told(10, start=start)
    )
    with Service(fake_engines()) as one:
        one.add(CameraSettings("a", tmp_path / "lane1", "lane1"))
        yield one


def door(service, port: int, **more) -> MqttDoor:
    wanted = {"enabled": True, "host": "127.0.0.1", "port": port, "client_id": "me", **more}
    return MqttDoor(service, MqttSettings(**wanted), SOON)


def happened(number: int, size: int = 0) -> Event:
    return Event("activity", "new", "lane1", None, {"id": number, "activity": "scan" + "x" * size})


def numbers(ear: Ear) -> list[int]:
    told = [json.loads(payload) for payload in ear.all("lvm/events")]
    return [one["after"]["id"] for one in told if one["kind"] == "activity"]


def answer_to(ear: Ear, name: str) -> dict:
    until(lambda: ear.all(f"lvm/query/response/{name}"), f"the answer {name}")
    (payload,) = ear.all(f"lvm/query/response/{name}")
    return json.loads(payload)


# -- what is told ------------------------------------------------------------------------------------------


@timed
def test_who_comes_later_finds_every_state_and_at_the_end_that_we_are_gone(broker, service, tmp_path):
    with door(service, broker.port, discovery={"enabled": True}) as one:
        assert one.connected.wait(10)
        found = retained(broker.port)
        assert found["lvm/available"] == b"online" and found["lvm/lane1/status"] == b"starting"
        assert found["lvm/lane1/paused/state"] == b"OFF"
        assert json.loads(found["lvm/cameras"])["cameras"] == {"lane1": "lane1"}
        assert len([topic for topic in found if topic.startswith("homeassistant/")]) == 4
        with Ear(broker.port) as ear:
            service.events.publish(Event("activity", "new", "lane1", None, {"id": 1, "activity": "scan"}))
            service.events.publish(Event("answer", "new", "lane1", None, {"answer": "private"}))
            service.add(CameraSettings("b", tmp_path / "b", "camera 2/b"))
            until(lambda: ear.last("lvm/camera_2_b/status") == b"starting", "the other camera")
            assert json.loads(ear.last("lvm/lane1/activity")) == {"id": 1, "activity": "scan"}
            (told,) = [json.loads(one) for one in ear.all("lvm/events")]
            assert {"kind", "type", "before", "after", "camera", "at"} == set(told)
            service.remove("lane1")
            until(lambda: ear.last("lvm/lane1/status") == b"", "the removal")
        until(lambda: not [t for t in retained(broker.port) if "lane1" in t], "the removal of all of it")
        found = retained(broker.port)
        assert len([topic for topic in found if topic.startswith("homeassistant/")]) == 4
        began = time.monotonic()
    assert time.monotonic() - began < two_seconds()
    found = retained(broker.port)
    assert found["lvm/available"] == b"offline" and found["lvm/camera_2_b/status"] == b"offline"
    # Another run, without that camera and without discovery, takes back what the first one left.
    service.remove("camera 2/b")
    service.add(CameraSettings("a", tmp_path / "lane1", "lane1"))
    with door(service, broker.port) as one:
        assert one.connected.wait(10)
        until(lambda: not [t for t in retained(broker.port) if "camera_2_b" in t], "the removal")
        assert not [topic for topic in retained(broker.port) if topic.startswith("homeassistant/")]


def test_stats_and_conditions_follow_a_camera_that_runs(broker, service):
    with Ear(broker.port) as ear, door(service, broker.port, stats_interval_s=1) as one:
        assert one.connected.wait(10)
        service.run()
        until(lambda: ear.last("lvm/lane1/status") == b"ended", "the end")

        def stats():
            told = [json.loads(payload) for payload in ear.all("lvm/stats")]
            return told if told and told[-1]["cameras"]["lane1"]["frames"] == 10 else None

        first, *_, last = until(lambda: len(stats() or []) > 1 and stats(), "the stats")
        assert first["cameras"]["lane1"]["frames_per_s"] is None
        assert last["cameras"]["lane1"]["frames_per_s"] >= 0 and last["mqtt"]["events"]["dropped"] == 0
        conditions = [json.loads(payload)["after"]["condition"] for payload in ear.all("lvm/events")]
        assert conditions == ["starting", "running", "ended"]


def test_a_pause_is_obeyed_told_and_not_replayed(broker, service):
    with Ear(broker.port) as ear, door(service, broker.port) as one:
        assert one.connected.wait(10)
        ear.say("lvm/lane1/paused/set", b"ON")
        until(lambda: ear.last("lvm/lane1/paused/state") == b"ON", "the pause")
        assert service.camera("lane1").paused and ear.last("lvm/lane1/status") == b"paused"
        ear.say("lvm/lane1/paused/set", b"perhaps")
        ear.say("lvm/nobody/paused/set", b"ON")
        ear.say("lvm/lane1/paused/set", b"off")
        until(lambda: ear.last("lvm/lane1/paused/state") == b"OFF", "its end")
        # A command that somebody had the broker keep must not pause again at each reconnection.
        ear.say("lvm/lane1/paused/set", b"ON", retain=True)
        until(lambda: service.camera("lane1").paused, "the pause")
        ear.say("lvm/lane1/paused/set", b"OFF")
        until(lambda: not service.camera("lane1").paused, "its end")
        ear.say("lvm/lane1/paused/set", b"ON", retain=True)
        ear.say("lvm/lane1/paused/set", b"OFF")
        until(lambda: ear.last("lvm/lane1/paused/state") == b"OFF", "its end")
    with door(service, broker.port) as one:
        assert one.connected.wait(10)
        until(lambda: one.counters()["mqtt"]["ignored"] == 1, "the old command")
        assert not service.camera("lane1").paused


def test_who_may_not_command_or_ask_is_not_even_heard(broker, service):
    with Ear(broker.port) as ear, door(service, broker.port, commands=False, queries=False) as one:
        assert one.connected.wait(10)
        ear.say("lvm/lane1/paused/set", b"ON")
        ear.say("lvm/query/request", b'{"id": "1", "type": "object", "activity": "scan"}')
        service.events.publish(happened(1))
        until(lambda: numbers(ear) == [1], "the event")
        assert not service.camera("lane1").paused and not ear.all("lvm/query/response/1")


# -- a broker that comes and goes --------------------------------------------------------------------------


@timed
def test_a_broker_that_is_absent_at_the_start_delays_nothing(service, tmp_path):
    broker = Broker(tmp_path)
    began = time.monotonic()
    with door(service, broker.port) as one:
        assert time.monotonic() - began < 0.5
        for number in range(5):
            service.events.publish(happened(number))
        time.sleep(0.3)
        with broker, Ear(broker.port) as ear:
            assert one.connected.wait(10)
            until(lambda: len(numbers(ear)) == 5, "what waited")
            assert numbers(ear) == [0, 1, 2, 3, 4]
    began = time.monotonic()
    with door(service, broker.port):
        time.sleep(0.2)
    assert time.monotonic() - began < two_seconds()


@pytest.mark.parametrize("how", ["stop", "kill", "freeze"])
def test_what_was_promised_comes_in_order_when_the_broker_is_back(broker, service, how, monkeypatch):
    """Exactly what the line still holds: here the newest 20 of 50, each once or, of the first, twice."""
    monkeypatch.setattr("edge_runtime.mqtt.wire.ANSWER_SECONDS", 1.0)
    with door(service, broker.port, buffer_events=20) as one:
        assert one.connected.wait(10)
        getattr(broker, how)()
        until(lambda: how == "freeze" or not one.connected.is_set(), "the loss")
        service.pause("lane1")  # an event too, and the oldest
        for number in range(50):
            service.events.publish(happened(number))
            time.sleep(0.001)
        until(lambda: sum(one.counters()["mqtt"]["events"][k] for k in ("dropped", "overrun")) >= 30, "drops")
        if how == "freeze":
            until(lambda: not one.connected.is_set(), "the loss")
            broker.thaw()
        else:
            broker.start()
        with Ear(broker.port) as ear:
            until(lambda: 49 in numbers(ear), lambda: f"the events ({numbers(ear)})")
            came = numbers(ear)
            kept = list(range(30, 50))
            # What was on its way when the broker froze may have come already, before this ear was there.
            assert came in (kept, [0, *kept], [30, *kept]) or (how == "freeze" and came == kept[-len(came) :])
            until(lambda: ear.last("lvm/lane1/paused/state") == b"ON", "the newest state")
            counts = one.counters()["mqtt"]["events"]
            assert counts["waiting"] == counts["bytes"] == 0 and 29 <= counts["dropped"] <= 32
        assert retained(broker.port)["lvm/available"] == b"online"


def test_the_line_is_bounded_in_bytes_too(service):
    with door(service, free_port(), buffer_mb=0.1) as one:
        for number in range(30):
            service.events.publish(happened(number, size=20_000))
        service.events.publish(happened(99, size=200_000))
        counts = until(
            lambda: (found := one.counters()["mqtt"]["events"])["unfit"] == 1 and found, "the last event"
        )
        assert counts["dropped"] == 26 and counts["waiting"] == 4 and counts["bytes"] <= 100_000


@pytest.mark.parametrize("how", ["freeze", "kill", "silent"])
@timed
def test_it_stops_within_two_seconds_whatever_the_broker_does(broker, service, how):
    port = broker.port
    if how == "silent":
        silent = socket.create_server(("127.0.0.1", 0))
        port = silent.getsockname()[1]
    with door(service, port) as one:
        if how == "silent":
            accepted, _ = silent.accept()
        else:
            assert one.connected.wait(10)
            getattr(broker, how)()
            service.events.publish(happened(1))
        began = time.monotonic()
    assert time.monotonic() - began < two_seconds()


@pytest.mark.slow
def test_attempts_that_nobody_answers_pile_nothing_up(service, monkeypatch):
    monkeypatch.setattr("edge_runtime.mqtt.wire.ANSWER_SECONDS", 0.1)
    monkeypatch.setattr("edge_runtime.mqtt.wire.KEEPALIVE_S", 1)
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            while True:
                try:
                    accepted.append(silent.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        with door(service, silent.getsockname()[1]):
            until(lambda: len(accepted) > 25, "25 attempts", 60)
            files = len(os.listdir("/proc/self/fd")) - len(accepted)
            threads = threading.active_count()
            until(lambda: len(accepted) > 60, "60 attempts", 60)
            # Each side holds one for an attempt; ours closes its own, the test keeps the other.
            assert len(os.listdir("/proc/self/fd")) - len(accepted) <= files + 8
            assert threading.active_count() <= threads + 3
    for one in accepted:
        one.close()


# -- who may connect ---------------------------------------------------------------------------------------


def with_password(folder: Path) -> Broker:
    file = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "kiosk", "s3cret/word"], check=True)
    file.chmod(0o644)
    return Broker(folder, "allow_anonymous false", f"password_file {file}")


def test_a_wrong_password_is_one_sentence_and_the_right_one_opens(service, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with with_password(tmp_path) as broker:
        with door(service, broker.port, username="kiosk", password="wr0ng/word"):
            until(lambda: "Not authorized" in caplog.text, "the refusal")
            time.sleep(0.6)  # a few more attempts, which say nothing new
        (line,) = [one.message for one in caplog.records if one.name == DOOR]
        assert line == (
            f"MQTT broker mqtt://127.0.0.1:{broker.port}: it refuses this client (Not authorized); "
            "check mqtt.username and mqtt.password; it is tried again"
        )
        with door(service, broker.port, username="kiosk", password="s3cret/word") as one:
            assert one.connected.wait(10)
            with Ear(broker.port, username="kiosk", password="s3cret/word") as ear:
                service.events.publish(happened(1))
                until(lambda: numbers(ear) == [1], "the event")
    assert "wr0ng" not in caplog.text and "s3cret" not in caplog.text


def test_tls_with_a_certificate_of_its_own(service, tmp_path, caplog):
    make_certificates(tmp_path)
    for file in tmp_path.glob("*.*"):
        file.chmod(0o644)
    lines = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key"]
    with Broker(tmp_path, *lines, "require_certificate true") as broker:
        own = {"cert": tmp_path / "client.pem", "key": tmp_path / "client.key"}
        with door(service, broker.port, tls={"ca": tmp_path / "ca.pem", **own}) as one:
            assert one.connected.wait(10)
        with door(service, broker.port, tls={"insecure": True, **own}) as one:
            assert one.connected.wait(10)
        caplog.clear()
        with door(service, broker.port, tls={"ca": tmp_path / "other.pem", **own}) as one:
            until(lambda: "check mqtt.tls.ca" in caplog.text, "the refusal")
            assert not one.connected.is_set()
        assert "is not trusted" in caplog.text and "Traceback" not in caplog.text
    for wrong, said in [
        ({"ca": tmp_path / "nowhere.pem"}, "mqtt.tls.ca: there is no file"),
        ({"ca": tmp_path / "server.key"}, "mqtt.tls.ca: .* holds no certificates"),
        ({"cert": tmp_path / "client.pem", "key": tmp_path / "server.key"}, "cannot be used together"),
    ]:
        with pytest.raises(LvmError, match=said):
            door(service, 1, tls=wrong)


# -- whatever anybody says ---------------------------------------------------------------------------------

GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
            st.sampled_from(["id", "type", "camera", "object", "activity", "from", "photos", "box", "t"]),
            inner, max_size=5),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip


def test_garbage_on_every_topic_ends_nothing(broker, service, caplog):
    caplog.set_level(logging.WARNING)
    with Ear(broker.port) as ear, door(service, broker.port) as one:
        assert one.connected.wait(10)

        topics = ["lvm/query/request", "lvm/lane1/paused/set", "lvm/cameras", "lvm/é/paused/set"]

        @examples(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.sampled_from(topics), GARBAGE, st.booleans())
        def say(topic, payload, retain):
            ear.say(topic, payload, 1, retain and topic != "lvm/query/request")

        say()
        service.resume("lane1")
        ear.say("lvm/query/request", b'{"id": "last", "type": "object"}')
        assert answer_to(ear, "last") == {
            "id": "last",
            "error": "question not understood: activity is missing",
        }
        assert one.counters()["mqtt"]["connections"] == 1
        assert not [record for record in caplog.records if record.name.startswith("edge_runtime.mqtt")]


def test_a_huge_message_is_never_sent_to_us(broker, service):
    with Ear(broker.port) as ear, door(service, broker.port, max_query_mb=0.05) as one:
        assert one.connected.wait(10)
        ear.say("lvm/query/request", b'{"id": "huge", "x": "' + bytes(5_000_000) + b'"}')
        ear.say("lvm/query/request", b'{"id": "large", "x": "' + b"x" * 52_000 + b'"}')
        assert answer_to(ear, "large")["error"] == "a question has at most 50000 bytes"
        assert not ear.all("lvm/query/response/huge") and one.counters()["mqtt"]["connections"] == 1


def flooded(broker, service) -> bool:
    """Two thousand questions at once are all told something; False where the connection was lost meanwhile:
    nobody promises anything of questions that waited in the broker then."""
    with Ear(broker.port) as ear, door(service, broker.port) as one:
        assert one.connected.wait(10)
        for number in range(2000):
            ear.say_soon("lvm/query/request", b'{"id": "%d", "type": "object", "activity": "a"}' % number)

        def counts():
            return one.counters()["mqtt"]

        def lost():
            return counts()["connections"] > 1

        def told():
            return counts()["queries"]["busy"] + counts()["queries"]["refused"]

        def seen():
            return f"{counts()}, broker: {broker.log()}"

        def heard():
            return [(t, p) for t, p, _ in list(ear.heard) if t.startswith("lvm/query/response/")]

        until(lambda: told() == 2000 or lost(), seen, 60)
        until(lambda: counts()["replies"]["waiting"] == 0 or lost(), seen, 60)
        until(lambda: len(heard()) + counts()["replies"]["dropped"] == 2000 or lost(), seen)
        if lost():
            print(f"the connection was lost: {seen()}")
            return False
        replies = heard()
        busy = [json.loads(payload) for _, payload in replies if b'"busy":true' in payload]
        assert busy and busy[0]["error"] == "other questions are being answered; ask again"
        assert counts()["queries"]["refused"] >= 16 and len({topic for topic, _ in replies}) == len(replies)
        return True


def test_thousands_of_questions_at_once_are_answered_or_told_that_it_is_busy(broker, service, monkeypatch):
    def slow(query, camera=None):
        time.sleep(0.01)
        raise LvmError("no answer in this test")

    monkeypatch.setattr(service, "ask", slow)
    assert any(flooded(broker, service) for _ in range(3)), f"no connection of three held: {broker.log()}"


def test_mqtt_5_askers_get_their_answer_where_they_want_it_if_they_may(broker, service):
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    def wanted(topic: str, data: bytes | None = None) -> Properties:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = topic
        if data is not None:
            properties.CorrelationData = data
        return properties

    with Ear(broker.port) as ear, door(service, broker.port, response_topics=["shop/till"]) as one:
        assert one.connected.wait(10)
        request, question = "lvm/query/request", b'{"type": "object"}'
        ear.say(request, question, properties=wanted("lvm/query/response/x/y", b"\0\xff"))
        ear.say(request, question, properties=wanted("shop/till/3"))
        ear.say(request, b'{"id": "a", "type": "object"}', properties=wanted("lvm/lane1/status"))
        ear.say(request, b'{"id": "b", "type": "object"}', properties=wanted("lvm/query/request"))
        ear.say(request, question, properties=wanted("lvm/query/response/long", bytes(2000)))
        ear.say(request, question)
        for name in ("a", "b"):
            assert "the response topic must lie below lvm/query/response/" in answer_to(ear, name)["error"]
        assert answer_to(ear, "x/y") == {"id": None, "error": "question not understood: activity is missing"}
        assert ear.properties["lvm/query/response/x/y"].CorrelationData == b"\0\xff"
        assert "correlation data has at most 1024" in answer_to(ear, "long")["error"]
        assert "a question needs an id" in answer_to(ear, "unknown")["error"]
        assert len(ear.all("shop/till/3")) == 1 and ear.last("lvm/lane1/status") == b"starting"


# -- a whole run -------------------------------------------------------------------------------------------


def test_a_run_answers_over_mqtt_what_it_answers_elsewhere_and_its_death_is_told(broker, tmp_path):
    config = tmp_path / "kiosk.yaml"
    config.write_text(
        "version: 1\nmodel: {threads: 1, backend: onnxruntime}\n"
        f"state: {{directory: {tmp_path}/state}}\nhttp: {{enabled: false}}\n"
        "cameras: {lane1: {source: 'demo?size=64x48'}}\n"
        f"mqtt: {{enabled: true, host: 127.0.0.1, port: {broker.port}, topic_prefix: shop/lvm}}\n"
    )
    command = [sys.executable, "-m", "edge_runtime.cli.main", "run", "--config", config]
    command += ["--for", "35", "--stay", "--json"]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    question = {"type": "object", "activity": "scan"}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Ear(broker.port) as ear, subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as run:
        try:
            until(lambda: ear.last("shop/lvm/lane1/status") in (b"ended", b"stopped"), "the end", 60)
            ear.say(
                "shop/lvm/query/request", json.dumps({"id": "q1", "camera": "lane1", **question}).encode()
            )
            told = json.loads(until(lambda: ear.last("shop/lvm/query/response/q1"), "the answer"))
            run.stdin.write(json.dumps(question) + "\n")
            run.stdin.flush()
            typed = json.loads(run.stdout.readline())
            assert told.pop("id") == "q1" and told["type"] == "object" and told["coverage"]["to"] == 35
            assert told.pop("milliseconds") > 0 and typed.pop("milliseconds") > 0
            assert told == typed
            run.send_signal(signal.SIGKILL)
            until(lambda: ear.last("shop/lvm/available") == b"offline", "the last will")
        finally:
            run.kill()


def test_what_a_camera_forgets_is_not_told_later(service, tmp_path):
    broker = Broker(tmp_path)
    service.run()
    with door(service, broker.port) as one:
        service.events.publish(happened(1))
        until(lambda: one.counters()["mqtt"]["events"]["waiting"] == 1, "the event")
        service.camera("lane1").guard.forget(0, 5)
        service.events.publish(happened(2))
        with broker, Ear(broker.port) as ear:
            until(lambda: numbers(ear), "what waited")
            assert numbers(ear) == [2]
            assert json.loads(until(lambda: ear.last("lvm/lane1/activity"), "the newest"))["id"] == 2
