"""An HTTP camera on loopback that can be made to fail: MJPEG and MPEG-TS, for tests and tools.

`/mjpeg` is a multipart stream of JPEGs, `/ts` H.264 in MPEG-TS, each until the client leaves. Pictures carry
the number of 25ths of a second since the server began.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import cv2

from tools.fakes.numbered_pictures import make_picture

PTS_WRAP = 1 << 33  # MPEG-TS counts 90,000 a second in 33 bits


class HttpServer:
    """A camera at `url + "/mjpeg"` and `url + "/ts"`. Its attributes may be changed while clients watch."""

    def __init__(self, port: int = 0, *, size: tuple[int, int] = (160, 96), fps: float = 25.0) -> None:
        self.size, self.fps = size, fps
        self.grey = False
        """JPEGs have one channel: another pixel format."""
        self.status = 200
        """Anything else is the answer to every request."""
        self.silent = False
        """Connections stay open and nothing is sent."""
        self.break_after: int | None = None
        """The connection ends inside the picture of this number, counted from 0 in each connection."""
        self.break_at = 0.5
        """Share of that picture that is still sent."""
        self.lengths = True
        """Whether each JPEG is announced with its length, as most cameras do."""
        self._breaks = 0
        self.before_wrap = 60.0
        """Seconds that `/ts` has before its 33-bit time stamps begin again."""
        self.clients = 0
        """Requests so far."""
        self.began = time.monotonic()
        self.stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def now(self) -> int:
        """Return the number of the picture that is taken now."""
        return int((time.monotonic() - self.began) * 25)

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def break_once(self) -> None:
        """End every running stream inside its next picture; new streams are whole."""
        self._breaks += 1

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.clients += 1
                if camera.status != 200:
                    self.send_error(camera.status)
                    return
                streams = {"/mjpeg": camera.mjpeg_parts, "/ts": camera.mpegts_pieces}
                kinds = {"/mjpeg": "multipart/x-mixed-replace; boundary=frame", "/ts": "video/mp2t"}
                if self.path not in streams:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", kinds[self.path])
                self.end_headers()
                with contextlib.suppress(OSError):  # the client has left
                    for piece in streams[self.path]():
                        self.wfile.write(piece)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def mjpeg_parts(self) -> Iterator[bytes]:
        """Yield the parts of the multipart stream at the camera's pace; a break cuts the last one short."""
        breaks = self._breaks
        for index in self._wait_for_pictures():
            picture = make_picture(self.now(), self.size)
            jpeg = cv2.imencode(".jpg", picture[..., 0] if self.grey else picture)[1].tobytes()
            length = f"Content-Length: {len(jpeg)}\r\n" if self.lengths else ""
            head = f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n".encode()
            due = self.break_after is not None and index >= self.break_after
            if due or breaks != self._breaks:
                yield head + jpeg[: int(len(jpeg) * self.break_at)]
                return
            yield head + jpeg + b"\r\n"

    def mpegts_pieces(self) -> Iterator[bytes]:
        """Yield an MPEG-TS stream whose time stamps begin `before_wrap` seconds before they wrap."""
        sink = io.BytesIO()
        width, height = self.size
        begins = PTS_WRAP - int(self.before_wrap * 90_000)
        with av.open(sink, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=Fraction(self.fps))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
            stream.codec_context.gop_size = 25
            stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency"}
            for index in self._wait_for_pictures():
                picture = av.VideoFrame.from_ndarray(
                    make_picture(self.now(), (width, height)), format="rgb24"
                )
                picture.pts = begins + int(index * 90_000 / self.fps)
                picture.time_base = Fraction(1, 90_000)
                container.mux(stream.encode(picture))
                yield sink.getvalue()
                sink.seek(0)
                sink.truncate()

    def _wait_for_pictures(self) -> Iterator[int]:
        began = time.monotonic()
        for index in itertools.count():
            while self.silent and not self.stop.is_set():
                self.stop.wait(0.02)
            if self.stop.wait(max(0.0, began + index / self.fps - time.monotonic())):
                return
            yield index
