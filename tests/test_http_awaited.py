"""What the HTTP door tells of cameras that are wanted and could not be taken in yet."""

import pytest
from fastapi.testclient import TestClient

from edge_runtime.camera_settings import CameraSettings
from edge_runtime.http.app import make_app
from engines.errors import LvmError
from tools.fuzzing.small import small_service


@pytest.fixture
def service(tmp_path):
    with small_service(tmp_path) as service:
        yield service


@pytest.fixture
def client(service):
    return TestClient(make_app(service), raise_server_exceptions=False)


def test_a_camera_that_could_not_be_taken_in_is_told_with_its_reason(client, service, tmp_path):
    (tmp_path / "late").write_text("in the way")
    late = CameraSettings("demo?size=64x48", tmp_path / "late", name="late", sampler="fifo")
    assert client.get("/api/v1/cameras").json()["awaited"] == []
    error = service.awaited.take_in(late)
    told = [{"camera": "late", "error": str(error)}]
    assert client.get("/api/v1/cameras").json()["awaited"] == told
    status = client.get("/api/v1/status").json()
    assert status["awaited"] == told and list(status["cameras"]) == ["demo"]
    reply = client.get("/api/v1/cameras/late")
    assert reply.status_code == 404 and "late is not watched yet" in reply.json()["error"]
    assert 'lvm_camera_condition{camera="late",condition="awaited"} 1.0' in client.get("/metrics").text
    (tmp_path / "late").unlink()
    assert service.awaited.take_in(late) is None
    status = client.get("/api/v1/status").json()
    assert status["awaited"] == [] and list(status["cameras"]) == ["demo", "late"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_camera_that_is_taken_in_while_one_asks_is_told_once(client, service, tmp_path, monkeypatch, when):
    late = CameraSettings("demo?size=64x48", tmp_path / "late", name="late", sampler="fifo")
    real = type(service.awaited).errors.fget

    def errors(awaited):
        told = {"late": LvmError("its disk is late")} if when == "after" else real(awaited)
        if "late" not in service.cameras:
            service.add(late)
        return told

    monkeypatch.setattr(type(service.awaited), "errors", property(errors))
    for _ in range(2):
        status = client.get("/api/v1/status").json()
        assert list(status["cameras"]) == ["demo", "late"] and status["awaited"] == []
        told = client.get("/api/v1/cameras").json()
        assert [one["camera"] for one in told["cameras"]] == ["demo", "late"] and told["awaited"] == []
        service.remove("late")


def test_a_camera_that_is_taken_out_while_one_asks_is_no_error(client, service, tmp_path, monkeypatch):
    service.add(CameraSettings("demo?size=64x48", tmp_path / "late", name="late", sampler="fifo"))
    real = service.error_of

    def error_of(name):
        if "late" in service.cameras:
            service.remove("late")
        return real(name)

    monkeypatch.setattr(service, "error_of", error_of)
    assert client.get("/api/v1/cameras").status_code == 200 and "late" not in service.cameras
    assert [one["camera"] for one in client.get("/api/v1/cameras").json()["cameras"]] == ["demo"]
