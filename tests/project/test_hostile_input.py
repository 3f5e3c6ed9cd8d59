"""What hostile input may cost beyond a refusal: memory, descriptors, log lines, other files, secrets."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import h11
import numpy as np
import pytest
from fastapi.testclient import TestClient

import edge_runtime.imaging.decode as images_room
import edge_runtime.system.secrets as secret_room
from edge_runtime.imaging.decode import read_image
from edge_runtime.interfaces.cli.query_text import MAX_LINE_CHARS, parse_line
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.http.server import BriefLog, HttpServer
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import MAX_QUESTION_BYTES, Photos, Product, parse_query
from edge_runtime.sources import canonicalise
from edge_runtime.sources.growing_file import GrowingVideo
from edge_runtime.sources.network import NetworkStream
from edge_runtime.sources.video import VideoFile
from edge_runtime.system.errors import QueryError
from edge_runtime.system.logs import _LineFormatter
from edge_runtime.system.secrets import register_secret
from engines.errors import LvmError
from tests.support.fakes import small_network
from tests.support.media import write_video
from tools.fuzzing.small import SmallService, small_service


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    monkeypatch.setattr(secret_room, "_values", set())


def _png(shape, value=9) -> bytes:
    return cv2.imencode(".png", np.full(shape, value, np.uint8))[1].tobytes()


# -- pictures ----------------------------------------------------------------------------------------------


def test_a_kind_is_known_by_its_content_and_not_by_its_name(tmp_path):
    for name in ("a.jpg", "a.txt", "a", "a.mp4"):
        (tmp_path / name).write_bytes(_png((4, 5, 3)))
        assert read_image(tmp_path / name).shape == (4, 5, 3)


def test_a_name_with_orders_to_a_terminal_is_written_out(tmp_path):
    with pytest.raises(LvmError) as caught:
        read_image(tmp_path / "\x1b]0;x\n.jpg")
    assert str(caught.value).isprintable()


def test_a_pipe_is_no_picture_at_any_door(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(LvmError, match="is no file"):
        read_image(tmp_path / "pipe.jpg")
    with pytest.raises(QueryError, match="is no file"):
        parse_line(f"activity --object {tmp_path / 'pipe.jpg'}")


def test_a_tiff_that_states_its_width_twice_is_measured_by_the_larger():
    tags = [(256, 60000), (257, 60000), (256, 8), (257, 8)]
    data = b"II*\0\x08\0\0\0\x04\0" + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    with pytest.raises(LvmError, match="is 60000 x 60000: expected at most"):
        read_image(data)


@pytest.mark.parametrize("suffix, flags", [(".gif", []), (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101])])
def test_of_an_animation_the_first_picture_is_taken(suffix, flags, tmp_path):
    path = str(tmp_path / f"a{suffix}")
    animation = cv2.Animation()
    animation.frames = [np.full((8, 8, 3), value, np.uint8) for value in (200, 10, 90)]
    animation.durations = [100, 100, 100]
    assert cv2.imwriteanimation(path, animation, flags)
    assert abs(int(read_image(path)[4, 4, 0]) - 200) < 30


class _Seen:
    """Stands for the lock of large pictures, and counts."""

    def __init__(self):
        self.entered = 0

    def __enter__(self):
        self.entered += 1

    def __exit__(self, *_):
        pass


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    seen = _Seen()
    monkeypatch.setattr(images_room, "_large_lock", seen)
    monkeypatch.setattr(images_room, "LARGE_PIXELS", 100)
    read_image(_png((10, 10, 3)))
    assert seen.entered == 0
    read_image(_png((10, 11, 3)))
    assert seen.entered == 1


def test_photos_of_one_question_are_not_held_together(monkeypatch):
    read = []
    monkeypatch.setattr(
        "edge_runtime.query.object_encoder.read_image",
        lambda photo: read.append(photo) or np.full((4, 4, 3), len(read), np.uint8),
    )
    held = []

    def backbone(feeds):
        held.append(len(read))
        return {"tokens": np.full((1, 49, 4), len(held))}

    ObjectEncoder(backbone, small_network(), frame_at=None, catalogue=None).encode(
        Photos(photos=(b"a", b"b", b"c"))
    )
    # Each is read when the one before has been handed on.
    assert held == [1, 2, 3]


# -- videos ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile {name}\nduration 1\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n",
        "<?xml version='1.0'?><MPD type='static'><Period><AdaptationSet mimeType='video/mp4'><Representation>"
        "<BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    ],
    ids=["concat", "hls", "dash"],
)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ffconcat", "mpd"])
def test_a_playlist_opens_no_other_file(tmp_path, playlist, suffix):
    write_video(tmp_path / "private.mp4", [0, 500, 1000])
    (tmp_path / f"list.{suffix}").write_text(playlist.format(name="private.mp4"))
    with pytest.raises(LvmError, match="cannot be opened"):
        VideoFile(tmp_path / f"list.{suffix}", sample_fps=1.0)


def test_a_playlist_of_itself_takes_no_descriptors(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(LvmError) as caught:
        VideoFile(file, sample_fps=1.0)
    assert "Too many open files" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        b"ffconcat version 1.0\nfile live\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 0 RTP/AVP 96\n",
    ],
    ids=["concat of itself", "SDP"],
)
def test_a_camera_that_answers_with_a_playlist_is_asked_once(said):
    asked = []

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_):
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stream = NetworkStream(f"http://127.0.0.1:{server.server_port}/live", sample_fps=1.0)
        with pytest.raises(LvmError, match="cannot be opened: its format is not read here"):
            list(stream)
        server.shutdown()
    assert asked == ["/live"]


def test_a_growing_file_is_no_playlist_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.ts").write_text("ffconcat version 1.0\nfile a.ts\n")
    with pytest.raises(LvmError, match="its format is not read here"):
        list(GrowingVideo("a.ts", sample_fps=1.0, silent_s=0.1))


# -- questions ---------------------------------------------------------------------------------------------


def test_ten_megabytes_cost_a_moment_at_any_door():
    began = time.thread_time()
    for text in ("x" * 10_000_000, "'" + "a b " * 2_500_000, "ask " + "--to 1 " * 1_000_000):
        with pytest.raises(QueryError, match=f"at most {MAX_LINE_CHARS} letters"):
            parse_line(text)
    for question in ({"type": "x" * 10**7}, {"type": "object", "activity": "x" * 10**7}, ["x" * 10**7]):
        with pytest.raises(QueryError):
            parse_query(json.dumps(question))
    assert time.thread_time() - began < 5


def test_a_question_above_the_limit_is_refused_unread():
    with pytest.raises(QueryError, match=f"at most {MAX_QUESTION_BYTES} bytes"):
        parse_query(b" " * (MAX_QUESTION_BYTES + 1))


@pytest.mark.parametrize("key, near", [("form", "from"), ("Object", "object"), ("activty", "activity")])
def test_a_misspelt_key_is_told_its_nearest(key, near):
    question = {"type": "object", "activity": "scan", key: 1}
    with pytest.raises(QueryError, match=f"{key} is no part of this kind of question; did you mean {near}"):
        parse_query(json.dumps(question))


@pytest.mark.parametrize("at", [1e300, -1e300, 1e10])
def test_times_beyond_any_stream_are_refused(at):
    with pytest.raises(QueryError, match="from"):
        parse_query(json.dumps({"type": "object", "activity": "scan", "from": at}))


def test_unknown_names_are_told_their_nearest(tmp_path):
    service = SmallService(tmp_path)
    with pytest.raises(QueryError, match="activity 'scna' is not known; nearest is 'scan'"):
        service.ask(parse_query('{"type": "object", "activity": "scna"}'))
    with pytest.raises(QueryError, match="product 'mlik' is not in the catalogue; nearest is 'milk'"):
        service.asker._objects.encode(Product(product="mlik"))


def test_thousands_of_classes_are_not_all_listed(tmp_path):
    service = SmallService(tmp_path)
    service.asker._names = [f"class number {i}" for i in range(10_000)]
    with pytest.raises(QueryError) as caught:
        service.ask(parse_query('{"type": "object", "activity": "x"}'))
    assert len(str(caught.value)) < 1500 and "and 9984 more" in str(caught.value)


# -- HTTP and logs -----------------------------------------------------------------------------------------


def test_a_client_that_goes_in_the_middle_costs_no_traceback(tmp_path):
    app = make_app(small_service(tmp_path))
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    import asyncio

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "headers": [],
        "path": "/api/v1/query", "raw_path": b"/api/v1/query", "query_string": b"", "scheme": "http",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))  # raised ClientDisconnect
    assert sent[0]["status"] == 422


def test_slashes_are_not_redirected_to_a_host_that_the_client_names(tmp_path):
    client = TestClient(make_app(small_service(tmp_path)), follow_redirects=False)
    assert client.get("/readyz/", headers={"host": "evil.example"}).status_code == 404


def test_broken_http_is_one_line_of_the_log():
    record = logging.LogRecord(
        "uvicorn.error", logging.ERROR, "f", 1, "Exception in ASGI application\n", (), None
    )
    error = h11.LocalProtocolError("x")
    record.exc_info = (type(error), error, None)
    assert (
        BriefLog().filter(record) and logging.Formatter().format(record) == "a client broke the rules of HTTP"
    )
    other = logging.LogRecord(
        "uvicorn.error", logging.ERROR, "f", 1, "bug", (), (KeyError, KeyError("x"), None)
    )
    assert BriefLog().filter(other) and "KeyError" in logging.Formatter().format(other)


def test_a_secret_is_in_no_log_line_and_no_traceback():
    register_secret("hunter22")
    try:
        raise ValueError("no such camera rtsp://me:hunter22@host")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed for %s", ("hunter22",), sys.exc_info())
    text = _LineFormatter().format(record)
    assert "hunter22" not in text and "ERROR x: failed for ***" in text
    assert "ValueError: no such camera rtsp://***@host" in text


def test_a_secret_is_in_no_refusal_over_http(tmp_path):
    register_secret("hunter22")
    reply = TestClient(make_app(small_service(tmp_path))).post(
        "/api/v1/query", json={"type": "object", "activity": "hunter22"}
    )
    assert reply.status_code == 422 and "activity '***' is not known" in reply.json()["error"]


def test_a_secret_of_the_configuration_is_not_in_what_run_says(tmp_path):
    config = tmp_path / "kiosk.yaml"
    config.write_text(
        "cameras:\n  lane1:\n    source: ${CAMERA}\nhttp: {enabled: false}\nstate: {directory: %s}\n"
        % (tmp_path / "s")
    )
    secret = "/nowhere/hunter22/video.mp4"
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "-v", "run", "--config", str(config),
        "--backend", "onnxruntime"],
        env=os.environ | {"CAMERA": secret},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "hunter22" not in done.stdout + done.stderr and "***" in done.stderr


def test_a_source_whose_name_is_no_text_is_refused_before_it_is_watched(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
    with pytest.raises(LvmError, match=r"/\\udcff.mp4': the name of a source must be valid UTF-8; rename it"):
        canonicalise(name)


def test_a_broken_body_after_a_question_for_the_head_only_is_one_line_of_the_log(tmp_path, caplog):
    question = b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with small_service(tmp_path) as service, HttpServer(service, "127.0.0.1:0") as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(question + b"3\r\x03\x00{}\r\n\r\n")
            said = b"".join(iter(lambda: client.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 400")
    told = [r for r in caplog.records if r.levelno >= logging.WARNING and "uvicorn" not in r.name]
    assert [r.getMessage() for r in told] == ["a client broke the rules of HTTP"]
    assert all(r.exc_info is None for r in caplog.records)
