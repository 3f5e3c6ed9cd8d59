"""Folders as recorders write them: one recording on the clock of the wall, with its holes."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import cv2
import pytest

from edge_runtime.memory.forgetting import forget_span
from edge_runtime.persistence import StateFolder, load_snapshot
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import EnginePool
from edge_runtime.service.forget_folder import complete_forget_result
from edge_runtime.service.wall_clock import make_time_reader
from edge_runtime.sources import canonicalise, open_source, read_frame_at
from edge_runtime.sources.live_source import Supervision
from edge_runtime.sources.recorder import LAYOUTS, RecorderFolder, find_start, is_recorder, list_segments
from engines.errors import LvmError
from tests.support.cameras import fake_engines
from tests.support.media import make_picture, read_number, write_video

LOCAL = datetime(2024, 11, 26, 10, 3, 7).timestamp()
UTC = datetime(2024, 11, 26, 10, 3, 7, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("recordings/2024-11-26/10/cam1/03.07.mp4", UTC),  # Frigate
        (f"clips/cam1-{UTC:.0f}.123456-x7.mp4", UTC + 0.123456),
        ("grp/mon/2024-11-26T10-03-07.mp4", LOCAL),  # Shinobi
        (f"20241126AM/cam1-20241126-100307-{UTC:.0f}.mp4", UTC),  # Synology
        (f"f4e2c6_0_rotating_{UTC:.0f}000.mp4", UTC),  # UniFi
        ("events/1/24/11/26/10/03/07/event.mp4", LOCAL),  # ZoneMinder, deep
        ("2024-11-26/10-03-07.mp4", LOCAL),  # motionEye
        ("2024-11-26/001/dav/10/10.03.07-10.04.07[R][0@0][0].dav", LOCAL),  # Dahua
        ("cam/2024-11-26_10-03-07.mp4", LOCAL),  # ffmpeg -strftime
        ("Front.20241126_100307.mp4", LOCAL),  # Blue Iris
        ("RLC-410_00_20241126100307.mp4", LOCAL),  # Reolink
        ("NVR_ch1_main_20241126100307_20241126100407.mp4", LOCAL),  # Hikvision
        ("20241126_100307_AB12/20241126_10/20241126_100307_CD34.mkv", LOCAL),  # Axis
        ("20241126/100307.ts", LOCAL),
        ("2024-11-26/10/03-07.ts", LOCAL),
        ("2024-11-26T10:03:07Z.mkv", UTC),
        ("2024-11-26 10.03.07.mp4", LOCAL),
        ("2024-11-26T10-03-07Z.mp4", UTC),
        ("2024-11-26T100307.250Z.mp4", UTC),
        ("2024-11-26 10_03_07 UTC.mp4", UTC),
        ("cam1_20241126_100307_utc.mp4", UTC),
        ("20241126_100307_Zoo.mp4", LOCAL),
        ("20241126T100307+0100.mp4", UTC - 3600),
        ("2024-11-26T10-03-07+01-00.mp4", UTC - 3600),
        ("2024-11-26T10:03:07-05:00.mp4", UTC + 5 * 3600),
        ("20241126T100307+0545_cam.mp4", UTC - 5.75 * 3600),
        ("cam_20241126T100307+01.mp4", UTC - 3600),
        ("2024-11-26/10-03-07-0330.mp4", UTC + 3.5 * 3600),
        ("2024-11-26/100307Z.mp4", UTC),
        ("2024-11-26/10/03-07Z.ts", UTC),
        ("front_20241126_100307-20241126_100407.mp4", LOCAL),
        ("2024/11/26/10/03/07.mp4", LOCAL),
        ("2024/11/26/10-03-07.mp4", LOCAL),
        ("2024-11/26/100307.mp4", LOCAL),
        ("2024/11-26/10/03/07/event.mp4", LOCAL),
        ("2024/11/26/Front_00_20241126100307.mp4", LOCAL),
        ("2024/11/26/10/03.mp4", LOCAL - 7),
        ("2024-11-26/10-03.mp4", LOCAL - 7),
        ("2024-11-26T10.03_cam.mp4", LOCAL - 7),
        ("2024-11-26 10h03.mp4", LOCAL - 7),
        ("2024-11-26_1003.mp4", None),  # may count
        ("26.11.2024 10-03-07.mp4", LOCAL),
        ("11-26-2024_10-03-07.mp4", None),  # the day or the month may come first
        ("2024y11m26d10h03m07s.mp4", LOCAL),
        ("2024112610/03M07S.mp4", LOCAL),
        ("Screen Recording 2024-11-26 at 10.03.07\u202fPM.mov", LOCAL + 12 * 3600),
        ("2024-11-26 10-03-07 AM.mp4", LOCAL),
        ("2024-11-26_12-03-07PM.mp4", LOCAL + 2 * 3600),
        ("2024-11-26_12-03-07 am CET.mp4", UTC - 11 * 3600),
        ("2024-11-26_22-03-07 PM.mp4", LOCAL + 12 * 3600),
        ("20241126_100307_PMX.mp4", LOCAL),
        ("cam_20241126_100307_CET.mp4", UTC - 3600),
        ("2024-11-26 10.03.07 EST.mp4", UTC + 5 * 3600),
        ("2024-11-26_10-03-07_AEDT_door.mp4", UTC - 11 * 3600),
        ("20241126T100307EST5EDT.mp4", UTC + 5 * 3600),
        ("20241126T100307-Europe_Berlin.mp4", UTC - 3600),
        ("20241126T100307_Europe-Berlin_Door.mp4", UTC - 3600),
        ("2024-11-26T10.03.07[America_New_York].mp4", UTC + 5 * 3600),
        ("20241126_100307_UTC+0100.mp4", UTC - 3600),
        ("20241126_100307_UTC+1.mp4", UTC - 3600),
        ("20241126_100307_GMT-5.mp4", UTC + 5 * 3600),
        ("20241126_100307_UTC-20241126_100407.mp4", UTC),
        ("20241126_100307_UTC_20241126_100407_UTC.mp4", UTC),
        ("20241126_100307_WEST.mp4", LOCAL),
        ("20241126_100307_CAT.mp4", LOCAL),
        ("20241126_100307_CETUS.mp4", LOCAL),
        ("20241126_100307_Europe_Nowhere.mp4", LOCAL),
        ("2024-11-26+0100/10-03-07.mp4", UTC - 3600),
        ("2024-11-26_CET/10-03-07.mp4", UTC - 3600),
        ("2024-11-26 UTC/10/03-07.ts", UTC),
        ("20241126Z/100307.ts", UTC),
        ("UTC/cam1/2024-11-26_10-03-07.mp4", UTC),
        ("EST5EDT/2024-11-26/10-03-07.mp4", UTC + 5 * 3600),
        ("Europe_Berlin/24/11/26/10/03/07/event.mp4", UTC - 3600),
        ("CET_2024-11-26_10-03-07.mp4", UTC - 3600),
        ("cam1_UTC_20241126_100307.mp4", UTC),
        ("2024-11-26_CET/10-03-07_UTC.mp4", UTC),
        ("recordings-CET/2024-11-26/10/cam1/03.07.mp4", UTC),
        ("cam-EST/2024-11-26/10-03-07.mp4", LOCAL),
        ("2024-11-26_10-03-07-123.mp4", LOCAL),
        ("2024-11-26_10-03-07-10-30-00.mp4", LOCAL),  # from and to
        ("film.mp4", None),
        ("S01E02.mp4", None),
        ("2024-13-45_99-99-99.mp4", None),
        ("holiday 2024-11-26.mp4", None),
        ("12345678901234567890.mp4", None),
    ],
)
def test_the_time_in_a_name_is_found(path, start):
    assert find_start(Path(path)) == (start if start is None else pytest.approx(start))


def test_every_layout_has_a_case_and_a_name():
    assert len({layout.recorders for layout in LAYOUTS}) == len(LAYOUTS)


def test_where_only_the_day_is_named_the_files_own_date_tells_the_end(tmp_path):
    for event, minute in ((123456, 3), (123457, 9)):
        path = tmp_path / "1" / "2024-11-26" / str(event) / f"{event}-video.mp4"
        path.parent.mkdir(parents=True)
        write_video(path, range(0, 2000, 200))
        ended = datetime(2024, 11, 26, 10, minute, 12).timestamp()
        os.utime(path, (ended, ended))
    starts = [segment.start for segment in list_segments(str(tmp_path))]
    assert starts[0] == pytest.approx(datetime(2024, 11, 26, 10, 3, 10).timestamp(), abs=0.3)
    assert starts[1] - starts[0] == pytest.approx(360, abs=0.1)


def test_the_hour_that_comes_twice_is_told_by_the_date_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        first = datetime(2024, 10, 27, 2, 20).timestamp()
        path = tmp_path / "2024-10-27_02-20-00.mp4"
        path.touch()
        for written, start in ((first + 60, first), (first + 3660, first + 3600)):
            os.utime(path, (written, written))
            assert find_start(path) == start
    finally:
        monkeypatch.undo()
        time.tzset()


def write_picture(path):
    cv2.imwrite(str(path), make_picture(1))


def write_part(path, first, pictures):
    """Write a file of two pictures a second, numbered from `first` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, range(0, 500 * pictures, 500), gop=4, first=first)


def write_day(folder, minutes, name="cam1_2024-11-26_10-{:02d}-00.mp4", seconds=60):
    """Write a file for each minute m, whose picture k has the number 120 m + k."""
    for minute in minutes:
        path = write_part(folder / name.format(minute), 120 * minute, 2 * seconds)
        os.utime(path, (time.time() - 3600,) * 2)


@pytest.mark.parametrize(
    "form", ["2024-10-27_{}/02-30-00.mp4", "2024-10-27_02-30-00_{}.mp4", "{}/20241027_023000.mp4"]
)
def test_zones_in_the_names_order_the_night_when_clocks_go_back(tmp_path, form):
    """Both are of one camera, and 02:30 of summer is an hour before 02:30 of winter."""
    for zone in ("CET", "CEST"):
        path = tmp_path / form.format(zone)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    segments = list_segments(str(tmp_path))
    assert ["CEST" in str(segment.path) for segment in segments] == [True, False]
    assert segments[1].start - segments[0].start == 3600
    assert segments[0].start == datetime(2024, 10, 27, 0, 30, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    "images",
    [
        [f"cam1_2024-11-26_10-0{minute}-00.jpg" for minute in (0, 1)],
        ["cam1_2024-11-26_10-00-00.mp4.jpg"],
        ["cam1_2024-11-26_10-00-00_thumb.png", "cover.jpg"],
        ["latest.jpg", "snapshot_1732611787.jpg"],
    ],
)
@pytest.mark.parametrize("followed", ["", "follow:"])
def test_pictures_beside_the_videos_of_a_recorder_are_not_watched(tmp_path, images, followed):
    write_day(tmp_path, (0, 1), seconds=4)
    for name in images:
        write_picture(tmp_path / name)
    with open_source(f"{followed}{tmp_path}", sample_fps=1.0) as source:
        assert isinstance(source, RecorderFolder)


def test_without_times_only_pictures_with_the_name_of_a_video_are_its_thumbnails(tmp_path):
    write_part(tmp_path / "a.mp4", 0, 4)
    write_picture(tmp_path / "album.jpg")
    assert not is_recorder(str(tmp_path))
    write_picture(tmp_path / "a-poster.jpg")
    assert is_recorder(str(tmp_path))


@pytest.fixture
def day(tmp_path):
    """Minutes 0, 1, 2 and 4 of ten o'clock, an empty file, and one without an end."""
    write_day(tmp_path / "day", (0, 1, 2, 4))
    empty, torn = (tmp_path / "day" / f"cam1_2024-11-26_10-0{minute}-00.mp4" for minute in (5, 6))
    empty.touch()
    torn.write_bytes((tmp_path / "day" / "cam1_2024-11-26_10-04-00.mp4").read_bytes()[:3000])
    for path in (empty, torn):
        os.utime(path, (time.time() - 3600,) * 2)
    return tmp_path / "day"


TEN = datetime(2024, 11, 26, 10).timestamp()
WATCHED = [float(t) for minute in (0, 1, 2, 4) for t in range(60 * minute, 60 * minute + 60)]


def test_a_day_is_one_recording_with_its_holes(day):
    with open_source(str(day), sample_fps=1.0) as source:
        frames = [(frame.t, read_number(frame.image)) for frame in source]
        assert isinstance(source, RecorderFolder) and source.epoch == TEN and not source.live
    assert frames == [(t, 2 * t) for t in WATCHED]
    assert source.errors == 2, "the empty and the torn one"


@pytest.mark.parametrize("start", [0.0, 30.0, 59.5, 60.0, 119.0, 150.0, 200.0, 285.0, 900.0])
def test_it_goes_on_anywhere_as_if_it_had_not_been_stopped(day, start):
    settings = Supervision(epoch=TEN)
    with open_source(str(day), sample_fps=1.0, start=start, settings=settings) as source:
        assert [frame.t for frame in source] == [t for t in WATCHED if t >= start]


def test_when_the_oldest_are_deleted_its_seconds_stay(day):
    for minute in (0, 1):
        (day / f"cam1_2024-11-26_10-0{minute}-00.mp4").unlink()
    with open_source(str(day), sample_fps=1.0, start=130.0, settings=Supervision(epoch=TEN)) as source:
        assert [frame.t for frame in source] == [t for t in WATCHED if t >= 130]
    frame = read_frame_at(str(day), 250.25, settings=Supervision(epoch=TEN))
    assert (frame.t, read_number(frame.image)) == (250.0, 500)
    with pytest.raises(LvmError, match="shows no picture at 5.000 s"):
        read_frame_at(str(day), 5.0, settings=Supervision(epoch=TEN))


@pytest.mark.parametrize("kind", ["pattern", "list", "deeper", "home"])
def test_patterns_lists_and_trees_name_the_same(day, kind, monkeypatch):
    spec = {"pattern": f"{day}/cam1_*.mp4", "list": str(day / "day.ffconcat"), "deeper": str(day.parent)}.get(
        kind
    )
    if kind == "list":
        names = sorted(path.name for path in day.glob("*.mp4"))
        lines = "\n".join(f"file '{name}'\nduration 60" for name in names)
        (day / "day.ffconcat").write_text(f"ffconcat version 1.0\n{lines}\n")
    if kind == "home":
        monkeypatch.setenv("HOME", str(day.parent))
        spec = "~/day"
    with open_source(canonicalise(str(spec)), sample_fps=1.0) as source:
        assert [frame.t for frame in source] == WATCHED


def test_a_list_names_nothing_outside_its_folder(day):
    for line in (
        "file '/etc/passwd'",
        "file '../a.mp4'",
        "file 'http://h/a.mp4'",
        "file notes.txt",
        "# none",
    ):
        (day / "day.ffconcat").write_text(f"ffconcat version 1.0\n{line}\n")
        with pytest.raises(LvmError, match="below its own folder only|names no file"):
            open_source(str(day / "day.ffconcat"), sample_fps=1.0)


def test_parts_without_a_time_in_their_names_follow_each_other(tmp_path):
    for number, first in ((1, 0), (2, 20), (10, 40)):
        write_part(tmp_path / f"part{number}.mp4", first, 20)
    with open_source(str(tmp_path), sample_fps=1.0) as source:
        frames = [(round(frame.t, 3), read_number(frame.image)) for frame in source]
    assert source.epoch is None and len(frames) >= 28
    # Each part says itself how long it is, to the length of its last picture.
    assert all(abs(number / 2 - t) < 1.0 for t, number in frames)


def test_recordings_of_several_cameras_are_not_mixed(tmp_path):
    for camera in ("door", "lane"):
        write_day(tmp_path / "2024-11-26" / "10" / camera, (0,), "{:02d}.00.mp4", seconds=3)
    with pytest.raises(
        LvmError, match=r"2 cameras \(door, lane\); name the folder of one, or a pattern"
    ) as caught:
        open_source(str(tmp_path), sample_fps=1.0)
    pattern = str(caught.value).split("'")[-2]
    with open_source(pattern, sample_fps=1.0) as source:
        assert len(list(source)) == 3
        assert source.epoch == datetime(2024, 11, 26, 10, tzinfo=timezone.utc).timestamp()


def test_a_recording_that_goes_on_is_followed_file_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_runtime.sources.recorder.POLL_S", 0.02)
    monkeypatch.setattr("edge_runtime.sources.recorder.UNFINISHED_S", 0.5)
    write_day(tmp_path, (0,), seconds=3)
    came = []
    with open_source(f"follow:{tmp_path}", sample_fps=1.0) as source:
        reader = threading.Thread(target=lambda: came.extend(frame.t for frame in source))
        reader.start()
        whole = tmp_path.parent / "next.mp4"
        write_part(whole, 120, 6)
        data, path = whole.read_bytes(), tmp_path / "cam1_2024-11-26_10-01-00.mp4"
        path.write_bytes(data[: len(data) // 2])
        time.sleep(0.2)
        path.write_bytes(data)
        deadline = time.monotonic() + 20
        while len(came) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert reader.is_alive(), "it waits for more"
        source.close()
        reader.join(5)
    assert came == [0.0, 1.0, 2.0, 60.0, 61.0, 62.0] and source.errors == 0


def test_a_folder_in_which_nothing_can_be_read_is_one_sentence(tmp_path):
    (tmp_path / "2024-11-26_10-00-00.mp4").write_text("no video")
    with pytest.raises(LvmError, match="no picture in its files could be decoded"):
        list(open_source(str(tmp_path), sample_fps=1.0))


def test_a_camera_watches_a_day_and_is_asked_by_the_clock(day, tmp_path):
    def run(seconds=None):
        with StateFolder(tmp_path / "state") as held:
            camera = CameraRun(EnginePool(fake_engines()), CameraSettings(str(day), held.folder), held)
            camera.run(seconds)
            camera.close()
        return camera

    run(100.0)
    (day / "cam1_2024-11-26_10-00-00.mp4").unlink()
    camera = run()
    assert (camera.version.frames, camera.live, camera.header.ended) == (240, False, True)
    saved = load_snapshot(tmp_path / "state")
    assert saved.header.clock == TEN and saved.header.clocked
    assert [(a, b) for a, b in saved.version.coverage.gaps] == [(180.0, 240.0)]
    reader = make_time_reader(saved.header, saved.version.coverage)
    assert reader.read("10:03", "from") == 180.0 and reader.read("2024-11-26T10:04", "from") == 240.0
    assert reader.read_span("10:04", "10:30") == (240.0, 300.0), "it ends where the recording ends"


@pytest.mark.parametrize("source, lines", [("day", 0), ("rtsp://camera/1", 2)])
def test_forgetting_seconds_of_a_recording_leaves_the_log_of_that_time(day, tmp_path, source, lines):
    with StateFolder(tmp_path / "state") as held:
        camera = CameraRun(EnginePool(fake_engines()), CameraSettings(str(day), held.folder), held)
        camera.run(100.0)
        camera.close()
    log = tmp_path / "log"
    stamps = [datetime.fromtimestamp(TEN + t, timezone.utc).isoformat() for t in (15, 25, 95)]
    log.write_text("".join(f"{stamp} INFO x: a line\n" for stamp in stamps))
    header = camera.header if source == "day" else camera.header.model_copy(update={"source": source})
    _, result = forget_span(camera.version, 10.0, 30.0, clip_s=1.0, clip_frames=1, reset=False)
    done = complete_forget_result(result, log, header)
    assert done.log_lines == lines and len(log.read_text().splitlines()) == 3 - lines
    assert done.clock_from == datetime.fromtimestamp(TEN + 10).astimezone().isoformat()


def test_the_first_pictures_of_a_slow_cameras_files_stand_for_as_long_as_those_before(tmp_path):
    for minute in (0, 1):
        path = tmp_path / f"2024-11-26_10-0{minute}-00.mp4"
        write_video(path, range(0, 60_000, 4000), gop=4)
        os.utime(path, (time.time() - 3600,) * 2)
    with open_source(str(tmp_path), sample_fps=1.0) as source:
        frames = list(source)
    assert [frame.t for frame in frames] == [4.0 * i for i in range(30)]
    assert {frame.period for frame in frames[3:]} == {4.0}
