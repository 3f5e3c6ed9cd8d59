"""Engines and disks that fail under several cameras: what is lost is counted and told, and it goes on."""

import errno
import time
from dataclasses import replace

import pytest

from edge_runtime.persistence import load_snapshot
from edge_runtime.service.camera_health import FAULT
from edge_runtime.service.status import make_camera_status
from engines.errors import EngineFault
from engines.fake import FakeEngine
from tests.support.cameras import ScriptedSource, ServiceThread, equal_versions, fake_engines

LIVE = "rtsp://user:secret@{}/live"


# -- engines that fail -------------------------------------------------------------------------------------


class Faulty:
    """Engines whose backbone fails in the calls that `fails` names, counted from 0."""

    def __init__(self, fails) -> None:
        self.calls, self._fails, self._real = 0, fails, fake_engines()

    @property
    def engines(self):
        spec = self._real.backbone
        return replace(self._real, backbone=FakeEngine(self._run, spec.inputs, spec.outputs))

    def _run(self, feeds):
        self.calls += 1
        if self._fails(self.calls - 1):
            raise EngineFault("out of memory")
        return self._real.backbone(feeds)


def test_a_fault_costs_nothing_when_the_second_try_works(watch, settings, sources):
    sources["a"] = lambda start: ScriptedSource(40, start=start)
    service = watch(Faulty(lambda call: call % 4 == 1).engines)
    service.add(settings("a", sampler="svd-novelty"))
    service.run()
    camera = service.camera()
    assert (
        camera.version.frames == 40
        and camera.drop_counter.by_reason[FAULT] == 0
        and camera.client.faults >= 1
    )
    assert camera.version.coverage.gaps == () and service.pool.reloads == 0


@pytest.mark.parametrize("first", [0, 3, 4])
def test_a_batch_that_fails_twice_is_a_gap_and_counted(watch, settings, sources, first):
    sources["a"] = lambda start: ScriptedSource(100, start=start)
    service = watch(Faulty(lambda call: call in (first, first + 1)).engines)
    service.add(settings("a", sampler="svd-novelty"))
    service.run()
    camera = service.camera()
    lost = camera.drop_counter.by_reason[FAULT]
    assert 1 <= lost <= 8 and camera.version.frames == 100 - lost
    assert camera.version.coverage.watched_seconds() == 100 - lost and camera.problems == []
    assert camera.header.dropped == lost and len(camera.version.pending) < 30
    assert make_camera_status(camera)["lost"]["engine fault"] == lost


def test_engines_that_fail_for_good_are_loaded_again_and_every_camera_goes_on(watch, settings, sources):
    for name in ("a", "b"):
        sources[name] = lambda start: ScriptedSource(100, start=start)
    broken = Faulty(lambda call: call >= 6)
    service = watch(broken.engines, load=fake_engines)
    service.add(settings("a", sampler="svd-novelty"))
    service.add(settings("b", sampler="svd-novelty"))
    service.run()
    assert service.pool.reloads == 1 and broken.calls <= 10
    for camera in service.cameras.values():
        assert (
            camera.version.frames + camera.drop_counter.by_reason[FAULT] == 100
            and camera.condition == "ended"
        )
    # Two faults lose a batch; the third is a first try, whose second finds the new engines.
    assert sum(camera.drop_counter.by_reason[FAULT] for camera in service.cameras.values()) in (6, 8)


def test_a_sampler_that_fails_loses_its_batch_and_not_the_clip(watch, settings, sources):
    sources["a"] = lambda start: ScriptedSource(130, start=start)
    engines, calls = fake_engines(), []

    def score(feeds):
        calls.append(1)
        if len(calls) <= 2:
            raise EngineFault("out of memory")
        return engines.sampler(feeds)

    service = watch(
        replace(engines, sampler=FakeEngine(score, engines.sampler.inputs, engines.sampler.outputs))
    )
    service.add(settings("a"))
    service.run()
    camera = service.camera()
    lost = camera.drop_counter.by_reason[FAULT]
    assert 1 <= lost <= 8 and camera.version.frames == 130 - lost and camera.version.memory.version >= 3


# -- disks that fail ---------------------------------------------------------------------------------------


def test_a_full_disk_ends_no_watching_and_is_said_while_it_lasts(watch, settings, sources):
    said: list[list[str]] = []
    full = [True]
    sources["a"] = lambda start: ScriptedSource(40, start=start, before=seen)
    service = watch()
    camera = service.add(settings("a", save_interval_s=0))
    create = camera.folder.disk.create

    def seen(k):
        full[0] = k < 30
        said.append(camera.problems)

    def created(path):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return create(path)

    camera.folder.disk.create = created
    service.run()
    assert said[29] == [f"state {camera.folder.folder} cannot be saved: No space left on device"]
    assert camera.problems == [] and load_snapshot(camera.folder.folder).version.frames == 40


def test_a_frame_whose_camera_failed_while_no_snapshot_fits_is_in_the_journal(
    watch, settings, sources, monkeypatch
):
    monkeypatch.setattr("edge_runtime.service.runtime.RETRY_WAIT_S", (0.01, 0.02))
    spec, faults = LIVE.format("a"), []
    sources[spec] = lambda start: ScriptedSource(
        10**6, live=True, start=start, before=lambda k: time.sleep(0.002)
    )
    service = watch()
    camera = service.add(settings("a", spec, patient=True))

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fails_once(version):
        if version.frames == 5 and not faults:
            faults.append(version)
            camera.folder.disk.create = full
            raise RuntimeError("a bug, after the frame was taken and before it was kept")

    camera.privacy.thumbnails.update = fails_once
    running = ServiceThread(service, stay=True)
    running.until(lambda: camera.version.frames >= 9, "9 frames")
    running.stop()
    assert faults and "cannot be saved" in str(running.error)
    assert equal_versions(load_snapshot(camera.folder.folder).version, camera.version)


def test_whoever_subscribes_is_told_each_change_of_a_cameras_condition(watch, settings, sources):
    sources["lane1"] = lambda start: ScriptedSource(9, start=start)
    service = watch()
    service.add(settings("lane1"))
    with service.events.subscribe() as told:
        service.run()
        changes = []
        while (event := told.get(0)) is not None:
            assert (event.kind, event.type, event.camera) == ("camera", "update", "lane1")
            changes.append((event.before["condition"], event.after["condition"]))
    assert changes == [("waiting", "starting"), ("starting", "running"), ("running", "ended")]
