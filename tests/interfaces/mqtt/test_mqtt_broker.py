"""MQTT against a real mosquitto that comes, goes, refuses and hangs: what is told."""

import json
import logging
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.events import Event
from engines.errors import LvmError
from tests.support.broker import (
    Broker,
    Subscriber,
    free_port,
    make_certificates,
    need_mosquitto,
    read_retained,
    wait_until,
)
from tests.support.cameras import stop_limit_s
from tests.support.mqtt_service import list_event_ids, make_client, make_event
from tests.support.stalls import timed

DOOR = "edge_runtime.interfaces.mqtt.client"


@pytest.fixture(autouse=True)
def _mosquitto():
    need_mosquitto()


@timed
def test_who_comes_later_finds_every_state_and_at_the_end_that_we_are_gone(broker, service, tmp_path):
    with make_client(service, broker.port, discovery={"enabled": True}) as one:
        assert one.connected.wait(10)
        found = read_retained(broker.port)
        assert found["lvm/available"] == b"online" and found["lvm/lane1/status"] == b"starting"
        assert found["lvm/lane1/paused/state"] == b"OFF"
        assert json.loads(found["lvm/cameras"])["cameras"] == {"lane1": "lane1"}
        assert len([topic for topic in found if topic.startswith("homeassistant/")]) == 4
        with Subscriber(broker.port) as ear:
            service.events.publish(Event("activity", "new", "lane1", None, {"id": 1, "activity": "scan"}))
            service.events.publish(Event("answer", "new", "lane1", None, {"answer": "private"}))
            service.add(CameraSettings("b", tmp_path / "b", "camera 2/b"))
            wait_until(lambda: ear.last("lvm/camera_2_b/status") == b"starting", "the other camera")
            assert json.loads(ear.last("lvm/lane1/activity")) == {"id": 1, "activity": "scan"}
            (told,) = [json.loads(one) for one in ear.all("lvm/events")]
            assert {"kind", "type", "before", "after", "camera", "at"} == set(told)
            service.remove("lane1")
            wait_until(lambda: ear.last("lvm/lane1/status") == b"", "the removal")
        wait_until(
            lambda: not [t for t in read_retained(broker.port) if "lane1" in t], "the removal of all of it"
        )
        found = read_retained(broker.port)
        assert len([topic for topic in found if topic.startswith("homeassistant/")]) == 4
        began = time.monotonic()
    assert time.monotonic() - began < stop_limit_s()
    found = read_retained(broker.port)
    assert found["lvm/available"] == b"offline" and found["lvm/camera_2_b/status"] == b"offline"
    # Another run, without that camera and without discovery, takes back what the first one left.
    service.remove("camera 2/b")
    service.add(CameraSettings("a", tmp_path / "lane1", "lane1"))
    with make_client(service, broker.port) as one:
        assert one.connected.wait(10)
        wait_until(lambda: not [t for t in read_retained(broker.port) if "camera_2_b" in t], "the removal")
        assert not [topic for topic in read_retained(broker.port) if topic.startswith("homeassistant/")]


def test_stats_and_conditions_follow_a_camera_that_runs(broker, service):
    with Subscriber(broker.port) as ear, make_client(service, broker.port, stats_interval_s=1) as one:
        assert one.connected.wait(10)
        service.run()
        wait_until(lambda: ear.last("lvm/lane1/status") == b"ended", "the end")

        def stats():
            told = [json.loads(payload) for payload in ear.all("lvm/stats")]
            return told if told and told[-1]["cameras"]["lane1"]["frames"] == 10 else None

        first, *_, last = wait_until(lambda: len(stats() or []) > 1 and stats(), "the stats")
        assert first["cameras"]["lane1"]["frames_per_s"] is None
        assert last["cameras"]["lane1"]["frames_per_s"] >= 0 and last["mqtt"]["events"]["dropped"] == 0
        conditions = [json.loads(payload)["after"]["condition"] for payload in ear.all("lvm/events")]
        assert conditions == ["starting", "running", "ended"]


def test_a_pause_is_obeyed_told_and_not_replayed(broker, service):
    with Subscriber(broker.port) as ear, make_client(service, broker.port) as one:
        assert one.connected.wait(10)
        ear.publish("lvm/lane1/paused/set", b"ON")
        wait_until(lambda: ear.last("lvm/lane1/paused/state") == b"ON", "the pause")
        assert service.camera("lane1").paused and ear.last("lvm/lane1/status") == b"paused"
        ear.publish("lvm/lane1/paused/set", b"perhaps")
        ear.publish("lvm/nobody/paused/set", b"ON")
        ear.publish("lvm/lane1/paused/set", b"off")
        wait_until(lambda: ear.last("lvm/lane1/paused/state") == b"OFF", "its end")
        # A command that somebody had the broker keep must not pause again at each reconnection.
        ear.publish("lvm/lane1/paused/set", b"ON", retain=True)
        wait_until(lambda: service.camera("lane1").paused, "the pause")
        ear.publish("lvm/lane1/paused/set", b"OFF")
        wait_until(lambda: not service.camera("lane1").paused, "its end")
        ear.publish("lvm/lane1/paused/set", b"ON", retain=True)
        ear.publish("lvm/lane1/paused/set", b"OFF")
        wait_until(lambda: ear.last("lvm/lane1/paused/state") == b"OFF", "its end")
    with make_client(service, broker.port) as one:
        assert one.connected.wait(10)
        wait_until(lambda: one.counters()["mqtt"]["ignored"] == 1, "the old command")
        assert not service.camera("lane1").paused


def test_who_may_not_command_or_ask_is_not_even_heard(broker, service):
    with (
        Subscriber(broker.port) as ear,
        make_client(service, broker.port, commands=False, queries=False) as one,
    ):
        assert one.connected.wait(10)
        ear.publish("lvm/lane1/paused/set", b"ON")
        ear.publish("lvm/query/request", b'{"id": "1", "type": "object", "activity": "scan"}')
        service.events.publish(make_event(1))
        wait_until(lambda: list_event_ids(ear) == [1], "the event")
        assert not service.camera("lane1").paused and not ear.all("lvm/query/response/1")


# -- a broker that comes and goes --------------------------------------------------------------------------


@timed
def test_a_broker_that_is_absent_at_the_start_delays_nothing(service, tmp_path):
    broker = Broker(tmp_path)
    began = time.monotonic()
    with make_client(service, broker.port) as one:
        assert time.monotonic() - began < 0.5
        for number in range(5):
            service.events.publish(make_event(number))
        time.sleep(0.3)
        with broker, Subscriber(broker.port) as ear:
            assert one.connected.wait(10)
            wait_until(lambda: len(list_event_ids(ear)) == 5, "what waited")
            assert list_event_ids(ear) == [0, 1, 2, 3, 4]
    began = time.monotonic()
    with make_client(service, broker.port):
        time.sleep(0.2)
    assert time.monotonic() - began < stop_limit_s()


@pytest.mark.parametrize("how", ["stop", "kill", "freeze"])
def test_what_was_promised_comes_in_order_when_the_broker_is_back(broker, service, how, monkeypatch):
    """Exactly what the line still holds: here the newest 20 of 50, each once or, of the first, twice."""
    monkeypatch.setattr("edge_runtime.interfaces.mqtt.connection.CONFIRM_S", 1.0)
    with make_client(service, broker.port, buffer_events=20) as one:

        def count_lost() -> int:
            """Those that came too fast for a busy machine count like those for which the line was full."""
            counts = one.counters()["mqtt"]["events"]
            return counts["dropped"] + counts["overrun"]

        assert one.connected.wait(10)
        getattr(broker, how)()
        wait_until(lambda: how == "freeze" or not one.connected.is_set(), "the loss")
        service.pause("lane1")  # an event too, and the oldest
        for number in range(50):
            service.events.publish(make_event(number))
            time.sleep(0.001)
        wait_until(lambda: count_lost() >= 30, "drops")
        if how == "freeze":
            wait_until(lambda: not one.connected.is_set(), "the loss")
            broker.thaw()
        else:
            broker.start()
        with Subscriber(broker.port) as ear:
            wait_until(lambda: 49 in list_event_ids(ear), lambda: f"the events ({list_event_ids(ear)})")
            came = list_event_ids(ear)
            kept = list(range(30, 50))
            # What was on its way when the broker froze may have come already, before this ear was there.
            assert came in (kept, [0, *kept], [30, *kept]) or (how == "freeze" and came == kept[-len(came) :])
            wait_until(lambda: ear.last("lvm/lane1/paused/state") == b"ON", "the newest state")
            counts = one.counters()["mqtt"]["events"]
            assert counts["waiting"] == counts["bytes"] == 0 and 29 <= count_lost() <= 32
        assert read_retained(broker.port)["lvm/available"] == b"online"


def test_the_line_is_bounded_in_bytes_too(service):
    with make_client(service, free_port(), buffer_mb=0.1) as one:
        for number in range(30):
            service.events.publish(make_event(number, size=20_000))
        service.events.publish(make_event(99, size=200_000))
        counts = wait_until(
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
    with make_client(service, port) as one:
        if how == "silent":
            accepted, _ = silent.accept()
        else:
            assert one.connected.wait(10)
            getattr(broker, how)()
            service.events.publish(make_event(1))
        began = time.monotonic()
    assert time.monotonic() - began < stop_limit_s()


@pytest.mark.slow
def test_attempts_that_nobody_answers_pile_nothing_up(service, monkeypatch):
    monkeypatch.setattr("edge_runtime.interfaces.mqtt.connection.CONFIRM_S", 0.1)
    monkeypatch.setattr("edge_runtime.interfaces.mqtt.connection.KEEPALIVE_S", 1)
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            while True:
                try:
                    accepted.append(silent.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        with make_client(service, silent.getsockname()[1]):
            wait_until(lambda: len(accepted) > 25, "25 attempts", 60)
            files = len(os.listdir("/proc/self/fd")) - len(accepted)
            threads = threading.active_count()
            wait_until(lambda: len(accepted) > 60, "60 attempts", 60)
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
        with make_client(service, broker.port, username="kiosk", password="wr0ng/word"):
            wait_until(lambda: "Not authorized" in caplog.text, "the refusal")
            time.sleep(0.6)  # a few more attempts, which say nothing new
        (line,) = [one.message for one in caplog.records if one.name == DOOR]
        assert line == (
            f"MQTT broker mqtt://127.0.0.1:{broker.port}: it refuses this client (Not authorized); "
            "check mqtt.username and mqtt.password; it is tried again"
        )
        with make_client(service, broker.port, username="kiosk", password="s3cret/word") as one:
            assert one.connected.wait(10)
            with Subscriber(broker.port, username="kiosk", password="s3cret/word") as ear:
                service.events.publish(make_event(1))
                wait_until(lambda: list_event_ids(ear) == [1], "the event")
    assert "wr0ng" not in caplog.text and "s3cret" not in caplog.text


def test_tls_with_a_certificate_of_its_own(service, tmp_path, caplog):
    make_certificates(tmp_path)
    for file in tmp_path.glob("*.*"):
        file.chmod(0o644)
    lines = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key"]
    with Broker(tmp_path, *lines, "require_certificate true") as broker:
        own = {"cert": tmp_path / "client.pem", "key": tmp_path / "client.key"}
        with make_client(service, broker.port, tls={"ca": tmp_path / "ca.pem", **own}) as one:
            assert one.connected.wait(10)
        with make_client(service, broker.port, tls={"insecure": True, **own}) as one:
            assert one.connected.wait(10)
        caplog.clear()
        with make_client(service, broker.port, tls={"ca": tmp_path / "other.pem", **own}) as one:
            wait_until(lambda: "check mqtt.tls.ca" in caplog.text, "the refusal")
            assert not one.connected.is_set()
        assert "is not trusted" in caplog.text and "Traceback" not in caplog.text
    for wrong, said in [
        ({"ca": tmp_path / "nowhere.pem"}, "mqtt.tls.ca: there is no file"),
        ({"ca": tmp_path / "server.key"}, "mqtt.tls.ca: .* holds no certificates"),
        ({"cert": tmp_path / "client.pem", "key": tmp_path / "server.key"}, "cannot be used together"),
    ]:
        with pytest.raises(LvmError, match=said):
            make_client(service, 1, tls=wrong)
