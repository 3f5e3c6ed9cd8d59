"""The cameras of a soak: a demo that runs fast and three network cameras on loopback."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Sequence

from tools.fakes.http_camera import HttpServer
from tools.fakes.rtsp_camera import RtspServer

SIZES = ((160, 96), (120, 128))
"""Two sizes of equally many pixels. A camera's newest 32 pictures are retained, so a larger picture would
look like growth in a soak (4.4 MB more at 320 x 192)."""


class SoakCameras:
    """The four cameras; `demo` (an endless file) and `steady` (a camera) never get a fault."""

    def __init__(self, speed: float, ports: Sequence[int] = (0, 0, 0)) -> None:
        """Take the `ports` of an earlier run, because a memory belongs to its camera's address."""
        self._stack = contextlib.ExitStack()
        self.rtsp = RtspServer(ports[0])
        self.rtsp.__enter__()
        self.steady = self._stack.enter_context(RtspServer(ports[1], fps=10.0))
        self.http = self._stack.enter_context(HttpServer(ports[2]))
        self.ports = (self.rtsp.port, self.steady.port, self.http.port)
        self.sources = {
            "demo": f"demo?size=160x120&speed={speed:g}",
            "rtsp": self.rtsp.url,
            "mjpeg": f"{self.http.url}/mjpeg",
            "steady": self.steady.url,
        }

    def stop_rtsp(self) -> None:
        self.rtsp.__exit__()

    def start_rtsp(self) -> None:
        """Start the server again on the same port, as after a power cut."""
        self.rtsp = RtspServer(self.rtsp.port, size=self.rtsp.size)
        self.rtsp.__enter__()

    def switch_rtsp(self) -> None:
        self.rtsp.size = SIZES[1] if self.rtsp.size == SIZES[0] else SIZES[0]
        self.rtsp.fps = 15.0 if self.rtsp.fps == 25.0 else 25.0

    def __enter__(self) -> SoakCameras:
        return self

    def __exit__(self, *_: object) -> None:
        self.rtsp.__exit__()
        self._stack.close()


_POST = b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
_FORGET = _POST.replace(b"query", b"forget").replace(
    b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n"
)
_GARBAGE = (
    b"\x00\xff" * 500,
    b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
    _POST % 50 + b"{",
    _POST % 7 + b"[[[[[[[",
    _POST % 40 + b'{"type":"time","from":1e999,"camera":7}  ',
    b"PUT /api/v1/cameras/../../etc/paused HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntrue",
    _FORGET % 2 + b"{}",
)


def send_garbage(port: int, stop: threading.Event, seed: int) -> int:
    """Run clients that break the protocol, one after the other until `stop`; return how many there were."""
    rng, count = random.Random(seed), 0
    while not stop.wait(0.05):
        with contextlib.suppress(OSError):  # the server may close the connection first
            with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
                client.sendall(rng.choice([*_GARBAGE, rng.randbytes(rng.randint(1, 5000))]))
                if rng.random() < 0.7:
                    client.settimeout(0.5)
                    client.recv(65536)
        count += 1
    return count
