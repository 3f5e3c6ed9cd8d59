"""A camera's title: for people, everywhere the same; its name stays what programs and folders use."""

import json
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.config.schema import Config, load_config
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.mqtt.payloads import read_cameras, stats
from edge_runtime.interfaces.mqtt.retained_states import RetainedStates
from edge_runtime.interfaces.mqtt.topics import TopicNames, Topics
from edge_runtime.service.camera_settings import make_camera_settings
from engines.errors import LvmError

TITLES = ["Till 3, left", "Kasse über dem Förderband", "入口", "Gate-" * 12 + "last", "  Front door  "]


@pytest.mark.parametrize("title", TITLES)
def test_a_title_of_the_configuration_is_told_over_http_and_mqtt(watch, tmp_path, title):
    file = tmp_path / "shop.yaml"
    file.write_text(
        json.dumps(
            {"cameras": {"till3": {"source": "demo", "title": title, "state": str(tmp_path / "state")}}}
        )
    )
    (settings,) = make_camera_settings(load_config(file)).values()
    service = watch()
    service.add(settings)
    status = TestClient(make_app(service)).get("/api/v1/cameras/till3").json()
    assert (status["camera"], status["title"]) == ("till3", title.strip())

    views, names = read_cameras(service), TopicNames()
    counted = json.loads(stats(views, {}, {"till3": "till3"}, {}))["cameras"]["till3"]
    assert (counted["camera"], counted["title"]) == ("till3", title.strip())
    states = RetainedStates(MqttSettings(discovery={"enabled": True}), Topics("lvm"), names)
    states.update(views)
    switch = json.loads(states.outbox.get("homeassistant/switch/lvm_till3/paused/config"))
    assert switch["device"]["name"] == title.strip()
    assert switch["command_topic"] == "lvm/till3/paused/set"  # topics keep the name


@pytest.mark.parametrize("title", ["", "   ", "x" * 65, "two\nlines", "bell\a"])
def test_what_is_no_title_is_refused(tmp_path, title):
    file = tmp_path / "shop.yaml"
    file.write_text(json.dumps({"cameras": {"a": {"source": "demo", "title": title}}}))
    with pytest.raises(LvmError, match="title has 1 to 64 printable characters"):
        load_config(file)


def test_without_a_title_the_name_is_shown_and_another_title_needs_no_restart(watch, settings):
    service, plain = watch(), settings("a", "demo")
    camera = service.add(plain)
    client = TestClient(make_app(service))
    assert client.get("/api/v1/cameras/a").json()["title"] == "a"
    service.apply([replace(plain, title="Front door")])
    assert service.camera("a") is camera
    assert client.get("/api/v1/cameras/a").json()["title"] == "Front door"


def test_a_camera_that_is_late_has_its_title_too(watch, settings):
    service, late = watch(), replace(settings("late", "demo?size=64x48"), title="Back door")
    late.state.write_text("in the way")
    assert service.pending.try_add(late) is not None
    (told,) = TestClient(make_app(service)).get("/api/v1/cameras").json()["awaited"]
    assert (told["camera"], told["title"]) == ("late", "Back door")
    assert read_cameras(service)["late"].title == "Back door"


def test_a_configuration_without_titles_is_read_as_before():
    assert Config.model_validate({"cameras": {"a": {"source": "demo"}}}).cameras["a"].title is None
