"""USB and built-in cameras through OpenCV (V4L2), timed by this machine's monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from edge_runtime.frame import Frame
from edge_runtime.imaging.decode import silence_opencv
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.clocks import SampleClock
from engines.errors import LvmError, Unavailable


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Any]: ...  # (H, W, 3) uint8 BGR

    def release(self) -> None: ...


class V4l2Camera(BaseSource):
    """A camera that `connect` opens, at `sample_fps` frames a second.

    `t` is seconds since its first picture plus `start`, taken when the picture arrived. Iterating raises what
    `connect` raises, and LvmError when the camera stops giving pictures.
    """

    def __init__(
        self, name: str, connect: Callable[[], Capture], *, sample_fps: float, start: float = 0.0
    ) -> None:
        super().__init__(name, live=True)
        self._connect, self._sample_fps, self._start = connect, sample_fps, start
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration

    def __iter__(self) -> Iterator[Frame]:
        capture = self._connect()
        try:
            yield from self._frames(capture)
        finally:
            capture.release()

    def _frames(self, capture: Capture) -> Iterator[Frame]:
        clock = SampleClock(self._sample_fps)
        first: float | None = None
        while not self.closed:
            # grab() only waits for the picture; retrieve() pays for decoding and conversion.
            if not capture.grab():
                raise LvmError(f"camera {self.name} gives no more pictures: is it still plugged in?")
            now = time.monotonic()
            first = now if first is None else first
            t = self._start + now - first
            self.tally.seen += 1
            is_sample = clock.accept(t)
            if is_sample or self.has_viewer:
                good, image = capture.retrieve()
                if not good:
                    self.tally.skip("a picture that cannot be decoded")
                    continue
                frame = Frame(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), t)
                self.show(frame)
                if is_sample:
                    yield replace(frame, period=clock.frame_period)


def open_camera(device: int | str, *, sample_fps: float, start: float = 0.0) -> V4l2Camera:
    """Return the V4L2 camera with this number or path. Raises Unavailable where there is none."""
    path = f"/dev/video{device}" if isinstance(device, int) else device
    if not Path(path).exists():
        raise Unavailable(f"there is no camera {path}; this machine has {name_video_devices()}")
    return V4l2Camera(path, lambda: connect_v4l2(path), sample_fps=sample_fps, start=start)


def connect_v4l2(path: str) -> Capture:
    """Open the device. Raises Unavailable where it is not a camera or another program uses it."""
    silence_opencv()
    capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
    if not capture.isOpened():
        capture.release()
        raise Unavailable(
            f"{path} does not open as a camera (another program may use it, or this user may not read it); "
            f"this machine has {name_video_devices()}"
        )
    # One buffer: grab() gives the picture of now, not the oldest of four.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def name_video_devices() -> str:
    """Return the video devices of this machine, for a sentence."""
    paths = sorted(str(path) for path in Path("/dev").glob("video*"))
    return ", ".join(paths) or "no /dev/video* at all"
