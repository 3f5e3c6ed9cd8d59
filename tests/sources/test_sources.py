from __future__ import annotations

import gc
import logging
import math
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.frame import Frame
from edge_runtime.sources import open_source
from edge_runtime.sources.base import Tally
from edge_runtime.sources.camera import V4l2Camera, connect_v4l2
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.sources.folder import ImageFolder
from edge_runtime.sources.live_source import Supervision
from edge_runtime.sources.network import NetworkStream
from edge_runtime.sources.video import VideoFile
from edge_runtime.system.secrets import redact
from engines.errors import LvmError, Unavailable
from tests.support.media import make_picture, write_video

OPEN_TOGETHER = """
import sys, threading
sys.setswitchinterval(1e-6)
from edge_runtime.sources import open_source, read_frame_at
film = sys.argv[1]
opened = [lambda spec=spec: open_source(spec, sample_fps=1.0).close()
          for spec in ("rtsp://127.0.0.1:9/a", film, "http://127.0.0.1:9/b", "follow:" + film)]
opened.append(lambda: read_frame_at(film, 0.0))
ready = threading.Barrier(len(opened))
def run(one):
    ready.wait()
    one()
threads = [threading.Thread(target=run, args=(one,)) for one in opened]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("attempt", range(4))
def test_the_first_sources_of_a_process_may_be_opened_side_by_side(attempt, tmp_path):
    """PyAV is imported then; threads that met in its modules saw half of it, in every second process."""
    film = tmp_path / "film.mp4"
    write_video(film, range(0, 2000, 100))
    done = subprocess.run(
        [sys.executable, "-c", OPEN_TOGETHER, str(film)],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@given(st.lists(st.floats(0, 1e5), min_size=1), st.floats(0.1, 60))
def test_no_period_gets_two_frames_and_none_with_a_picture_goes_without(times, fps):
    clock = SampleClock(fps)
    times = sorted(times)
    periods = [clock.period_index(t) for t in times if clock.accept(t)]
    assert periods == sorted(set(map(clock.period_index, times)))


@pytest.mark.parametrize("fps", [0.5, 1, 3, 5, 7, 29.97, 30])
def test_a_picture_exactly_at_a_multiple_counts_for_it(fps):
    clock = SampleClock(fps)
    assert all(clock.accept(k / fps) for k in range(100_000))
    clock = SampleClock(fps)
    assert all(clock.accept(math.nextafter(k / fps, -1)) for k in range(1, 1000))


def test_the_start_of_a_period_is_never_later_than_its_times():
    clock = SampleClock(3.0)
    assert clock.period_start(1.1) == 1.0
    assert clock.period_start(math.nextafter(1.0, 0)) < 1.0


@pytest.mark.parametrize("fps", [0, -1, math.inf, math.nan])
def test_a_rate_must_be_positive(fps, tmp_path):
    with pytest.raises(ValueError, match="sampling rate must be"):
        SampleClock(fps)
    with pytest.raises(ValueError, match="sampling rate must be"):
        open_source("rtsp://host/live", sample_fps=fps)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://cam.local:554/live", "rtsp://cam.local:554/live"),
        ("rtsp://user:pass@cam/live", "rtsp://***@cam/live"),
        ("rtsp://user:p@ss/wo?rd@cam/live", "rtsp://***@cam/live"),
        ("http://cam/mjpeg?user=admin&pwd=x", "http://cam/mjpeg?***"),
        ("rtsp://cam/user=admin&password=tl&channel=1", "rtsp://cam/user=admin&password=***&channel=1"),
        ("rtspsrc location=rtsp://u:p@cam/a latency=0 ! decodebin", None),
        ("/videos/a@b.mp4", "/videos/a@b.mp4"),
    ],
)
def test_names_show_no_credentials(text, expected):
    assert redact(text) == (expected or "rtspsrc location=rtsp://***@cam/a latency=0 ! decodebin")


def test_skipped_packets_do_not_flood_the_log(caplog):
    tally = Tally("camera")
    for _ in range(1234):
        tally.skip("a damaged picture")
    assert tally.errors == 1234
    assert [record.args[2] for record in caplog.records] == [1, 10, 100, 1000]


def test_specs_open_what_they_name(tmp_path, monkeypatch):
    video = write_video(tmp_path / "demo clip.mp4", range(0, 400, 40))
    image = tmp_path / "a.jpg"
    cv2.imwrite(str(image), make_picture(7))
    for spec, kind in [
        (str(video), VideoFile),
        (f"file://{str(video).replace(' ', '%20')}", VideoFile),
        (str(image), ImageFolder),
        (str(tmp_path), ImageFolder),
        ("rtsp://user:secret@host/live", NetworkStream),
        ("https://host/live", NetworkStream),
        ("udp://127.0.0.1:5000", NetworkStream),
    ]:
        with open_source(spec, sample_fps=2.0, reconnect=False) as source:
            assert type(source) is kind, spec
            assert source.live is (kind is NetworkStream) and "secret" not in source.name
    monkeypatch.chdir(tmp_path)
    video.rename("demo.mp4")
    with open_source("demo.mp4", sample_fps=2.0) as source:
        assert isinstance(source, VideoFile)


def test_demo_is_asked_of_its_own_module(monkeypatch):
    asked = []
    module = types.ModuleType("edge_runtime.sources.demo")
    module.open_demo = lambda spec, *, sample_fps, start: asked.append((spec, sample_fps, start))
    monkeypatch.setitem(sys.modules, "edge_runtime.sources.demo", module)
    for spec in ("demo", "demo:seed=3", "demo?seed=3", "demo://kiosk"):
        open_source(spec, sample_fps=5.0, start=2.0)
    assert [spec for spec, *_ in asked] == ["demo", "demo:seed=3", "demo?seed=3", "demo://kiosk"]
    assert asked[0][1:] == (5.0, 2.0)


@pytest.mark.parametrize(
    "spec", ["", "nothing.mp4", "ftp://host/a.mp4", "csi://x", "a\0b", "~nobody/x", "x" * 5000]
)
def test_anything_else_is_one_sentence(spec):
    with pytest.raises(LvmError, match="there is no source .*expected a camera number") as caught:
        open_source(spec, sample_fps=1.0)
    assert "\n" not in str(caught.value)


def test_an_absent_camera_is_missing_and_named():
    for spec in ("97", "/dev/video97"):
        with pytest.raises(Unavailable, match="no camera /dev/video97; this machine has"):
            open_source(spec, sample_fps=1.0, reconnect=False)


def test_a_device_that_is_no_camera_is_missing_and_opencv_says_nothing(capfd):
    with pytest.raises(Unavailable, match="/dev/null does not open as a camera"):
        connect_v4l2("/dev/null")
    assert capfd.readouterr().err == ""


def test_a_thousand_failed_openings_leak_nothing(tmp_path):
    broken = tmp_path / "a.mp4"
    broken.write_bytes(bytes(5000))
    descriptors = []
    for number in range(1000):
        for spec in (str(broken), "rtsp://127.0.0.1:1/live"):
            with pytest.raises(LvmError):
                list(open_source(spec, sample_fps=1.0, reconnect=False))
        if number in (10, 999):
            gc.collect()
            descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
    # What other tests of this process left behind may close meanwhile (seen: 34 descriptors, then 28), or a
    # thread of theirs open something; a leak would be one of each of 989 openings.
    assert descriptors[1] - descriptors[0] <= 20


class FakeCapture:
    """Pictures one after the other; `bad` ones cannot be decoded; then the plug is pulled."""

    def __init__(self, count, bad=()):
        self.count, self.bad, self.at, self.converted, self.released = count, bad, -1, 0, False

    def grab(self):
        self.at += 1
        return self.at < self.count

    def retrieve(self):
        self.converted += 1
        blue = np.zeros((4, 6, 3), np.uint8)
        blue[..., 0] = 255
        return self.at not in self.bad, blue

    def release(self):
        self.released = True


def test_a_camera_gives_rgb_and_ends_in_one_sentence_when_it_is_unplugged():
    capture = FakeCapture(5, bad=(2,))
    camera = V4l2Camera("/dev/video0", lambda: capture, sample_fps=1e6, start=30.0)
    frames = []
    with pytest.raises(LvmError, match="/dev/video0 gives no more pictures"):
        for frame in camera:
            frames.append(frame)
    assert [tuple(frame.image[0, 0]) for frame in frames] == [(0, 0, 255)] * 4
    assert frames[0].t == 30.0 and [f.t for f in frames] == sorted(f.t for f in frames)
    assert (camera.seen, camera.errors, capture.released, camera.live) == (5, 1, True, True)


def test_a_camera_converts_sampled_pictures_only():
    capture = FakeCapture(1000)
    with pytest.raises(LvmError):
        list(V4l2Camera("fake", lambda: capture, sample_fps=0.01))
    assert capture.converted == 1


def test_closing_a_camera_releases_it():
    capture = FakeCapture(10**9)
    with V4l2Camera("fake", lambda: capture, sample_fps=1e6) as camera:
        frames = iter(camera)
        assert isinstance(next(frames), Frame)
        camera.close()
        assert list(frames) == [] and capture.released


@pytest.fixture
def shelf(tmp_path):
    for number in (3, 1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 4, 3), number, np.uint8))
    (tmp_path / "1b.jpg").write_bytes(b"\xff\xd8\xff broken")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_is_its_images_in_name_order_and_leaves_gaps(shelf, caplog):
    with caplog.at_level(logging.WARNING):
        source = ImageFolder(shelf, sample_fps=2.0)
        frames = [(frame.t, int(frame.image[0, 0, 0])) for frame in source]
    assert frames == [(0.0, 1), (1.0, 2), (1.5, 3)]
    assert (source.seen, source.errors, source.duration, source.live) == (3, 1, 2.0, False)
    assert "1b.jpg" in caplog.text


def test_a_folder_can_have_its_own_rate_and_be_resumed(shelf):
    assert [frame.t for frame in ImageFolder(shelf, sample_fps=1.0, rate=2.0)] == [0.0, 1.0]
    assert [frame.t for frame in ImageFolder(shelf, sample_fps=2.0, start=0.6)] == [1.0, 1.5]


def write_numbered(folder, numbers, name="frame_{}.png"):
    for number in numbers:
        cv2.imwrite(str(folder / name.format(number)), np.full((4, 4, 3), number, np.uint8))


def shown(source):
    return [(frame.t, int(frame.image[0, 0, 0])) for frame in source]


@pytest.mark.parametrize("name", ["frame_{}.png", "{}.png", "a{}b1.png", "Cam {:02d}.png", "x-{}-x-{}.PNG"])
def test_images_come_in_the_order_of_their_numbers(tmp_path, name):
    for number in range(1, 31):
        image = cv2.imencode(".png", np.full((4, 4, 3), number, np.uint8))[1].tobytes()
        (tmp_path / name.format(number, number)).write_bytes(image)
    (tmp_path / "._frame_1.png").write_bytes(b"what a Mac leaves behind")
    assert shown(ImageFolder(tmp_path, sample_fps=1.0)) == [(float(n - 1), n) for n in range(1, 31)]


def test_a_folder_that_loses_its_oldest_images_goes_on_behind_the_last_one(tmp_path):
    write_numbered(tmp_path, range(1, 11))
    source = ImageFolder(tmp_path, sample_fps=1.0)
    frames = shown(source)
    mark = source.bookmark_at(frames[-1][0])
    assert mark == (9.0, "frame_10.png") and source.bookmark_at(4.3) == (4.0, "frame_5.png")
    assert source.bookmark_at(-1.0) is None
    for number in range(1, 9):
        (tmp_path / f"frame_{number}.png").unlink()
    write_numbered(tmp_path, range(11, 15))
    again = open_source(str(tmp_path), sample_fps=1.0, start=10.0, settings=Supervision(bookmark=mark))
    assert shown(again) == [(10.0, 11), (11.0, 12), (12.0, 13), (13.0, 14)]
    for path in tmp_path.iterdir():
        path.unlink()
    assert shown(ImageFolder(tmp_path, sample_fps=1.0, start=14.0, bookmark=(13.0, "frame_14.png"))) == []


def test_images_that_come_or_go_while_a_folder_is_read_disturb_nothing(tmp_path, caplog):
    write_numbered(tmp_path, range(1, 6))
    came = []
    source = ImageFolder(tmp_path, sample_fps=1.0)
    for frame in source:
        came.append((frame.t, int(frame.image[0, 0, 0])))
        if len(came) == 2:
            (tmp_path / "frame_1.png").unlink()
            (tmp_path / "frame_3.png").unlink()
            write_numbered(tmp_path, range(6, 8))
    assert came == [(0.0, 1), (1.0, 2), (3.0, 4), (4.0, 5), (5.0, 6), (6.0, 7)]
    assert source.errors == 0 and not caplog.records


def test_a_followed_folder_waits_for_whole_images_until_it_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_runtime.sources.folder.POLL_S", 0.02)
    monkeypatch.setattr("edge_runtime.sources.folder.WRITTEN_S", 0.2)
    came = []
    with open_source(f"follow:{tmp_path}", sample_fps=1.0) as source:
        reader = threading.Thread(target=lambda: came.extend(shown(source)))
        reader.start()
        for number in (1, 2):
            image = cv2.imencode(".png", np.full((4, 4, 3), number, np.uint8))[1].tobytes()
            (tmp_path / f"{number}.png").write_bytes(image[:30])
            time.sleep(0.05)
            (tmp_path / f"{number}.png").write_bytes(image)
            time.sleep(0.6)
        assert reader.is_alive()
        source.close()
        reader.join(5)
    assert came == [(0.0, 1), (1.0, 2)] and source.errors == 0


def test_a_folder_without_images_is_one_sentence(tmp_path):
    with pytest.raises(LvmError, match="holds no image: expected .bmp"):
        open_source(str(tmp_path), sample_fps=1.0)


def test_one_image_is_one_frame_and_a_broken_one_is_one_sentence(shelf):
    frames = list(open_source(str(shelf / "3.png"), sample_fps=5.0))
    assert [(frame.t, int(frame.image[0, 0, 0])) for frame in frames] == [(0.0, 3)]
    with pytest.raises(LvmError, match=r"1b\.jpg is damaged"):
        list(open_source(str(shelf / "1b.jpg"), sample_fps=5.0))
