"""Retained topics of earlier host names, cameras, prefixes and brokers are taken back; others' are not."""

import contextlib
import json
from pathlib import Path

import pytest

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.mqtt.client import MqttClient
from edge_runtime.interfaces.mqtt.published_topics import FILE, MAX_PREFIXES, PublishedTopics
from edge_runtime.interfaces.startup import mqtt
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.run import Run
from tests.support.broker import Broker, Subscriber, need_mosquitto, read_retained, wait_until
from tests.support.mqtt_service import SOON


@pytest.fixture(autouse=True)
def _mosquitto():
    need_mosquitto()


@contextlib.contextmanager
def run_client(service, broker, folder: Path, **more):
    settings = {"enabled": True, "host": "127.0.0.1", "port": broker.port, **more}
    with contextlib.closing(PublishedTopics(folder)) as published:
        with MqttClient(service, MqttSettings(**settings), SOON, published) as client:
            assert client.connected.wait(10)
            yield client


def list_topics(broker) -> set[str]:
    return set(read_retained(broker.port))


DISCOVERY = {"discovery": {"enabled": True}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"client_id": "till-1"}, {"client_id": "kiosk-9"}),
        ({"client_id": "till-1", **DISCOVERY}, {"client_id": "kiosk-9", **DISCOVERY}),
        ({"topic_prefix": "shop/a", **DISCOVERY}, {"topic_prefix": "lvm", **DISCOVERY}),
        ({"topic_prefix": "a", "client_id": "x", **DISCOVERY}, {"topic_prefix": "b", "client_id": "y"}),
        (DISCOVERY, {"discovery": {"enabled": False}}),
        (DISCOVERY, {"discovery": {"enabled": True, "prefix": "ha"}}),
    ],
)
def test_what_is_not_published_any_more_is_taken_back(broker, service, tmp_path, before, after):
    service.add(CameraSettings("b", tmp_path / "gone", "gone"))
    with run_client(service, broker, tmp_path / "m", **before):
        earlier = list_topics(broker)
        assert any("gone" in topic for topic in earlier)
    service.remove("gone")
    with run_client(service, broker, tmp_path / "m", **after):
        prefix = after.get("topic_prefix", "lvm")
        ha = after.get("discovery", {})
        roots = (f"{prefix}/", ha.get("prefix", "homeassistant") + "/" if ha.get("enabled") else f"{prefix}/")
        wait_until(
            lambda: all(topic.startswith(roots) and "gone" not in topic for topic in list_topics(broker)),
            lambda: f"an end of {sorted(list_topics(broker))}",
        )
        assert f"{prefix}/lane1/status" in list_topics(broker)
    content = json.loads((tmp_path / "m" / FILE).read_text())
    assert list(content["brokers"][f"mqtt://127.0.0.1:{broker.port}"]) == [prefix]


def test_a_prefix_that_another_device_uses_now_is_left_alone(broker, service, tmp_path):
    with run_client(service, broker, tmp_path / "one", topic_prefix="a", client_id="one", **DISCOVERY):
        pass
    with run_client(service, broker, tmp_path / "two", topic_prefix="a", client_id="two", **DISCOVERY):
        theirs = list_topics(broker)
        with run_client(service, broker, tmp_path / "one", topic_prefix="b", client_id="one"):
            wait_until(lambda: "b/lane1/status" in list_topics(broker), "the new topics")
            published = json.loads((tmp_path / "one" / FILE).read_text())["brokers"]
            wait_until(
                lambda: list(*json.loads((tmp_path / "one" / FILE).read_text())["brokers"].values()) == ["b"],
                lambda: f"an end of {published}",
            )
        assert theirs <= list_topics(broker)


def test_a_prefix_is_remembered_until_the_broker_is_back(broker, service, tmp_path):
    with run_client(service, broker, tmp_path / "m", topic_prefix="a"):
        earlier = {topic: payload for topic, payload in read_retained(broker.port).items()}
    broker.stop()
    settings = MqttSettings(enabled=True, host="127.0.0.1", port=broker.port, topic_prefix="b")
    with contextlib.closing(PublishedTopics(tmp_path / "m")) as published:
        with MqttClient(service, settings, SOON, published) as client:
            assert not client.connected.wait(0.5)
        assert published.prefixes(settings.address) == ["a", "b"]
    broker.start()
    with Subscriber(broker.port) as other:  # this mosquitto keeps nothing over a restart
        for topic, payload in earlier.items():
            other.publish(topic, payload, retain=True)
    with run_client(service, broker, tmp_path / "m", topic_prefix="b"):
        wait_until(lambda: all(topic.startswith("b/") for topic in list_topics(broker)), "an end of a/")


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_switched_off_it_takes_everything_back(broker, service, tmp_path, how):
    mqtt_on = {"enabled": True, "host": "127.0.0.1", "port": broker.port, **DISCOVERY}
    state = {"directory": tmp_path / "m"}
    on = Config.model_validate({"mqtt": mqtt_on, "state": state})
    off = Config.model_validate({"mqtt": mqtt_on | {"enabled": False}, "state": state})
    run = Run(service, on)
    with mqtt(run):
        wait_until(lambda: "lvm/available" in list_topics(broker), "topics")
        if how == "reload":
            assert run.apply_settings(off) == []
            wait_until(lambda: not list_topics(broker), lambda: f"an end of {list_topics(broker)}")
    if how == "restart":
        with mqtt(Run(service, off)):
            wait_until(lambda: not list_topics(broker), lambda: f"an end of {list_topics(broker)}")
    assert PublishedTopics(tmp_path / "m").brokers == []


def test_a_broker_that_is_left_gets_its_topics_taken_back(broker, service, tmp_path):
    (tmp_path / "b").mkdir()
    with Broker(tmp_path / "b") as other:
        one, two = (
            Config.model_validate(
                {
                    "mqtt": {"enabled": True, "host": "127.0.0.1", "port": port},
                    "state": {"directory": tmp_path / "m"},
                }
            )
            for port in (broker.port, other.port)
        )
        run = Run(service, one)
        with mqtt(run):
            wait_until(lambda: "lvm/available" in list_topics(broker), "topics")
            run.apply_settings(two)
            wait_until(lambda: not list_topics(broker), lambda: f"an end of {list_topics(broker)}")
            wait_until(lambda: "lvm/available" in list_topics(other), "topics at the other")


def test_the_file_is_bounded_private_and_one_process_writes_it(tmp_path):
    one = PublishedTopics(tmp_path / "m")
    for number in range(MAX_PREFIXES + 5):
        one.remember("mqtt://b:1", f"p{number}", [f"p{number}/cameras", f"p{number}/a"])
    assert len(one.prefixes("mqtt://b:1")) == MAX_PREFIXES
    assert one.topics("mqtt://b:1", "p20") == ["p20/a", "p20/cameras"]
    assert (tmp_path / "m" / FILE).stat().st_mode & 0o777 == 0o600
    two = PublishedTopics(tmp_path / "m")
    assert two.id == one.id and two.brokers == []
    two.remember("mqtt://b:1", "other", ["other/a"])
    one.close()
    again = PublishedTopics(tmp_path / "m")
    assert again.id == one.id and "other" not in again.prefixes("mqtt://b:1")
    again.close()
    for damage in (b"", b"{", b'{"id": 3}', b"\xff"):
        (tmp_path / "m" / FILE).write_bytes(damage)
        damaged = PublishedTopics(tmp_path / "m")
        assert damaged.brokers == [] and len(damaged.id) == 16
        damaged.close()
