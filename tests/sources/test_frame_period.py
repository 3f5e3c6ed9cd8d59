"""A sampled frame stands for one sampling period, or for as long as a slow source shows its picture."""

import random
import threading

import pytest

from edge_runtime.frame import Frame
from edge_runtime.ingest.frame_loop import FrameLoop
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.coverage import Coverage
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.clocks import MAX_FRAME_PERIOD_S, SampleClock
from edge_runtime.sources.folder import ImageFolder
from edge_runtime.sources.live_source import LiveSource
from edge_runtime.sources.video import VideoFile
from tests.support.fakes import fake_backbone, small_network
from tests.support.media import make_picture, write_video

NETWORK = small_network()


def _period(times, fps=1.0):
    clock = SampleClock(fps)
    for t in times:
        clock.accept(t)
    return clock.frame_period


@pytest.mark.parametrize("distance", [1.6, 2.0, 12.0, 250.0])
def test_a_picture_of_a_slow_source_stands_until_the_next_one(distance):
    assert _period([distance * k for k in range(20)]) == pytest.approx(distance)


@pytest.mark.parametrize("distance", [0.02, 0.04, 1 / 3, 0.5, 1.0])
def test_a_picture_of_a_faster_source_stands_for_a_sampling_period(distance):
    assert _period([distance * k for k in range(20)]) == 1


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_pictures_tell_nothing(count):
    assert _period([2.0 * k for k in range(count)]) is None
    assert _period([2.0 * k for k in range(4)]) == 2


def test_an_outage_and_jitter_do_not_change_the_pace_and_another_pace_does():
    rng = random.Random(1)
    jittered = [2.0 * k + rng.uniform(-0.1, 0.1) for k in range(20)]
    assert _period(jittered) == pytest.approx(2, abs=0.2)
    assert _period([*jittered, 90.0, 92.0, 94.0]) == pytest.approx(2, abs=0.2)
    assert _period([*jittered, *(40 + 0.04 * k for k in range(20))]) == 1
    assert _period([1e9 * k for k in range(9)]) == MAX_FRAME_PERIOD_S


def test_pictures_without_a_pace_stand_for_a_sampling_period():
    rng = random.Random(2)
    t, irregular = 0.0, 0
    clock = SampleClock(1.0)
    for _ in range(2000):
        t += rng.expovariate(1 / 6) + 0.5
        clock.accept(t)
        irregular += clock.frame_period == 1
    assert irregular > 1700


# -- what was watched --------------------------------------------------------------------------------------


def _watch(source, version=None, limit=None):
    ingest = Ingest(
        NETWORK, fake_backbone(NETWORK), make_sampler("fifo", None), version or empty_version(NETWORK)
    )
    with source:
        for _ in FrameLoop(source, ingest, lambda frame: frame, threading.Event(), limit):
            pass
    ingest.close()
    return ingest.version


def _holes(seconds, every, hole, distance):
    return [
        k
        for k in range(0, 1000 * seconds, round(1000 * distance))
        if k % (1000 * every) < 1000 * (every - hole)
    ]


@pytest.mark.parametrize(
    ("times_ms", "share"),
    [
        ([2000 * k for k in range(90)], 1.0),
        ([1600 * k for k in range(90)], 1.0),
        ([12_000 * k for k in range(20)], 1.0),
        ([950 * k for k in range(200)], 1.0),
        ([700 * k for k in range(200)], 1.0),
        ([200 * k for k in range(400)] + [80_000 + 2000 * k for k in range(60)], 1.0),
        (_holes(300, 30, 2, 1.0), 28 / 30),
        (_holes(300, 10, 3, 0.2), 7 / 10),
        (_holes(640, 60, 20, 2.0), 440 / 640),
    ],
    ids=[
        "0.5 fps",
        "1.6 s",
        "12 s",
        "just faster",
        "faster",
        "slower at night",
        "flaky",
        "fast flaky",
        "slow flaky",
    ],
)
def test_a_low_rate_is_no_gap_and_a_hole_is_one(tmp_path, times_ms, share):
    path = write_video(tmp_path / "film.mkv", times_ms)
    coverage = _watch(VideoFile(path, sample_fps=1.0)).coverage
    assert coverage.watched_share() == pytest.approx((share, share), abs=0.02)
    assert (coverage.gap_count > 0) == (share < 1)


@pytest.mark.parametrize("distance_ms", [1600, 2000, 3333])
@pytest.mark.parametrize("stopped_at", [2.5, 20.0, 47.0])
def test_a_slow_file_that_is_resumed_is_watched_as_without_a_stop(tmp_path, distance_ms, stopped_at):
    path = write_video(tmp_path / "film.mp4", [distance_ms * k for k in range(40)])
    whole = _watch(VideoFile(path, sample_fps=1.0))
    first = _watch(VideoFile(path, sample_fps=1.0), limit=stopped_at)
    start = int(first.coverage.frames[-1] + 1e-6) + 1.0
    resumed = _watch(VideoFile(path, sample_fps=1.0, start=start), first)
    assert resumed.coverage == whole.coverage and resumed.coverage.gaps == ()


def test_pictures_of_a_slow_folder_leave_no_gaps(tmp_path):
    import cv2

    for k in range(12):
        cv2.imwrite(str(tmp_path / f"{k:03}.png"), make_picture(k))
    coverage = _watch(ImageFolder(tmp_path, sample_fps=1.0, rate=0.25)).coverage
    assert coverage.gaps == () and coverage.period == 4


class _Openings(BaseSource):
    """A camera of 20 pictures a second, sampled at 50, whose connection breaks after each third one."""

    def __init__(self, start):
        super().__init__("camera", live=True)
        self._start, self._clock = start, SampleClock(50.0)

    def __iter__(self):
        for k in range(6):
            if self._closed.wait(0.05):
                return
            t = self._start + 0.05 * k
            self._clock.accept(t)
            yield Frame(make_picture(k), t, self._clock.frame_period)


def test_a_live_source_remembers_its_pace_when_it_is_opened_again():
    source = LiveSource(_Openings, "camera", sample_fps=50.0)
    periods = []
    with source:
        for frame in source:
            periods.append(frame.period)
            if source.status.reconnects > 1 and len(periods) > 12:
                break
    known = periods.index(next(period for period in periods if period))
    assert None not in periods[known:] and periods[-1] == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("jitter", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("distance", [2.0, 5.0, 12.0])
def test_a_slow_source_whose_pictures_come_unevenly_is_watched(distance, jitter):
    rng = random.Random(4)
    times = [distance * (k + rng.uniform(-jitter, jitter)) for k in range(1500)]
    assert _watched_share(times) > 0.95


@pytest.mark.parametrize("lost", [0.3, 0.5])
def test_pictures_that_are_lost_at_random_are_not_watched(lost):
    rng = random.Random(5)
    assert _watched_share([k for k in range(4000) if rng.random() > lost]) < 1 - lost + 0.03


def _watched_share(times):
    clock, coverage = SampleClock(1.0), Coverage()
    for t in times:
        if clock.accept(t):
            coverage = coverage.observe(t, clock.frame_period or 1.0, 36_000.0)
    return coverage.watched_share()[1]
