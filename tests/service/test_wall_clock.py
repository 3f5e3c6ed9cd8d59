"""A wall clock that is wrong at a start, or set right while it runs: only what has expired is dropped."""

import time

import pytest

from edge_runtime.memory.coverage import PAUSED, Coverage
from edge_runtime.persistence import load_snapshot
from edge_runtime.query.timestamps import parse_timestamp
from edge_runtime.service.wall_clock import CLOCK, find_known_start
from engines.errors import LvmError
from tests.support.cameras import ScriptedSource, ServiceThread

LIVE = "rtsp://user:secret@a/live"
DAY = 86_400


@pytest.fixture
def clock(monkeypatch):
    """Sets the wall clock: `clock(seconds)` ahead of the real one."""
    real = time.time
    return lambda ahead: monkeypatch.setattr(time, "time", lambda: real() + ahead)


@pytest.fixture
def watched(watch, settings, sources):
    """Watches the same live camera for five frames more: the camera, and where its source began."""

    def run(between=lambda camera: None):
        begun: list[float] = []

        def live(start):
            begun.append(start)
            return ScriptedSource(10**12, live=True, start=start, before=lambda k: time.sleep(0.002))

        sources[LIVE] = live
        service = watch()
        camera = service.add(settings("a", LIVE))
        at = camera.version.frames
        running = ServiceThread(service, stay=True)
        running.until(lambda: camera.version.frames >= at + 5, "5 frames")
        between(camera)
        running.stop()
        assert running.error is None
        service.__exit__(None, None, None)
        return camera, begun[0]

    return run


@pytest.mark.parametrize("ahead", [-400 * DAY, -3600, 400 * DAY], ids=["1970", "an hour", "a year ahead"])
def test_a_clock_that_is_wrong_at_the_start_lets_nothing_go_and_is_told(watched, clock, caplog, ahead):
    before, _ = watched()
    end = before.version.coverage.end
    clock(ahead)
    camera, begun = watched()
    assert end + 0.5 < begun <= end + 3
    gap = camera.version.coverage.gaps_with_reasons()[
        0
    ]  # from its end to the first picture there is another one
    assert gap[0] == end and gap[1] <= begun and gap[2] == CLOCK
    (said,) = camera.problems
    assert "a gap of unknown length and nothing is dropped" in said and said in caplog.text
    saved = load_snapshot(camera.folder.folder)
    assert saved.header.epoch + begun == pytest.approx(time.time(), abs=60)
    since = find_known_start(saved.version.coverage)
    assert end < since <= begun


def test_a_night_is_believed_and_what_is_let_go_is_said(watched, clock, caplog):
    watched()
    clock(DAY / 2)
    camera, begun = watched()
    assert begun == pytest.approx(DAY / 2, abs=60) and camera.problems == []
    assert "nobody watched for 12.0 h, longer than the 10 h that are remembered" in caplog.text
    assert find_known_start(camera.version.coverage) is None


def test_a_clock_that_is_set_while_it_runs_is_followed(watched, clock, caplog):
    clock(-400 * DAY)
    times: list[float] = []

    def set_right(camera) -> None:
        clock(0)
        frames = camera.version.frames
        end = time.monotonic() + 20
        while camera.header.epoch < time.time() - DAY or camera.version.frames < frames + 3:
            assert time.monotonic() < end
            time.sleep(0.005)
        times.append(time.time())

    camera, _ = watched(set_right)
    saved = load_snapshot(camera.folder.folder)
    assert saved.header.epoch == pytest.approx(times[0], abs=120) and saved.version.coverage.gaps == ()
    assert (
        find_known_start(saved.version.coverage) is None and "the clock was set by +34560000 s" in caplog.text
    )

    clock(-3600 * 5)  # what was before this start has clock times of its own
    camera, _ = watched(set_right)
    assert find_known_start(camera.version.coverage) is not None and camera.problems == []


def test_a_pause_before_a_wrong_clock_stays_explained(watched, clock, watch, settings):
    camera, _ = watched(lambda camera: camera.pause())
    end = camera.version.coverage.end
    clock(-DAY)
    again = watch().add(settings("a", LIVE))
    kept = again.version.coverage
    assert again.paused and kept.ongoing_note() is None and find_known_start(kept) > end
    assert [why for _, _, why in kept.notes] in ([PAUSED, CLOCK], [CLOCK])


def test_forgetting_by_the_clock_refuses_what_another_clock_showed():
    epoch, coverage = 1_000_000.0, Coverage(0.0, 200.0).add_note(90.0, 100.0, CLOCK)
    since = find_known_start(coverage)
    told = {"name": "--from", "epoch": epoch, "since": since}
    assert (
        parse_timestamp("1970-01-12T13:48:20+00:00", **told) == 100.0
        and parse_timestamp("50", **told) == 50.0
    )
    with pytest.raises(LvmError, match="what it showed before second 100.0 is not known"):
        parse_timestamp("1970-01-12T13:48:19+00:00", **told)
