"""Retained topics of earlier host names, cameras, prefixes and brokers are taken back; others' are not."""

import contextlib
import json
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_runtime.config.mqtt import MqttSettings, make_broker_settings
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.cli.main import app
from edge_runtime.interfaces.mqtt.client import MqttClient
from edge_runtime.interfaces.mqtt.published_topics import FILE, MAX_PREFIXES, PublishedTopics
from edge_runtime.interfaces.startup import mqtt
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.run import Run
from engines.errors import LvmError
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


def leave(service, broker, folder: Path, **more) -> None:
    """Publish to a broker, which a later configuration does not name."""
    config = {"enabled": True, "host": "127.0.0.1", "port": broker.port, **DISCOVERY, **more}
    left = Config.model_validate({"mqtt": config, "state": {"directory": folder}})
    with mqtt(Run(service, left)):
        wait_until(lambda: list(folder.glob(FILE)) and "available" in (folder / FILE).read_text(), "topics")
        time.sleep(1.0)


def withdraw(folder: Path, *more: str, **environment: str):
    file = folder / "now.yaml"
    file.write_text(json.dumps({"state": {"directory": str(folder)}}))
    command = ["mqtt-withdraw", "--config", str(file), *more]
    return CliRunner().invoke(app, command, env=environment)


def test_a_section_that_is_deleted_is_cleaned_at_a_broker_that_needs_no_user(broker, service, tmp_path):
    leave(service, broker, tmp_path / "m")
    assert any(topic.startswith("homeassistant/") for topic in list_topics(broker))
    with mqtt(Run(service, Config.model_validate({"state": {"directory": tmp_path / "m"}}))):
        wait_until(lambda: not list_topics(broker), lambda: f"an end of {list_topics(broker)}")
    assert "nothing is to be taken back" in withdraw(tmp_path / "m").output


@pytest.fixture
def guarded(tmp_path):
    """A broker that knows kiosk only."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    file = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "kiosk", "s3cret/word"], check=True)
    file.chmod(0o644)
    with Broker(folder, "allow_anonymous false", f"password_file {file}") as one:
        yield one


def test_a_section_that_is_deleted_is_cleaned_by_the_command_that_the_warning_names(
    guarded, service, tmp_path, caplog
):
    user, folder = {"username": "kiosk", "password": "s3cret/word"}, tmp_path / "m"
    address = f"mqtt://127.0.0.1:{guarded.port}"
    leave(service, guarded, folder, **user)
    with mqtt(Run(service, Config.model_validate({"state": {"directory": folder}}))):
        wait_until(lambda: f"call lvm-edge mqtt-withdraw {address} --username" in caplog.text, "a warning")
        assert "stop that first" in str(withdraw(folder).exception)
    refused = withdraw(folder, address)
    assert isinstance(refused.exception, LvmError) and "refuses this client" in str(refused.exception)
    secret = {"LVM_MQTT_PASSWORD": "s3cret/word"}
    elsewhere = withdraw(folder, "mqtt://127.0.0.1:1", "--username", "kiosk", **secret)
    assert f"one that is left, {address}" in str(elsewhere.exception)
    done = withdraw(folder, address, "--username", "kiosk", **secret)
    assert done.exit_code == 0, done.exception
    assert f"{address}: lvm/…: " in done.output and "topics were taken back" in done.output
    with Subscriber(guarded.port, **user) as ear:
        time.sleep(0.5)
        assert not [message for message in ear.messages if message[2]]
    assert "nothing is to be taken back" in withdraw(folder).output


def test_a_broker_that_is_named_but_switched_off_is_cleaned_with_its_own_user(guarded, service, tmp_path):
    user, folder = {"username": "kiosk", "password": "s3cret/word"}, tmp_path / "m"
    leave(service, guarded, folder, **user)
    file = tmp_path / "off.yaml"
    off = {"enabled": False, "host": "127.0.0.1", "port": guarded.port, **user}
    file.write_text(json.dumps({"mqtt": off, "state": {"directory": str(folder)}}))
    done = CliRunner().invoke(app, ["mqtt-withdraw", "--config", str(file)])
    assert done.exit_code == 0 and "topics were taken back" in done.output


def test_withdrawing_leaves_what_another_device_uses_alone(broker, service, tmp_path):
    leave(service, broker, tmp_path / "m", client_id="one")
    with run_client(service, broker, tmp_path / "two", client_id="two"):
        done = withdraw(tmp_path / "m")
        assert "another device uses it now" in done.output
        assert "lvm/lane1/status" in list_topics(broker)


@pytest.mark.parametrize(
    ("address", "host", "port", "tls"),
    [
        ("mqtt://b:1883", "b", 1883, False),
        ("mqtts://b.example:8883", "b.example", 8883, True),
        ("mqtt://[fe80::1]:1", "fe80::1", 1, False),
    ],
)
def test_settings_of_an_address(address, host, port, tls):
    settings = make_broker_settings(address)
    assert (settings.host, settings.port, settings.tls is not None) == (host, port, tls)
    assert settings.address == address


@pytest.mark.parametrize("address", ["b", "http://b:1", "mqtt://u:p@b:1", "mqtt://b:99999", "mqtt://b", ""])
def test_what_is_no_address_of_a_broker_is_refused(address):
    with pytest.raises(LvmError, match="expected a broker as mqtt://HOST:PORT"):
        make_broker_settings(address)
