"""Hold the pictures of one camera in RAM: the newest sampled frames, for questions, and a live preview.

The preview is made of what a source decodes anyway, and only while somebody watches it. A privacy zone is
masked at the camera's own resolution before a picture is shrunk, stored or encoded. No picture is ever
written to a disk.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from edge_runtime.frame import Frame
from edge_runtime.imaging.jpeg import encode_jpeg, shrink
from edge_runtime.persistence import Header
from edge_runtime.privacy.zones import Zones
from edge_runtime.query.timestamps import format_instant
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.sources import read_frame_at
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError

SIDE_PX = 1280
"""Larger pictures are shrunk: a page shows no more, and each costs a viewer its bytes."""
WIDTHS_PX = (160, 240, 320, 480, 640, 960, 1280)
"""Widths that are encoded: a few, so that several viewers with different windows share their JPEGs."""
MIN_FPS, MAX_FPS = 0.2, 15.0
MAX_VIEWERS = 4
"""Viewers of one camera at a time."""
RING_FRAMES = 32
RING_SIDE_PX = 640


class TooManyViewers(LvmError):
    """The camera has as many viewers as it may have."""


class Picture:
    """A picture with its zones masked. A JPEG of each width is made once, for the first who asks."""

    def __init__(self, frame: Frame) -> None:
        self.frame = Frame(shrink(frame.image, SIDE_PX), frame.t)
        self._jpegs: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @property
    def t(self) -> float:
        return self.frame.t

    def jpeg(self, width: int) -> bytes:
        """Return a JPEG with the smallest of `WIDTHS_PX` from `width` up, never wider than the picture."""
        side = next((px for px in WIDTHS_PX if px >= width), WIDTHS_PX[-1])
        with self._lock:
            if side not in self._jpegs:
                height, full = self.frame.image.shape[:2]
                self._jpegs[side] = encode_jpeg(shrink(self.frame.image, side * max(1.0, height / full)))
            return self._jpegs[side]


class Preview:
    """The newest picture of one camera, for up to four viewers. A `Tap` of the source; safe for all threads.

    `mask` masks the camera's zones in a frame; it is the first thing that happens to a frame.
    """

    def __init__(self, mask: Callable[[Frame], Frame]) -> None:
        self._mask = mask
        self._lock = threading.Lock()
        self._rates: list[float] = []
        """Pictures a second for each viewer."""
        self._picture: Picture | None = None
        self._hidden = False
        self._era = 0
        """Changes whenever a picture under way must not be shown any more."""
        self._due = 0.0

    # -- for a source --------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        return bool(self._rates) and not self._hidden and time.monotonic() >= self._due

    def offer(self, frame: Frame) -> None:
        """Take a picture as it was decoded."""
        if (era := self._claim(frame.t)) is not None:
            self._show(Picture(self._mask(frame)), era)

    def offer_masked(self, frame: Frame) -> None:
        """Take a sampled picture with its zones masked: all there is from a source without a tap."""
        if (era := self._claim(frame.t)) is not None:
            self._show(Picture(frame), era)

    def _claim(self, t: float) -> int | None:
        """Return the era, and set when the next picture is due; None where this one is not to be shown."""
        with self._lock:
            if not self.active or (self._picture is not None and t <= self._picture.t):
                return None
            # From the time when it was due, so that a camera's own rate does not round ours down.
            period, now = 1 / max(self._rates), time.monotonic()
            self._due = max(self._due + period, now - period)
            return self._era

    def _show(self, picture: Picture, era: int) -> None:
        with self._lock:
            if era == self._era and self._rates:
                self._picture = picture

    # -- for viewers ---------------------------------------------------------------------------------------

    @contextmanager
    def watch(self, fps: float) -> Iterator[None]:
        """Have pictures made, at most `fps` a second. Raises TooManyViewers."""
        fps = min(max(fps, MIN_FPS), MAX_FPS)
        with self._lock:
            if len(self._rates) >= MAX_VIEWERS:
                raise TooManyViewers(
                    f"at most {MAX_VIEWERS} viewers can watch one camera live; close another page"
                )
            self._rates.append(fps)
        try:
            yield
        finally:
            with self._lock:
                self._rates.remove(fps)
                if not self._rates:
                    self._picture = None

    def newest(self) -> Picture | None:
        """Return the newest picture; None without viewers, before the first picture and while hidden."""
        return self._picture

    # -- privacy -------------------------------------------------------------------------------------------

    def hide(self, hidden: bool) -> None:
        """While hidden, take no picture, nor one that is under way."""
        with self._lock:
            self._hidden = hidden
            self._era += 1
            self._picture = None

    def clear(self) -> None:
        """Drop the picture, and one under way: it must not be shown with the old zones."""
        with self._lock:
            self._era += 1
            self._picture = None


class FrameRing:
    """The newest sampled frames in RAM, at most 640 pixels wide: what a box in "now" refers to."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=RING_FRAMES)
        self._lock = threading.Lock()
        self._hidden = False

    def push(self, frame: Frame) -> None:
        image = shrink(frame.image, RING_SIDE_PX)
        with self._lock:
            if not self._hidden:
                self._frames.append(Frame(image, frame.t, frame.period))

    def hide(self, hidden: bool) -> None:
        """While hidden, hold no frame and take none, nor one that is under way."""
        with self._lock:
            self._hidden = hidden
            if hidden:
                self._frames.clear()

    def forget(self, start: float, end: float) -> int:
        """Drop the frames of [start, end) seconds. Returns how many."""
        with self._lock:
            frames = [frame for frame in self._frames if not start <= frame.t < end]
            dropped = len(self._frames) - len(frames)
            self._frames = deque(frames, maxlen=RING_FRAMES)
        return dropped

    def find(self, t: float, period: float = math.inf) -> Frame | None:
        """Return the frame on display at `t`, None where it is not (or no longer) here.

        A frame is on display for `period` seconds, or for its own where its source is slower.
        """
        with self._lock:
            frames = list(self._frames)
        frame = next((frame for frame in reversed(frames) if frame.t <= t + 1e-6), None)
        return frame if frame is not None and t - frame.t <= max(period, frame.period or 0.0) else None


class PicturedCamera(Protocol):
    """What `Pictures` needs of its camera. The zones may change from one picture to the next."""

    settings: CameraSettings
    header: Header

    @property
    def zones(self) -> Zones: ...

    @property
    def paused(self) -> bool: ...


class Pictures:
    """All pictures of one camera, for any thread. None of them is ever written to a disk."""

    def __init__(self, camera: PicturedCamera) -> None:
        self._camera = camera
        self.ring = FrameRing()
        self.preview = Preview(lambda frame: camera.zones.mask_frame(frame))

    def push(self, frame: Frame) -> None:
        """Add a sampled frame that is now remembered, its zones masked."""
        self.ring.push(frame)
        if self.preview.active:
            self.preview.offer_masked(frame)

    def read_at(self, t: float) -> Frame:
        """Return the picture on display at `t`, read from the source again where it is not in RAM.

        Raises QueryError.
        """
        frame = self.ring.find(t, 1 / self._camera.header.sample_fps)
        if frame is not None:
            return frame
        if self._camera.paused:
            raise QueryError("watching is paused for privacy: no picture is read again; ask with a photo")
        try:
            source, connection = self._camera.settings.source, self._camera.settings.connection
            header = self._camera.header
            opening = connection.supervise(header.source_kind, first_must_open=False)
            frame = read_frame_at(source, t, settings=replace(opening, epoch=header.recording_epoch))
            return self._camera.zones.mask_frame(frame)
        except LvmError as error:
            raise QueryError(
                f"the picture at {format_instant(t, header.clock)} is no longer here ({error})"
            ) from error

    def newest(self) -> Picture | None:
        """Return the preview's picture, else the newest sampled frame; None where there is neither."""
        picture = self.preview.newest()
        frame = self.ring.find(math.inf)
        if picture is not None and (frame is None or frame.t <= picture.t):
            return picture
        return None if frame is None else Picture(frame)

    # -- privacy -------------------------------------------------------------------------------------------

    def hide(self, hidden: bool) -> None:
        """While hidden, hold no picture and take none."""
        self.ring.hide(hidden)
        self.preview.hide(hidden)

    def forget(self, start: float, end: float) -> None:
        """Drop the pictures of [start, end) seconds, and the preview's."""
        self.ring.forget(start, end)
        self.preview.clear()

    def clear(self) -> None:
        """Drop all pictures, because the zones have changed."""
        self.forget(-math.inf, math.inf)
