"""A service with nobody there: what fails comes back or is told, what is too old goes."""

import os
import threading
import time

import numpy as np
import pytest

from edge_runtime.config.privacy import PrivacySettings, ThumbnailSettings
from edge_runtime.persistence import load_snapshot
from edge_runtime.query.schema import parse_request
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError
from tests.support.cameras import ScriptedSource, ServiceThread, equal_versions, stop_limit_s

LIVE = "rtsp://user:secret@{}/live"


def _failing_once(opened: list[float]):
    """A live camera that a bug ends at its fourth picture, but not when it is opened again."""

    def live(start):
        opened.append(start)
        first = int(np.ceil(start))

        def before(k):
            time.sleep(0.002)
            if len(opened) == 1 and k == first + 3:
                raise ZeroDivisionError("a bug")

        return ScriptedSource(10**6, live=True, start=start, before=before)

    return live


def test_where_a_run_stays_a_live_camera_that_failed_is_watched_again(
    watch, settings, sources, monkeypatch, caplog
):
    monkeypatch.setattr("edge_runtime.service.runtime.RETRY_WAIT_S", (0.01, 0.02))
    opened: list[float] = []
    sources[LIVE.format("a")] = _failing_once(opened)
    service = watch()
    camera = service.add(settings("lane", LIVE.format("a"), patient=True))
    running = ServiceThread(service, stay=True)
    running.until(lambda: camera.version.frames >= 8, "8 frames")
    assert len(opened) == 2 and service.camera_error("lane") is None and camera.condition == "running"
    running.stop()
    assert running.error is None and "ZeroDivisionError: a bug" in caplog.text
    assert equal_versions(load_snapshot(camera.folder.folder).version, camera.version)


def test_a_stop_does_not_wait_for_a_camera_that_waits(watch, settings, sources):
    sources[LIVE.format("a")] = _failing_once([])
    service = watch()
    camera = service.add(settings("lane", LIVE.format("a"), patient=True))
    running = ServiceThread(service, stay=True)
    running.until(lambda: camera.condition == "failed", "the failure")
    assert running.stop() < stop_limit_s() and str(running.error) == "a bug"


def test_where_a_run_stays_the_failure_of_its_only_camera_is_told_when_it_fails(
    watch, settings, sources, caplog
):
    def fails(k):
        raise LvmError("the cable is out")

    sources["a"] = lambda start: ScriptedSource(9, before=fails)
    service = watch()
    service.add(settings("a"))
    running = ServiceThread(service, stay=True)
    running.until(lambda: "camera a failed: the cable is out" in caplog.text, "the sentence")
    running.stop()
    assert str(running.error) == "the cable is out"


def test_a_thumbnail_that_is_too_old_goes_in_a_pause_too(watch, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_runtime.service.runtime.PRUNE_EVERY_S", 0.0)
    kept = ThumbnailSettings(enabled=True, days=1)
    service = watch()
    service.add(settings("a", privacy=PrivacySettings(paused=True, thumbnails=kept)))
    old, new = (tmp_path / "a" / "thumbnails" / f"{tick}.jpg" for tick in (5, 10))
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, time.time() - 2 * 86_400))
    running = ServiceThread(service)
    running.until(lambda: not old.exists(), "its end")
    running.stop()
    assert new.exists()


def test_a_jump_of_the_wall_clock_during_a_pause_tears_no_gap(watch, settings, sources, monkeypatch):
    """A gap of a day would be more than the memory holds: all of it would be dropped as too old."""
    begun: list[float] = []

    def live(start):
        begun.append(start)
        return ScriptedSource(10**6, live=True, start=start, before=lambda k: time.sleep(0.01))

    sources[LIVE.format("a")] = live
    service = watch()
    camera = service.add(settings("lane", LIVE.format("a")))
    running, real = ServiceThread(service), time.time
    running.until(lambda: camera.version.frames >= 5, "5 frames")
    service.pause()
    running.until(lambda: camera.condition == "paused", "the pause")
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    service.resume()
    running.until(lambda: len(begun) == 2, "the second pass")
    running.stop()
    assert begun[1] < 43_200


def test_of_many_who_remove_a_camera_one_does_and_the_others_are_told(watch, settings):
    service, told = watch(), []
    service.add(settings("a"))

    def remove() -> None:
        try:
            service.remove("a")
            told.append("removed")
        except QueryError as error:
            told.append(str(error))

    threads = [threading.Thread(target=remove) for _ in range(8)]
    with service._lock:
        for one in threads:
            one.start()
    for one in threads:
        one.join(20)
    assert sorted(told) == ["removed"] + 7 * ["there is no camera 'a'; there are none"]


def test_a_camera_that_is_removed_and_cannot_be_saved_is_told(watch, settings, sources, caplog):
    sources["a"] = lambda start: ScriptedSource(10**6, start=start, before=lambda k: time.sleep(0.002))
    service = watch()
    camera = service.add(settings("a"))
    running = ServiceThread(service, stay=True)
    running.until(lambda: camera.version.frames >= 8, "8 frames")

    def full(path):
        raise OSError(28, "No space left on device")

    camera.folder.disk.create = full
    service.remove("a")
    running.stop()
    said = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert len(said) == 1 and "cannot be saved: No space left on device" in said[0]


def test_a_camera_whose_folder_cannot_be_used_yet_is_taken_in_later(
    watch, settings, sources, monkeypatch, caplog
):
    monkeypatch.setattr("edge_runtime.service.runtime.RETRY_WAIT_S", (0.01, 0.02))
    for name in ("lane", "door"):
        sources[LIVE.format(name)] = lambda start: ScriptedSource(
            10**6, live=True, start=start, before=lambda k: time.sleep(0.002)
        )
    service = watch()
    late = settings("door", LIVE.format("door"), patient=True)
    late.state.write_text("in the way")  # as where a disk is not mounted yet
    assert service.pending.try_add(settings("lane", LIVE.format("lane"), patient=True)) is None
    assert "cannot be written" in str(service.pending.try_add(late))
    with pytest.raises(QueryError, match="^door is not watched yet: "):  # nothing lasts yet
        service.camera("door")
    running = ServiceThread(service, stay=True)
    running.until(lambda: service.cameras["lane"].version.frames >= 3, "frames of the other")
    assert list(service.pending.errors) == ["door"] and "door" not in service.cameras
    with pytest.raises(QueryError, match="^door is not watched yet and is tried again: "):
        service.camera("door")
    service.pending.paused = True
    late.state.unlink()
    running.until(lambda: "door" in service.cameras, "the camera")
    door = service.cameras["door"]
    assert door.paused and door.version.frames == 0
    service.resume("door")
    running.until(lambda: door.version.frames >= 3, "its frames")
    running.stop()
    assert running.error is None and not service.pending.errors and "door is watched now" in caplog.text


def test_a_camera_that_is_taken_out_of_the_configuration_is_awaited_no_longer(watch, settings):
    service, wanted = watch(), settings("door")
    wanted.state.write_text("in the way")
    assert len(service.apply([settings("lane"), wanted])) == 1 and "door" in service.pending.errors
    assert service.apply([settings("lane")]) == [] and not service.pending.errors


def test_an_answer_under_way_while_its_camera_is_forgotten_is_not_noted(watch, settings, monkeypatch):
    service = watch()
    camera = service.add(settings("a"))
    query = parse_request('{"type": "object", "activity": "scan"}')
    real = camera.asker.ask

    def forgotten_meanwhile(*asked):
        answer = real(*asked)
        camera.privacy.forget(0, 10)
        return answer

    service.ask(query)
    assert len(service.answer_history.newest()) == 1
    monkeypatch.setattr(camera.asker, "ask", forgotten_meanwhile)
    assert service.ask(query).abstained
    assert service.answer_history.newest() == []
    monkeypatch.setattr(camera.asker, "ask", real)
    service.ask(query)
    assert len(service.answer_history.newest()) == 1
