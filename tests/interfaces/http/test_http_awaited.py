"""What the HTTP door tells of cameras that are wanted and could not be taken in yet."""

import threading
import time

import pytest
from fastapi.testclient import TestClient

from edge_runtime.interfaces.http.app import make_app
from edge_runtime.service.camera_settings import CameraSettings
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
    error = service.pending.try_add(late)
    (told,) = client.get("/api/v1/cameras").json()["awaited"]
    assert (told["camera"], told["title"], told["error"], told["tries"]) == ("late", "late", str(error), 1)
    assert abs(told["since_at"] - time.time()) < 60
    status = client.get("/api/v1/status").json()
    assert status["awaited"] == [told] and list(status["cameras"]) == ["demo"]
    reply = client.get("/api/v1/cameras/late")
    assert reply.status_code == 404 and "late is not watched yet" in reply.json()["error"]
    assert 'lvm_camera_condition{camera="late",condition="awaited"} 1.0' in client.get("/metrics").text
    (tmp_path / "late").unlink()
    assert service.pending.try_add(late) is None
    status = client.get("/api/v1/status").json()
    assert status["awaited"] == [] and list(status["cameras"]) == ["demo", "late"]


def test_a_camera_that_is_taken_in_meanwhile_is_not_in_neither(service, tmp_path, monkeypatch):
    (tmp_path / "late").write_text("in the way")
    late = CameraSettings("demo?size=64x48", tmp_path / "late", name="late", sampler="fifo")
    assert service.pending.try_add(late) is not None
    (tmp_path / "late").unlink()
    real, taking = type(service.pending).errors.fget, []

    def errors(awaited):
        if not taking:  # between the look at one and at the other
            taking.append(threading.Thread(target=awaited.try_add, args=(late,)))
            taking[0].start()
            taking[0].join(1.0)
        return real(awaited)

    monkeypatch.setattr(type(service.pending), "errors", property(errors))
    cameras, others = service.cameras_and_errors
    assert (list(cameras), list(others)) == (["demo"], ["late"])
    taking[0].join()
    cameras, others = service.cameras_and_errors
    assert (list(cameras), list(others)) == (["demo", "late"], [])


def test_a_camera_that_is_taken_out_while_one_asks_is_no_error(client, service, tmp_path, monkeypatch):
    service.add(CameraSettings("demo?size=64x48", tmp_path / "late", name="late", sampler="fifo"))
    real = service.camera_error

    def camera_error(name):
        if "late" in service.cameras:
            service.remove("late")
        return real(name)

    monkeypatch.setattr(service, "camera_error", camera_error)
    assert client.get("/api/v1/cameras").status_code == 200 and "late" not in service.cameras
    assert [one["camera"] for one in client.get("/api/v1/cameras").json()["cameras"]] == ["demo"]
