"""Several cameras in one process: what happens to one is never another's trouble."""

import io
import re
import time
from dataclasses import replace

import pytest
from rich.console import Console

from edge_runtime.interfaces.cli.panel import Panel
from edge_runtime.persistence import StateError, load_snapshot
from edge_runtime.service.camera_health import FAULT
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.status import make_camera_status
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError
from engines.fake import FakeEngine
from tests.support.cameras import (
    Hanging,
    ScriptedSource,
    ServiceThread,
    equal_versions,
    fake_engines,
    stop_limit_s,
)
from tests.support.stalls import timed

LIVE = "rtsp://user:secret@{}/live"


# -- side by side ------------------------------------------------------------------------------------------


def test_each_camera_remembers_what_it_would_have_remembered_alone(watch, settings, sources, tmp_path):
    counts = {"a": 70, "b": 45, "c": 33}
    for name, count in counts.items():
        sources[name] = lambda start, count=count: ScriptedSource(count, start=start)
    alone = {}
    for name in counts:
        service = watch()
        service.add(settings(name, name, sampler="svd-novelty"))
        service.run()
        alone[name] = service.camera(name).version
        service.remove(name)
    together = watch()
    for name in counts:
        together.add(CameraSettings(name, tmp_path / "together" / name, name, sampler="svd-novelty"))
    together.run()
    for name, count in counts.items():
        camera = together.camera(name)
        assert camera.version.frames == camera.header.seen == count and camera.condition == "ended"
        assert equal_versions(camera.version, alone[name])
        saved = load_snapshot(tmp_path / "together" / name)
        assert equal_versions(saved.version, alone[name]) and saved.header.ended


@timed
def test_a_run_ends_when_the_last_file_has_ended_and_stays_when_told(watch, settings, sources):
    sources["short"] = lambda start: ScriptedSource(9, start=start)
    sources["long"] = lambda start: ScriptedSource(30, start=start, before=lambda k: time.sleep(0.005))
    service = watch()
    service.add(settings("short"))
    service.add(settings("long"))
    service.run()
    assert [camera.version.frames for camera in service.cameras.values()] == [9, 30]
    running = ServiceThread(service, stay=True)
    time.sleep(0.3)
    assert running._thread.is_alive()
    assert running.stop() < stop_limit_s() and running.error is None


@pytest.mark.parametrize("error", [LvmError("the cable is out"), ZeroDivisionError("a bug")])
def test_a_camera_that_fails_ends_no_other_and_is_told_at_the_end(watch, settings, sources, error):
    def fails(k):
        if k == 10:
            raise error

    sources["bad"] = lambda start: ScriptedSource(60, start=start, before=fails)
    sources["good"] = lambda start: ScriptedSource(60, start=start, before=lambda k: time.sleep(0.002))
    service = watch()
    service.add(settings("bad"))
    service.add(settings("good"))
    with pytest.raises(type(error), match=str(error)):
        service.run()
    assert service.camera("good").version.frames == 60 and service.camera_error("good") is None
    bad = make_camera_status(service.camera("bad"), service.camera_error("bad"))
    assert (bad["condition"], bad["error"], bad["frames"]) == ("failed", str(error), 8)


@pytest.mark.parametrize("live", [True, False])
@timed
def test_a_camera_that_hangs_in_its_driver_delays_nobody_and_not_the_end(
    watch, settings, sources, tmp_path, live
):
    hanging = Hanging(live=live, after=33)
    spec = LIVE.format("hangs") if live else "hangs"
    sources[spec] = lambda start: hanging
    for name in ("one", "two", "three"):
        sources[name] = lambda start: ScriptedSource(40, start=start)
    service = watch()
    service.add(settings("hangs", spec))
    running = ServiceThread(service)
    assert hanging.reached.wait(10)
    for name in ("one", "two", "three"):
        service.add(settings(name))
    running.until(
        lambda: all(service.camera(name).condition == "ended" for name in ("one", "two", "three")),
        "the end of the others",
    )
    began = time.monotonic()
    running.stop()
    left = dict(service.cameras)
    service.__exit__(None, None, None)
    assert time.monotonic() - began < stop_limit_s()
    frames = left["hangs"].version.frames
    assert 1 <= frames <= 33 and load_snapshot(tmp_path / "hangs").version.frames == frames
    before = (tmp_path / "hangs" / "memory.state").read_bytes()
    hanging.released.set()
    time.sleep(0.1)
    assert (tmp_path / "hangs" / "memory.state").read_bytes() == before


@timed
def test_many_files_at_a_slow_engine_are_stopped_at_once(watch, settings, sources):
    """Each has batches on their way, 16 cameras' worth of which would take 5 s."""
    engines = fake_engines()

    def slow(feeds):
        time.sleep(0.1)
        return engines.backbone(feeds)

    backbone = FakeEngine(slow, engines.backbone.inputs, engines.backbone.outputs)
    service = watch(replace(engines, backbone=backbone))
    for number in range(16):
        name = f"file{number}"
        sources[name] = lambda start: ScriptedSource(10**6, start=start)
        service.add(settings(name))
    running = ServiceThread(service)
    running.until(lambda: all(camera.version.frames for camera in service.cameras.values()), "their frames")
    assert running.stop() < stop_limit_s()
    for camera in service.cameras.values():
        assert camera.condition == "stopped" and camera.drop_counter.by_reason[FAULT] == 0
        assert load_snapshot(camera.folder.folder).version.frames == camera.version.frames


# -- changes while it runs ---------------------------------------------------------------------------------


def test_a_paused_file_goes_on_as_if_it_had_not_been_paused(watch, settings, sources, tmp_path):
    sources["file"] = lambda start: ScriptedSource(60, start=start, before=lambda k: time.sleep(0.003))
    sources["other"] = lambda start: ScriptedSource(400, start=start, before=lambda k: time.sleep(0.003))
    service = watch()
    service.add(settings("file"))
    service.add(settings("other"))
    running = ServiceThread(service)
    camera, other = service.camera("file"), service.camera("other")
    running.until(lambda: camera.version.frames >= 8, "8 frames")
    service.pause("file")
    running.until(lambda: camera.condition == "paused", "the pause")
    frames, others = camera.version.frames, other.version.frames
    running.until(lambda: other.version.frames > others + 16, "the other camera's frames")
    assert camera.version.frames == frames < 60
    service.resume("file")
    running.until(lambda: camera.condition == "ended", "the end of the file")
    assert camera.header.seen == camera.version.frames == 60
    running.stop()
    whole = watch()
    whole.add(CameraSettings("file", tmp_path / "whole", "file"))
    whole.run()
    assert equal_versions(whole.camera("file").version, camera.version)


def test_a_paused_live_camera_gives_its_source_back_and_leaves_a_gap(watch, settings, sources):
    opened: list[ScriptedSource] = []
    at = [0]

    def live(start):
        opened.append(ScriptedSource(10**6, live=True, start=at[0], before=lambda k: time.sleep(0.01)))
        return opened[-1]

    sources[LIVE.format("a")] = live
    service = watch()
    service.add(settings("lane", LIVE.format("a")))
    running = ServiceThread(service)
    camera = service.camera()
    running.until(lambda: camera.version.frames >= 5, "5 frames")
    service.pause()
    running.until(lambda: camera.condition == "paused", "the pause")
    assert opened[0].closed and camera.paused
    at[0] = 5000
    service.resume("lane")
    running.until(lambda: camera.version.coverage.end > 5003, "what came after the pause")
    running.stop()
    gap = next(gap for gap in camera.version.coverage.gaps if gap[1] >= 5000)
    assert gap[0] < 1000 and len(opened) == 2


def test_cameras_come_and_go_and_the_others_keep_what_they_have(watch, settings, sources, tmp_path):
    for name in ("stays", "goes", "comes"):
        sources[name] = lambda start: ScriptedSource(10**6, start=start, before=lambda k: time.sleep(0.002))
    service = watch()
    service.add(settings("stays"))
    service.add(settings("goes"))
    running = ServiceThread(service)
    running.until(lambda: service.camera("goes").version.frames >= 8, "8 frames")
    gone = service.camera("goes")
    service.remove("goes")
    assert list(service.cameras) == ["stays"] and gone.condition == "stopped"
    assert equal_versions(load_snapshot(tmp_path / "goes").version, gone.version)
    service.add(settings("comes"))
    service.add(settings("goes"))
    assert equal_versions(service.camera("goes").resumed.version, gone.version)
    running.until(
        lambda: (
            service.camera("goes").version.frames > gone.version.frames
            and service.camera("comes").version.frames >= 8
        ),
        "frames of both",
    )
    running.stop()
    assert service.camera("stays").version.coverage.gaps == ()


def test_a_live_camera_that_moves_to_another_address_keeps_its_memory(watch, settings, sources, tmp_path):
    for host, first in (("old", 0), ("new", 1000)):
        sources[LIVE.format(host)] = lambda start, first=first: ScriptedSource(
            10**6, live=True, start=first, before=lambda k: time.sleep(0.005)
        )
    service = watch()
    service.add(settings("lane", LIVE.format("old")))
    running = ServiceThread(service)
    camera = service.camera()
    running.until(lambda: camera.version.frames >= 8, "8 frames")
    service.change(replace(camera.settings, source=LIVE.format("new")))
    running.until(lambda: camera.version.coverage.end > 1003, "frames of the new address")
    running.stop()
    assert camera.version.coverage.start < 900 and len(camera.version.coverage.gaps) >= 1
    saved = load_snapshot(tmp_path / "lane").header
    assert saved.source == "rtsp://***@new/live"


def test_what_would_need_another_memory_is_refused_in_a_sentence(watch, settings, sources):
    service = watch()
    service.add(settings("lane", LIVE.format("a")))
    for other, words in (
        ({"source": "demo"}, "only a live source can take a live one's place"),
        ({"sampler": "fifo"}, "sampler is fixed while it runs"),
        ({"sample_fps": 0.5}, "sample_fps is fixed while it runs"),
    ):
        with pytest.raises(LvmError, match=words):
            service.change(replace(settings("lane", LIVE.format("a")), **other))
    service.change(settings("lane", LIVE.format("a"), save_interval_s=77))
    assert service.camera().settings.save_interval_s == 77


def test_applying_a_configuration_changes_only_what_differs(watch, settings, sources):
    for name in "abc":
        sources[name] = lambda start: ScriptedSource(10**6, start=start, before=lambda k: time.sleep(0.005))
    service = watch()
    a, b = service.add(settings("a")), service.add(settings("b"))
    b.save()
    problems = service.apply([settings("a"), settings("c"), settings("x", "x", sampler="best")])
    assert list(service.cameras) == ["a", "c"] and service.camera("a") is a
    assert len(problems) == 1 and problems[0].startswith("x: sampler must be one of")
    assert service.apply([settings("a", sampler="fifo"), settings("c")]) == [
        "a: camera a: sampler is fixed while it runs; remove the camera and add it again"
    ]
    assert load_snapshot(b.folder.folder) is not None, "what was removed keeps its memory"


@pytest.mark.parametrize("watched", [["a"], ["a", "b"]])
def test_the_panel_says_why_a_camera_is_not_watched_yet(watch, settings, watched):
    service, late = watch(), settings("late")
    late.state.write_text("in the way")
    service.apply([*(settings(name) for name in watched), late])
    console = Console(file=io.StringIO(), width=300)
    console.print(Panel(service))
    assert re.search("late is not watched yet: .*cannot be written", console.file.getvalue())


def test_applying_the_configuration_again_tries_a_failed_camera_again(watch, settings, sources):
    sources["a"] = lambda start: ScriptedSource(10**6, start=start, before=lambda k: time.sleep(0.005))
    sources["b"] = lambda start: ScriptedSource(5, before=lambda k: [][0])
    service = watch()
    service.add(settings("a"))
    service.add(settings("b"))
    running = ServiceThread(service)
    running.until(lambda: service.camera_error("b"), "the failure")
    running.until(lambda: service.camera("a").condition == "running", "the other camera's first frame")
    console = Console(file=io.StringIO(), width=120)
    console.print(Panel(service))
    shown = console.file.getvalue()
    assert "2 cameras" in shown and "b: list index out of range" in shown and "running" in shown
    a = service.camera("a")
    sources["b"] = lambda start: ScriptedSource(5, start=start)
    assert service.apply([settings("a"), settings("b")]) == []
    running.until(lambda: service.camera("b").condition == "ended", "the second try")
    running.stop()
    assert service.camera("b").version.frames == 5 and service.camera("a") is a and running.error is None


def test_a_slower_rate_is_kept_to_and_a_faster_one_refused(watch, settings, tmp_path):
    service = watch()
    service.add(settings("slow", "demo?size=64x48", sample_fps=0.5))
    with pytest.raises(
        LvmError, match="sample_fps must be at least 0.0001 and at most the bundle's 1, got 2"
    ):
        service.add(settings("fast", "demo?size=64x48", sample_fps=2))
    service.run(20)
    version = service.camera().version
    assert version.frames == 10 and version.coverage.gaps == () and version.coverage.watched_seconds() == 20
    assert not (tmp_path / "fast" / "memory.state").exists()


def test_a_name_is_taken_once_and_a_folder_is_one_cameras(watch, settings, sources):
    service = watch()
    service.add(settings("a"))
    with pytest.raises(LvmError, match="there is a camera a already"):
        service.add(settings("a"))
    with pytest.raises(StateError, match="in use"):
        service.add(replace(settings("b"), state=settings("a").state))
    assert list(service.cameras) == ["a"]
    with pytest.raises(QueryError, match="there is no camera 'b'; there are a"):
        service.camera("b")
    service.add(settings("b"))
    with pytest.raises(QueryError, match="name the camera; there are a, b"):
        service.camera()
