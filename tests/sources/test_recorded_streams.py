"""Addresses of recordings are read like files, whatever their scheme; those of cameras stay live."""

from __future__ import annotations

import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import pytest

from edge_runtime.interfaces.python.memory import Memory
from edge_runtime.persistence import StateError, StateFolder
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import EnginePool
from edge_runtime.sources import open_source, read_frame_at
from edge_runtime.sources.base import Recorded
from edge_runtime.sources.live_source import Supervision
from engines.errors import LvmError
from tests.support.cameras import fake_engines
from tests.support.media import make_picture, read_number, write_video

FILMS = {
    "film.mp4": {},
    "streamed.mp4": {"movflags": "faststart"},
    "pieces.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "film.ts": {},
    "film.mkv": {},
    "film.flv": {},
    "film.avi": {},
    "film.h264": {},
    "vod.m3u8": {"hls_time": "2", "hls_list_size": "0", "hls_playlist_type": "vod"},
}
ASK = Supervision(kind="ask", open_timeout_s=5.0)


class Handler(BaseHTTPRequestHandler):
    """Files with and without (/plain/…) ranges, broken off at times (/torn/…); cameras at other paths."""

    def do_GET(self):
        _, *folders, name = self.path.split("/")
        if name == "snap.jpg":
            jpeg = cv2.imencode(".jpg", make_picture(next(self.server.shots)))[1].tobytes()
            return self.answer(200, jpeg, "image/jpeg")
        if name == "mjpeg":
            return self.stream()
        if name == "live.m3u8":
            text = (self.server.folder / "vod.m3u8").read_text()
            text = text.replace("#EXT-X-ENDLIST\n", "").replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "")
            return self.answer(200, text.encode(), "application/vnd.apple.mpegurl")
        file = self.server.folder / name
        if not file.is_file():
            return self.send_error(404)
        data, asked = file.read_bytes(), self.headers.get("Range")
        first = int(asked[6:].split("-")[0]) if asked and "plain" not in folders else 0
        cut = len(data)
        if "torn" in folders and self.server.torn < 3 and len(data) - first > 2000:
            self.server.torn += 1
            cut = first + (len(data) - first) // 2
        headers = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        if "plain" not in folders:
            headers["Accept-Ranges"] = "bytes"
        self.answer(206 if first else 200, data[first:cut], "video/any", len(data) - first, headers)

    def answer(self, code, data, kind, length=None, headers=None):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            return

    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in itertools.count():
            jpeg = cv2.imencode(".jpg", make_picture(number % 1000))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            try:
                self.wfile.write(head + jpeg + b"\r\n")
            except OSError:
                return
            if self.server.stop.wait(0.02):
                return

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Films of 30 s, 10 pictures a second, each with its number."""
    folder = tmp_path_factory.mktemp("films")
    for name, options in FILMS.items():
        write_video(folder / name, range(0, 30_000, 100), options=options, gop=20)
    return folder


@pytest.fixture
def server(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.folder, server.stop, server.torn, server.shots = folder, threading.Event(), 0, itertools.count()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("way", ["", "/plain"])
@pytest.mark.parametrize("name", FILMS)
def test_an_address_of_a_recording_is_known_by_its_stream(server, name, way):
    with open_source(f"{server.url}{way}/{name}", sample_fps=1.0, settings=ASK) as source:
        assert source.live, "before it is open nobody knows"
        with pytest.raises(Recorded):
            list(source)


@pytest.mark.parametrize("name", ["mjpeg", "snap.jpg", "live.m3u8"])
def test_an_address_of_a_camera_stays_live(server, name):
    with open_source(f"{server.url}/{name}", sample_fps=5.0, settings=ASK) as source:
        assert len(list(itertools.islice(source, 3))) == 3


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *itertools.product(["film.mp4", "film.ts", "film.mkv"], ["", "/plain", "/torn"]),
        ("vod.m3u8", ""),
        ("vod.m3u8", "/plain"),
    ],
)
def test_a_recording_by_address_gives_every_sampled_frame_at_its_time(server, name, way):
    settings = Supervision(kind="recording")
    url = f"{server.url}{way}/{name}"
    with open_source(url, sample_fps=2.0, settings=settings) as source:
        frames = [(round(frame.t, 3), read_number(frame.image)) for frame in source]
    assert frames == [(k / 2, 5 * k) for k in range(60)]
    assert way != "/torn" or server.torn == 3
    with open_source(url, sample_fps=2.0, start=20.2, settings=settings) as source:
        assert [(round(frame.t, 3), read_number(frame.image)) for frame in source] == frames[41:]


def test_a_recording_that_never_comes_is_one_sentence(server, monkeypatch):
    monkeypatch.setattr("edge_runtime.sources.network.MAX_FAILURES", 1)
    source = open_source(f"{server.url}/absent.mp4", sample_fps=1.0, settings=Supervision(kind="recording"))
    with pytest.raises(LvmError, match="there is nothing at this address") as caught:
        list(source)
    assert "\n" not in str(caught.value)


def test_a_picture_of_a_recording_by_address_can_be_looked_up(server):
    frame = read_frame_at(f"{server.url}/film.mp4", 12.34, settings=Supervision(kind="recording"))
    assert read_number(frame.image) == 123
    with pytest.raises(LvmError, match="is live"):
        read_frame_at(f"{server.url}/film.mp4", 12.34)


@pytest.fixture
def run_camera(tmp_path):
    def run(source, seconds=None, **options):
        with StateFolder(tmp_path / "state") as held:
            settings = CameraSettings(source, held.folder, patient=True, **options)
            camera = CameraRun(EnginePool(fake_engines()), settings, held)
            camera.run(seconds)
            camera.close()
        return camera

    return run


@pytest.mark.parametrize("name", ["film.mp4", "vod.m3u8", "film.ts"])
def test_a_camera_watches_all_of_it_and_goes_on_where_it_was_stopped(server, run_camera, name):
    url = f"{server.url}/{name}"
    first = run_camera(url, 12.0)
    assert (first.version.frames, first.live, first.header.recorded) == (12, False, True)
    assert first.header.clock is None, "a film has no time of day"
    whole = run_camera(url)
    assert (whole.version.frames, whole.header.ended) == (30, True)
    assert whole.version.coverage.gaps == () and whole.header.dropped == 0
    with pytest.raises(StateError, match="belongs to source"):
        run_camera(f"{server.url}/other.mp4", name="lane1")


def test_a_live_address_is_asked_only_once_and_keeps_its_clock(server, run_camera):
    camera = run_camera(f"{server.url}/mjpeg", 2.0)
    assert camera.live and not camera.header.recorded and camera.header.clock is not None
    assert camera.header.source_kind == "live"


def test_python_watches_a_recording_by_address(server):
    with Memory() as memory:
        memory.watch(f"{server.url}/film.mp4", seconds=5)
        memory.watch(f"{server.url}/film.mp4", seconds=5)
        assert memory.version.frames == 10


def test_what_gave_nothing_takes_no_state_folder(server, run_camera, tmp_path):
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "cut.mkv").write_bytes((server.folder / "film.mkv").read_bytes()[:600])
    for mistyped in ("text.mp4", "cut.mkv", "absent.mp4"):
        with pytest.raises(LvmError):
            run_camera(str(tmp_path / mistyped))
    began = time.monotonic()
    run_camera("rtsp://127.0.0.1:9/typo", 0.5)
    assert time.monotonic() - began < 20
    assert run_camera(f"{server.url}/film.mp4", 3.0).version.frames == 3, "a mistyped one has claimed it"
