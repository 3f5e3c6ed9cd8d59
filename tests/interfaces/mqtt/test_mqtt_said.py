"""MQTT against a real mosquitto that passes on whatever anybody says: questions, commands, garbage."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engines.errors import LvmError
from tests.support.broker import Broker, Subscriber, need_mosquitto, wait_until
from tests.support.mqtt_service import (
    ROOT,
    list_event_ids,
    make_client,
    make_event,
    wait_for_answer,
)


@pytest.fixture(autouse=True)
def _mosquitto():
    need_mosquitto()


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
    with Subscriber(broker.port) as ear, make_client(service, broker.port) as one:
        assert one.connected.wait(10)

        topics = ["lvm/query/request", "lvm/lane1/paused/set", "lvm/cameras", "lvm/é/paused/set"]

        @examples(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.sampled_from(topics), GARBAGE, st.booleans())
        def say(topic, payload, retain):
            ear.publish(topic, payload, 1, retain and topic != "lvm/query/request")

        say()
        service.resume("lane1")
        ear.publish("lvm/query/request", b'{"id": "last", "type": "object"}')
        assert wait_for_answer(ear, "last") == {
            "id": "last",
            "error": "question not understood: activity is missing",
        }
        assert one.counters()["mqtt"]["connections"] == 1
        assert not [
            record for record in caplog.records if record.name.startswith("edge_runtime.interfaces.mqtt")
        ]


def test_a_huge_message_is_never_sent_to_us(broker, service):
    with Subscriber(broker.port) as ear, make_client(service, broker.port, max_query_mb=0.05) as one:
        assert one.connected.wait(10)
        ear.publish("lvm/query/request", b'{"id": "huge", "x": "' + bytes(5_000_000) + b'"}')
        ear.publish("lvm/query/request", b'{"id": "large", "x": "' + b"x" * 52_000 + b'"}')
        assert wait_for_answer(ear, "large")["error"] == "a question has at most 50000 bytes"
        assert not ear.all("lvm/query/response/huge") and one.counters()["mqtt"]["connections"] == 1


def flooded(broker, service) -> bool:
    """Two thousand questions at once are all told something; False where the connection was lost meanwhile:
    nobody promises anything of questions that waited in the broker then."""
    with Subscriber(broker.port) as ear, make_client(service, broker.port) as one:
        assert one.connected.wait(10)
        for number in range(2000):
            ear.publish_later(
                "lvm/query/request", b'{"id": "%d", "type": "object", "activity": "a"}' % number
            )

        def counts():
            return one.counters()["mqtt"]

        def lost():
            return counts()["connections"] > 1

        def told():
            return counts()["queries"]["busy"] + counts()["queries"]["refused"]

        def seen():
            return f"{counts()}, broker: {broker.log()}"

        def heard():
            return [(t, p) for t, p, _ in list(ear.messages) if t.startswith("lvm/query/response/")]

        wait_until(lambda: told() == 2000 or lost(), seen, 60)
        wait_until(lambda: counts()["replies"]["waiting"] == 0 or lost(), seen, 60)
        wait_until(lambda: len(heard()) + counts()["replies"]["dropped"] == 2000 or lost(), seen)
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

    with (
        Subscriber(broker.port) as ear,
        make_client(service, broker.port, response_topics=["shop/till"]) as one,
    ):
        assert one.connected.wait(10)
        request, question = "lvm/query/request", b'{"type": "object"}'
        ear.publish(request, question, properties=wanted("lvm/query/response/x/y", b"\0\xff"))
        ear.publish(request, question, properties=wanted("shop/till/3"))
        ear.publish(request, b'{"id": "a", "type": "object"}', properties=wanted("lvm/lane1/status"))
        ear.publish(request, b'{"id": "b", "type": "object"}', properties=wanted("lvm/query/request"))
        ear.publish(request, question, properties=wanted("lvm/query/response/long", bytes(2000)))
        ear.publish(request, question)
        for name in ("a", "b"):
            assert (
                "the response topic must lie below lvm/query/response/" in wait_for_answer(ear, name)["error"]
            )
        assert wait_for_answer(ear, "x/y") == {
            "id": None,
            "error": "question not understood: activity is missing",
        }
        assert ear.properties["lvm/query/response/x/y"].CorrelationData == b"\0\xff"
        assert "correlation data has at most 1024" in wait_for_answer(ear, "long")["error"]
        assert "a question needs an id" in wait_for_answer(ear, "unknown")["error"]
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
    command = [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "run", "--config", config]
    command += ["--for", "35", "--stay", "--json"]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    question = {"type": "object", "activity": "scan"}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Subscriber(broker.port) as ear, subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as run:
        try:
            wait_until(lambda: ear.last("shop/lvm/lane1/status") in (b"ended", b"stopped"), "the end", 60)
            ear.publish(
                "shop/lvm/query/request", json.dumps({"id": "q1", "camera": "lane1", **question}).encode()
            )
            told = json.loads(wait_until(lambda: ear.last("shop/lvm/query/response/q1"), "the answer"))
            run.stdin.write(json.dumps(question) + "\n")
            run.stdin.flush()
            typed = json.loads(run.stdout.readline())
            assert told.pop("id") == "q1" and told["type"] == "object" and told["coverage"]["to"] == 35
            assert told.pop("milliseconds") > 0 and typed.pop("milliseconds") > 0
            assert told == typed
            run.send_signal(signal.SIGKILL)
            wait_until(lambda: ear.last("shop/lvm/available") == b"offline", "the last will")
        finally:
            run.kill()


def test_what_a_camera_forgets_is_not_told_later(service, tmp_path):
    broker = Broker(tmp_path)
    service.run()
    with make_client(service, broker.port) as one:
        service.events.publish(make_event(1))
        wait_until(lambda: one.counters()["mqtt"]["events"]["waiting"] == 1, "the event")
        service.camera("lane1").privacy.forget(0, 5)
        service.events.publish(make_event(2))
        with broker, Subscriber(broker.port) as ear:
            wait_until(lambda: list_event_ids(ear), "what waited")
            assert list_event_ids(ear) == [2]
            assert json.loads(wait_until(lambda: ear.last("lvm/lane1/activity"), "the newest"))["id"] == 2
