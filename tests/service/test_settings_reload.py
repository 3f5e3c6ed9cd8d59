"""What SIGHUP brings up to date beside the cameras: the broker, and a sentence for what needs a restart."""

from dataclasses import replace

import pytest

from edge_runtime.config.schema import Config
from edge_runtime.interfaces.cli.run import _Reloader
from edge_runtime.interfaces.startup import component_lifespan
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from tests.support.broker import Broker, need_mosquitto, read_retained, wait_until
from tests.support.cameras import ScriptedSource, fake_engines


def wanted(mqtt: dict, **more) -> Config:
    plain = {"http": {"enabled": False}, "activities": {"enabled": False}}
    return Config.model_validate(plain | {"mqtt": mqtt} | more)


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("LVM_EDGE_STATE", str(tmp_path / "root"))
    with Service(fake_engines(), opener=lambda spec, **_: ScriptedSource(5)) as one:
        one.add(CameraSettings("demo", tmp_path / "state", "lane1"))
        yield one


def test_another_broker_is_told_instead_and_one_that_cannot_be_leaves_it_as_it_was(service, tmp_path):
    need_mosquitto()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with Broker(first) as one, Broker(second) as other:
        here = {"enabled": True, "host": "127.0.0.1", "port": one.port, "client_id": "me"}
        there = here | {"port": other.port}
        with component_lifespan(Run(service, wanted(here))) as run:
            wait_until(lambda: read_retained(one.port).get("lvm/available") == b"online", "the first broker")
            assert run.apply_settings(wanted(there)) == []
            wait_until(
                lambda: read_retained(other.port).get("lvm/available") == b"online", "the other broker"
            )
            wait_until(lambda: not read_retained(one.port), "the end of its topics")

            (problem,) = run.apply_settings(wanted(here | {"tls": {"ca": str(tmp_path / "none.pem")}}))
            assert problem.startswith("mqtt: ") and "none.pem" in problem
            assert run.settings.mqtt.port == other.port
            assert read_retained(other.port)["lvm/available"] == b"online"

            assert run.apply_settings(wanted({"enabled": False})) == []
            wait_until(lambda: not read_retained(other.port), "the end of its topics")


def test_what_is_read_at_the_start_only_is_said_and_the_rest_is_taken(service):
    run = Run(service, wanted({}))
    with component_lifespan(run):
        other = wanted({}, model={"threads": 1}, cameras={"a": {"source": "demo"}})
        assert run.apply_settings(other) == ["model is read at the start only; restart to change it"]
        assert list(run.settings.cameras) == ["a"] and run.settings.model.threads is None


def test_only_a_file_that_was_not_reloaded_is_said_not_to_be(service, tmp_path, caplog):
    config, lane1 = tmp_path / "kiosk.yaml", service.cameras["lane1"].settings
    (tmp_path / "taken").write_text("in the way")
    late = replace(lane1, name="late", state=tmp_path / "taken")
    config.write_text("version: 1\nhttp: {enabled: false}\nactivities: {enabled: false}\n")
    with component_lifespan(Run(service, wanted({}))) as run:
        reload = _Reloader(
            run, config, lambda _: [lane1, replace(lane1, name="b", state=tmp_path / "b"), late]
        )
        (problem,) = reload()
        assert problem.startswith("late: ") and list(service.cameras) == ["lane1", "b"]
        assert [one.getMessage() for one in caplog.records] == [problem]
        config.write_text("cameras: [")
        (problem,) = reload()
        assert caplog.records[-1].getMessage() == f"not reloaded: {problem}" and "not YAML" in problem
        assert list(service.cameras) == ["lane1", "b"]
