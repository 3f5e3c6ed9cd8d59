"""A privacy pause: nothing is decoded or kept, coverage says why, and it outlasts a restart."""

import json
import threading
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient

import edge_runtime.service.camera as service_module
from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.frame import Frame
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.persistence import StateFolder, load_snapshot, to_arrays
from edge_runtime.privacy.run_gate import RunGate
from edge_runtime.privacy.saved_settings import FILE, load_saved_settings
from edge_runtime.query.schema import parse_query
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.runtime import Service
from edge_runtime.sources.base import BaseSource
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError
from tests.support.cameras import make_camera_run

DEMO = "demo?size=64x48"
CAMERA = "rtsp://nobody.invalid/live"
BOX = parse_query('{"type": "activity", "object": {"box": [0, 0, 1, 1], "t": 1}}')


@pytest.fixture
def folder(tmp_path):
    with StateFolder(tmp_path / "state") as held:
        yield held


class Camera(BaseSource):
    """A live source that counts what it hands out, 50 pictures a second; times go on from `start`."""

    decoded = 0
    opened = 0

    def __init__(self, start: float) -> None:
        super().__init__("camera", live=True)
        self._start = start
        Camera.opened += 1

    def __iter__(self):
        for number in range(10_000):
            if self._closed.wait(0.02):
                return
            Camera.decoded += 1
            self.tally.seen += 1
            yield Frame(np.full((48, 64, 3), number % 251, np.uint8), self._start + number)


@pytest.fixture
def camera(engines, folder, monkeypatch):
    """A service over a live camera whose clock is 1000 s on after each pause."""
    Camera.decoded = Camera.opened = 0
    monkeypatch.setattr(service_module, "open_source", lambda *_, start, **__: Camera(start))
    return make_camera_run(engines, CAMERA, folder)


def _wait(condition, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def _in_thread(service):
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    return thread


def test_while_paused_no_picture_is_decoded_and_none_is_kept(camera, folder):
    thread = _in_thread(camera)
    _wait(lambda: camera.version.frames >= 3 and camera.pictures.ring.find(1e9) is not None)
    camera.privacy.pause(True)
    assert camera.pictures.ring.find(1e9) is None
    _wait(lambda: camera.source is None)
    decoded, frames = Camera.decoded, camera.version.frames
    time.sleep(0.3)
    assert Camera.decoded == decoded and camera.version.frames == frames
    camera.pictures.ring.push(Frame(np.zeros((4, 4, 3), np.uint8), 5.0))  # one that was on its way
    assert camera.pictures.ring.find(1e9) is None and load_saved_settings(folder.folder).paused
    with pytest.raises(QueryError, match="paused for privacy: no picture is read again"):
        camera.ask(BOX)
    camera.header = camera.header.model_copy(update={"epoch": camera.header.epoch - 1000})
    camera.privacy.pause(False)
    _wait(lambda: camera.version.frames >= frames + 2)
    camera.stop()
    thread.join(5)
    assert Camera.opened == 2 and not load_saved_settings(folder.folder).paused
    (gap,) = [gap for gap in camera.version.coverage.gaps_with_reasons() if gap[1] - gap[0] > 500]
    assert gap[2] == "paused"
    assert camera.snapshot().header.seen == Camera.decoded


def test_a_question_about_the_pause_is_told_why(camera):
    thread = _in_thread(camera)
    _wait(lambda: camera.version.frames >= 3)
    camera.privacy.pause(True)
    _wait(lambda: camera.version.coverage.ongoing_note() is not None)
    end = camera.version.coverage.end
    later = parse_query(json.dumps({"type": "object", "activity": "scan", "from": end + 50, "to": end + 90}))
    assert camera.ask(later).reason == "watching was paused for privacy at that time"
    camera.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_a_restart_stays_paused_until_somebody_ends_it(camera, engines, folder):
    camera.privacy.pause(True)
    camera.run(seconds=0.3)  # a live stream's clock goes on, so this ends
    assert Camera.opened == 0 and camera.version.frames == 0
    again = make_camera_run(engines, CAMERA, folder)
    assert again.privacy.paused and load_snapshot(folder.folder).version.coverage.ongoing_note() is not None
    thread = _in_thread(again)
    time.sleep(0.2)
    assert Camera.opened == 0
    again.privacy.pause(False)
    _wait(lambda: again.version.frames >= 2)
    again.stop()
    thread.join(5)
    assert again.version.coverage.ongoing_note() is None


def test_the_configuration_can_start_it_paused(engines, folder):
    service = make_camera_run(engines, DEMO, folder, privacy=PrivacySettings(paused=True))
    assert service.privacy.paused and load_saved_settings(folder.folder).paused
    thread = threading.Thread(target=service.run, args=(5,), daemon=True)
    thread.start()
    time.sleep(0.2)
    assert service.version.frames == 0
    service.privacy.pause(False)
    thread.join(20)
    assert service.version.frames == 5


def test_a_recording_stands_still_and_goes_on_bit_for_bit(engines, folder, tmp_path):
    service = make_camera_run(engines, DEMO, folder)

    def pause() -> None:
        if service.version.frames >= 20 and not service.privacy.paused and not paused:
            paused.append(True)
            service.privacy.pause(True)
            threading.Timer(0.2, service.privacy.pause, [False]).start()

    paused: list[bool] = []
    service.run(45, pause)
    with StateFolder(tmp_path / "whole") as other:
        whole = make_camera_run(engines, DEMO, other)
        whole.run(45)
    assert paused and service.version.frames == 45 and service.version.coverage.gaps == ()
    resumed, uncut = to_arrays(service.version), to_arrays(whole.version)
    assert all(resumed[name].tobytes() == uncut[name].tobytes() for name in uncut)


def test_a_note_that_cannot_be_read_is_no_leave_to_watch(engines, folder):
    (folder.folder / FILE).write_text("{")
    with pytest.raises(LvmError, match="whether the camera was paused is unknown"):
        make_camera_run(engines, DEMO, folder)


def test_by_http_with_the_right_content_type_only(engines, tmp_path):
    pad = PrivacySettings(zones={"pad": [(0, 0), (1, 0), (0, 1)]})
    whole = Service(engines)
    service = whole.add(CameraSettings(DEMO, tmp_path, privacy=pad))
    client = TestClient(make_app(whole), raise_server_exceptions=False)
    assert client.get("/api/v1/privacy").json() == {
        "paused": False, "zones": ["pad"], "thumbnails": False, "encrypted": False
    }  # fmt: skip
    reply = client.post("/api/v1/privacy", content='{"paused": true}', headers={"content-type": "text/plain"})
    assert reply.status_code == 422 and not service.privacy.paused
    for body in ("", "{}", '{"paused": "yes"}', '{"paused": true, "x": 1}', "[" * 9000):
        reply = client.post("/api/v1/privacy", content=body, headers={"content-type": "application/json"})
        expected = 413 if len(body) > 4096 else 422
        assert reply.status_code == expected and not service.privacy.paused, body
    assert client.post("/api/v1/privacy", json={"paused": True}).json()["paused"] is True
    assert service.privacy.paused and load_saved_settings(tmp_path).paused
    assert client.post("/api/v1/privacy", json={"paused": True, "camera": "x"}).status_code == 422
    service.folder.__exit__(None, None, None)


def test_edits_are_done_by_the_run_or_where_there_is_none_by_the_caller():
    interrupted = threading.Event()
    gate = RunGate(interrupted.set)
    assert gate.edit(lambda: threading.current_thread().name) == "MainThread"
    names: list[str] = []
    with gate.run():
        editor = threading.Thread(
            target=lambda: names.append(gate.edit(lambda: threading.current_thread().name)), name="editor"
        )
        editor.start()
        assert interrupted.wait(5) and names == []
        gate.do_pending_edits()
        editor.join(5)
    assert names == ["MainThread"]


def test_an_edit_that_fails_raises_in_the_thread_that_called_it():
    interrupted = threading.Event()
    gate = RunGate(interrupted.set)
    errors: list[str] = []

    def edit() -> None:
        try:
            gate.edit(lambda: int("x"))
        except ValueError as error:
            errors.append(str(error))

    with gate.run():
        editor = threading.Thread(target=edit)
        editor.start()
        assert interrupted.wait(5)
    editor.join(5)
    assert "invalid literal" in errors[0]


def test_an_edit_that_the_run_never_comes_to_is_a_sentence_and_is_not_done_later(monkeypatch):
    monkeypatch.setattr("edge_runtime.privacy.run_gate.EDIT_TIMEOUT_S", 0.01)
    gate, done = RunGate(lambda: None), []
    with gate.run():  # which hangs in its disk
        with pytest.raises(LvmError, match="busy for 0.01 s.*nothing was changed"):
            gate.edit(lambda: done.append(1))
        gate.do_pending_edits()
    assert done == []
