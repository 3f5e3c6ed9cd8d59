"""Cameras with one fault each, which can be injected and removed (`tools/reliability/source_faults.py`)."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.sources import open_source
from edge_runtime.sources.base import Source
from edge_runtime.sources.camera import V4l2Camera
from edge_runtime.sources.live_source import LiveSource
from engines.errors import Unavailable
from tools.fakes.http_camera import HttpServer
from tools.fakes.numbered_pictures import make_picture
from tools.fakes.rtsp_camera import RtspServer

ROOT = Path(__file__).resolve().parents[2]


class FaultyCamera(ABC):
    """A camera and its fault, which lasts for `lasts` (min, max) seconds; (0, 0): it has no duration.

    The docstring of a subclass is the fault's name in reports.
    """

    lasts = (0.0, 0.0)

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack

    @abstractmethod
    def source(self, sample_fps: float) -> Source: ...

    @abstractmethod
    def inject(self) -> None: ...

    def restore(self) -> None:  # noqa: B027 - faults without a duration have nothing to restore
        pass


class Rtsp(FaultyCamera):
    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self.server = stack.enter_context(RtspServer())

    def source(self, sample_fps: float) -> Source:
        return open_source(self.server.url, sample_fps=sample_fps)


class Stopped(Rtsp):
    """RTSP server stopped, started again with another resolution"""

    lasts = (0.5, 4.0)

    def inject(self) -> None:
        self.server.__exit__()

    def restore(self) -> None:
        size = (320, 192) if self.server.size == (160, 96) else (160, 96)
        self.server = self.stack.enter_context(RtspServer(self.server.port, size=size))


class Swallowed(Stopped):
    """RTSP host gone without a word (packets swallowed), then back"""

    def inject(self) -> None:
        super().inject()
        self._full = [socket.socket() for _ in range(5)]
        host = self._full[0]
        host.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host.bind(("127.0.0.1", self.server.port))
        host.listen(0)
        # With its backlog full, the kernel drops every further connection attempt.
        for client in self._full[1:]:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.server.port))

    def restore(self) -> None:
        for held in self._full:
            held.close()
        super().restore()


class Frozen(FaultyCamera):
    """RTSP server process frozen (SIGSTOP) for less than the timeouts"""

    lasts = (0.5, 3.5)

    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        command = [sys.executable, "-m", "tools.fakes.rtsp_camera"]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        )
        stack.callback(self._process.kill)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def source(self, sample_fps: float) -> Source:
        return open_source(f"rtsp://127.0.0.1:{self._port}/live", sample_fps=sample_fps)

    def inject(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def restore(self) -> None:
        self._process.send_signal(signal.SIGCONT)


class LongFrozen(Frozen):
    """RTSP server process frozen (SIGSTOP) for longer than the timeouts"""

    lasts = (10.5, 14.0)


class Silent(Rtsp):
    """RTSP connected, but no pictures for longer than the timeouts"""

    lasts = (10.5, 14.0)

    def inject(self) -> None:
        self.server.silent = True

    def restore(self) -> None:
        self.server.silent = False


class Broken(Rtsp):
    """RTSP connection broken"""

    def inject(self) -> None:
        self.server.break_connections()


class Switched(Rtsp):
    """RTSP stream changes resolution and rate without a reconnect"""

    def inject(self) -> None:
        self.server.size = (320, 192) if self.server.size == (160, 96) else (160, 96)
        self.server.fps = 15.0 if self.server.fps == 25.0 else 25.0


class ClockSet(Rtsp):
    """RTSP time stamps jump: an hour back, an hour on, to zero"""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self._offsets = itertools.cycle([3600.0, 0.0, 7200.0, 3.0, -5.0])

    def inject(self) -> None:
        self.server.stamp_offset = next(self._offsets)


class Damaged(Rtsp):
    """RTSP packets damaged"""

    lasts = (0.5, 2.0)

    def inject(self) -> None:
        self.server.damage = True

    def restore(self) -> None:
        self.server.damage = False


class Http(FaultyCamera):
    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self.server = stack.enter_context(HttpServer())

    def source(self, sample_fps: float) -> Source:
        return open_source(f"{self.server.url}/mjpeg", sample_fps=sample_fps)


class CutShort(Http):
    """MJPEG over HTTP breaks off inside a picture"""

    def inject(self) -> None:
        self.server.break_once()


class Absent(Http):
    """HTTP answers 404, as a relay does whose camera is away"""

    lasts = (0.5, 4.0)

    def inject(self) -> None:
        self.server.status = 404
        self.server.break_once()

    def restore(self) -> None:
        self.server.status = 200


class UsbCamera(FaultyCamera):
    """A real `V4l2Camera` over a simulated OpenCV capture, as there is no USB device."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self.plugged, self.hangs = True, False
        self.release_hanging = threading.Event()
        stack.callback(self.release_hanging.set)

    def source(self, sample_fps: float) -> Source:
        def open_camera_at(start: float) -> Source:
            return V4l2Camera("usb", self._connect, sample_fps=sample_fps, start=start)

        return LiveSource(open_camera_at, "usb", sample_fps=sample_fps)

    def _connect(self) -> Any:
        if not self.plugged:
            raise Unavailable("there is no camera /dev/video0")
        self.hangs = False  # opening the device again ends the hang
        return _Capture(self)


class Unplugged(UsbCamera):
    """USB camera unplugged and plugged in again (played capture)"""

    lasts = (0.5, 4.0)

    def inject(self) -> None:
        self.plugged = False

    def restore(self) -> None:
        self.plugged = True


class Hanging(UsbCamera):
    """USB driver hangs in a read for 25 s (played; counted from its beginning, the watchdog takes 10 s)"""

    def inject(self) -> None:
        self.hangs = True


class _Capture:
    def __init__(self, camera: UsbCamera) -> None:
        self._camera = camera

    def grab(self) -> bool:
        time.sleep(1 / 25)
        if self._camera.hangs:
            self._camera.release_hanging.wait(25)
            return False
        return self._camera.plugged

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        return True, make_picture(0, (160, 96))

    def release(self) -> None:
        pass


FAULTS: tuple[type[FaultyCamera], ...] = (
    Stopped,
    Swallowed,
    Frozen,
    LongFrozen,
    Silent,
    Broken,
    Switched,
    ClockSet,
    Damaged,
    CutShort,
    Absent,
    Unplugged,
    Hanging,
)


@contextlib.contextmanager
def open_camera(kind: type[FaultyCamera]) -> Iterator[FaultyCamera]:
    """Yield a camera of this kind; everything that it holds is released afterwards."""
    with contextlib.ExitStack() as stack:
        yield kind(stack)
