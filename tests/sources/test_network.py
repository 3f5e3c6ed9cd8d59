from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import cv2
import pytest

from edge_runtime.config.connection import ConnectionSettings
from edge_runtime.sources import open_source
from edge_runtime.sources.base import Unsupported
from edge_runtime.sources.live_source import Supervision
from edge_runtime.sources.network import NetworkStream, probe
from engines.errors import LvmError
from tests.support.media import make_picture, read_number, write_video
from tests.support.stalls import timed

INTERPRETERS = (sys.executable, "/usr/bin/python3")  # PyGObject is a package of the system's Python
NEEDS = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert Gst.ElementFactory.find("x264enc")
"""


@pytest.fixture(scope="module")
def rtsp():
    """Ports of real RTSP servers in another process: an open one, and one with a password."""
    for python in filter(Path.exists, map(Path, INTERPRETERS)):
        if subprocess.run([python, "-c", NEEDS], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip(
            "no interpreter with GstRtspServer, or no x264enc: "
            "apt install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-ugly"
        )
    command = [str(python), str(Path(__file__).parents[1] / "support" / "rtsp_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        yield server.stdout.readline().split()
        server.kill()


class Handler(BaseHTTPRequestHandler):
    """/clip: a whole video; /mjpeg: pictures for ever; /stall: pictures, then silence; /slow: one in 1.5 s.

    Habits of real cameras: /nofirst has no boundary before the first picture, /bare none at all, /wrong
    another than it said.
    """

    def do_GET(self):
        if self.path == "/clip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.clip)))
            self.end_headers()
            self.wfile.write(self.server.clip)
            return
        if self.path not in ("/mjpeg", "/stall", "/slow", "/nofirst", "/bare", "/wrong"):
            self.send_error(404)
            return
        self.send_response(200)
        kind = "multipart/x-mixed-replace; boundary=frame" if self.path != "/bare" else "video/x-motion-jpeg"
        self.send_header("Content-Type", kind)
        self.end_headers()
        for number in itertools.count():
            if self.path == "/stall" and number == 20:
                self.server.stop.wait(20)
                return
            jpeg = cv2.imencode(".jpg", make_picture(number % 1000))[1].tobytes()
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            if number or self.path != "/nofirst":
                head = f"--{'other' if self.path == '/wrong' else 'frame'}\r\n{head}"
            try:
                self.wfile.write(jpeg if self.path == "/bare" else head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            if self.server.stop.wait(1.5 if self.path == "/slow" else 0.02):
                return

    def log_message(self, *_):
        pass


@pytest.fixture
def http(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.stop = threading.Event()
    server.clip = write_video(tmp_path / "a.mkv", range(0, 2000, 40)).read_bytes()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.stop.set()
    server.shutdown()
    server.server_close()


def test_a_clip_over_http_counts_from_start(http):
    with NetworkStream(f"{http}/clip", sample_fps=5.0, start=100.0) as stream:
        frames = [(frame.t, read_number(frame.image)) for frame in stream]
    assert frames == [(pytest.approx(100 + n / 25), n) for n in range(0, 50, 5)]
    assert stream.live and stream.duration is None and stream.seen == 50


@timed
def test_mjpeg_over_http_gives_pictures_in_time_order(http):
    with NetworkStream(f"{http}/mjpeg", sample_fps=10.0) as stream:
        began = time.monotonic()
        times = [frame.t for frame in itertools.islice(stream, 8)]
    assert times == sorted(times) and times[0] == 0.0 and len(set(times)) == 8
    # Not the 25 pictures a second that FFmpeg makes up: the server sends almost 50.
    assert times[-1] == pytest.approx(time.monotonic() - began, abs=0.15)


@pytest.mark.parametrize("path", ["nofirst", "bare", "wrong"])
def test_mjpeg_of_cameras_with_habits_is_read(http, path):
    with NetworkStream(f"{http}/{path}", sample_fps=20.0) as stream:
        numbers = [read_number(frame.image) for frame in itertools.islice(stream, 5)]
    assert numbers == sorted(set(numbers))
    assert stream.errors == 0 and not stream.repairs, "a format without time stamps is no fault"


@timed
def test_patience_is_a_setting(http):
    hasty = ConnectionSettings(read_timeout_s=0.5).supervise("live", first_must_open=False)
    with pytest.raises(LvmError, match="no answer in time"):
        list(NetworkStream(f"{http}/slow", sample_fps=10.0, settings=hasty))
    patient = ConnectionSettings(read_timeout_s=8.0).supervise("live", first_must_open=False)
    with open_source(f"{http}/slow", sample_fps=1.0, settings=patient) as stream:
        assert len(list(itertools.islice(stream, 3))) == 3
        assert (stream.status.state, stream.status.reconnects) == ("live", 0)


@timed
def test_silence_ends_in_one_sentence(http):
    began = time.monotonic()
    with pytest.raises(LvmError, match="cannot be read on: no answer in time"):
        list(NetworkStream(f"{http}/stall", sample_fps=10.0, settings=Supervision(read_timeout_s=0.5)))
    assert time.monotonic() - began < 5


def test_closing_from_another_thread_ends_a_stream(http):
    stream = NetworkStream(f"{http}/mjpeg", sample_fps=10.0)
    got = []
    reader = threading.Thread(target=lambda: got.extend(stream))
    reader.start()
    while not got:
        time.sleep(0.01)
    stream.close()
    reader.join(5)
    assert not reader.is_alive()


def test_what_cannot_be_reached_is_one_sentence_without_the_password(http):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for address, words in [
            (f"rtsp://kiosk:s3cret@127.0.0.1:{port}/live", "connection refused: no server"),
            (f"{http}/absent?token=s3cret", "404"),
            ("rtsp://kiosk:s3cret@nowhere.invalid/live", "cannot be opened: the host is not known"),
        ]:
            with pytest.raises(LvmError, match=words) as caught:
                list(NetworkStream(address, sample_fps=1.0))
            assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)
            assert caught.value.__suppress_context__, "a logged traceback would show the address"


def test_a_server_that_says_nothing_is_one_sentence():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
        with pytest.raises(LvmError, match="cannot be opened: no answer in time"):
            list(NetworkStream(url, sample_fps=1.0, settings=Supervision(open_timeout_s=0.5)))


def test_rtsp_gives_frames_at_the_wanted_rate(rtsp):
    with NetworkStream(f"rtsp://127.0.0.1:{rtsp[0]}/live", sample_fps=5.0, start=7.0) as stream:
        frames = list(itertools.islice(stream, 10))
    times = [frame.t for frame in frames]
    assert times[0] == 7.0 and times[-1] == pytest.approx(8.8, abs=0.3)
    assert frames[0].image.shape == (240, 320, 3)
    assert stream.errors == 0


def test_rtsp_with_a_password_works_and_its_name_hides_it(rtsp):
    host = f"127.0.0.1:{rtsp[1]}/live"
    with NetworkStream(f"rtsp://kiosk:{quote('p@ss/word', safe='')}@{host}", sample_fps=5.0) as stream:
        assert len(list(itertools.islice(stream, 2))) == 2
        assert stream.name == f"rtsp://***@{host}"
    with pytest.raises(LvmError, match="cannot be opened: .*401") as caught:
        list(NetworkStream(f"rtsp://kiosk:s3cret@{host}", sample_fps=5.0))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("transport", "path", "works"), [
    ("auto", "udp", True), ("udp", "udp", True), ("tcp", "udp", False), ("auto", "live", True)
])  # fmt: skip
def test_rtsp_over_the_transport_that_the_camera_has(rtsp, transport, path, works):
    url = f"rtsp://127.0.0.1:{rtsp[0]}/{path}"
    settings = Supervision(transport=transport)
    if works:  # with retries, since the server answers 503 to a client that comes back too soon
        with open_source(url, sample_fps=5.0, settings=settings) as stream:
            assert len(list(itertools.islice(stream, 3))) == 3
    else:
        with pytest.raises(LvmError, match="does not send over this transport; set connection.transport"):
            list(NetworkStream(url, sample_fps=5.0, settings=settings))


def test_a_slow_consumer_of_rtsp_stays_at_the_newest_picture(rtsp):
    stream = open_source(f"rtsp://127.0.0.1:{rtsp[0]}/live", sample_fps=25.0)
    lags = []
    with stream:
        began = 0.0
        for frame in stream:
            began = began or time.monotonic()
            lags.append(time.monotonic() - began - frame.t)
            time.sleep(0.4)
            if len(lags) == 8:
                break
    assert max(lags) - lags[0] < 0.4, lags
    assert sum(stream.status.drops.values()) > 40


@pytest.mark.parametrize("scheme", ["udp", "rtp", "tcp"])
def test_transport_streams_arrive_over_other_protocols(tmp_path, scheme):
    film = write_video(tmp_path / "a.ts", range(0, 60_000, 40), gop=12).read_bytes()
    packets = [film[at : at + 1316] for at in range(0, len(film), 1316)]
    stop = threading.Event()
    kind = socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM

    with socket.socket(type=kind) as server:
        if scheme == "tcp":
            server.bind(("127.0.0.1", 0))
            server.listen()
            port = server.getsockname()[1]
        else:
            with socket.socket(type=kind) as unused:
                unused.bind(("127.0.0.1", 0))
                port = unused.getsockname()[1] & ~1

        def send():
            out = server.accept()[0] if scheme == "tcp" else server
            if scheme != "tcp":
                server.connect(("127.0.0.1", port))
            for number, packet in enumerate(itertools.cycle(packets)):
                head = (
                    struct.pack(">BBHII", 0x80, 33, number % 65536, number * 3600, 7)
                    if scheme == "rtp"
                    else b""
                )
                with contextlib.suppress(ConnectionRefusedError):  # nobody listens yet
                    out.send(head + packet)
                if stop.wait(0.005):
                    return

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        with open_source(f"{scheme.upper()}://127.0.0.1:{port}", sample_fps=5.0) as stream:
            try:
                assert len(list(itertools.islice(stream, 3))) == 3
            finally:
                stop.set()
        sender.join(5)


def test_a_kind_of_address_that_ffmpeg_lacks_says_what_to_use():
    with pytest.raises(Unsupported, match="FFmpeg was built without this kind of address here; use gst:"):
        list(NetworkStream("srt://127.0.0.1:9000", sample_fps=1.0))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the host is not known"),
        (ConnectionRefusedError(111, "Connection refused"), "no server listens there; check host and port"),
        (TimeoutError("timed out"), "check that it is on, or give it more time"),
        (OSError(113, "No route to host"), "no way to this host; check its address"),
        (OSError(101, "Network is unreachable"), "check the cable and the router"),
        (OSError(24, "Too many open files"), "the system says Too many open files"),
    ],
)
def test_a_server_that_cannot_be_reached_is_a_sentence_that_says_what_to_do(error, words, monkeypatch):
    def connect(*_, **__):
        raise error

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(LvmError, match="cannot be reached: ") as caught:
        probe("rtsp://u:hunter22@cam/live", 1)
    assert words in str(caught.value) and "hunter22" not in str(caught.value)
