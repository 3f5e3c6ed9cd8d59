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
from typing import Protocol

from edge_runtime.frame import Frame
from edge_runtime.imaging.jpeg import encode_jpeg, shrink
from edge_runtime.persistence import Header
from edge_runtime.privacy.zones import Zones
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.sources import read_frame_at
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError

SIDE_PX = 1280
"""Larger pictures are shrunk: a page shows no more, and each costs a viewer its bytes."""
WIDTHS_PX = (160, 240, 320, 480, 640, 960, 1280)
"""What is encoded: a few widths, so that several viewers of different windows share their JPEGs."""
MOST_FPS = 15.0
LEAST_FPS = 0.2
MOST_VIEWERS = 4
"""Of one camera at a time."""


class TooMany(LvmError):
    """As many people look at this camera as may."""


class Picture:
    """One picture of now, zones burnt in. A JPEG of each width is made once, for whoever asks first."""

    def __init__(self, frame: Frame) -> None:
        self.frame = Frame(shrink(frame.image, SIDE_PX), frame.t)
        self._jpegs: dict[int, bytes] = {}
        self._lock = threading.Lock()

    @property
    def t(self) -> float:
        return self.frame.t

    def jpeg(self, width: int) -> bytes:
        """As JPEG, of the least of `WIDTHS_PX` that is not below `width`, never wider than the picture is."""
        side = next((one for one in WIDTHS_PX if one >= width), WIDTHS_PX[-1])
        with self._lock:
            if side not in self._jpegs:
                height, full = self.frame.image.shape[:2]
                self._jpegs[side] = encode_jpeg(shrink(self.frame.image, side * max(1.0, height / full)))
            return self._jpegs[side]


class Preview:
    """The newest picture of one camera, for up to four viewers. A tap; safe for all threads.

    `veil` burns the camera's zones into a frame and is the first that happens to one.
    """

    def __init__(self, veil: Callable[[Frame], Frame]) -> None:
        self._veil = veil
        self._lock = threading.Lock()
        self._rates: list[float] = []
        """Pictures a second that each viewer wants."""
        self._picture: Picture | None = None
        self._hidden = False
        self._era = 0
        """Changes whenever what is on its way must not be shown any more."""
        self._due = 0.0

    # -- for a source --------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        return bool(self._rates) and not self._hidden and time.monotonic() >= self._due

    def offer(self, frame: Frame) -> None:
        """A picture as it was decoded."""
        if (era := self._claimed(frame.t)) is not None:
            self._show(Picture(self._veil(frame)), era)

    def offer_veiled(self, frame: Frame) -> None:
        """A sampled picture, its zones burnt in: all there is of a source that shows nothing in between."""
        if (era := self._claimed(frame.t)) is not None:
            self._show(Picture(frame), era)

    def _claimed(self, t: float) -> int | None:
        """The era, and the next picture is due later; None where this one is not wanted, or not new."""
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
    def looking(self, fps: float) -> Iterator[None]:
        """While inside, pictures are made, at most `fps` a second. Raises TooMany."""
        fps = min(max(fps, LEAST_FPS), MOST_FPS)
        with self._lock:
            if len(self._rates) >= MOST_VIEWERS:
                raise TooMany(f"at most {MOST_VIEWERS} viewers can watch one camera live; close another page")
            self._rates.append(fps)
        try:
            yield
        finally:
            with self._lock:
                self._rates.remove(fps)
                if not self._rates:
                    self._picture = None

    def newest(self) -> Picture | None:
        """None while nobody looks, nothing came yet, or it is hidden."""
        return self._picture

    # -- privacy -------------------------------------------------------------------------------------------

    def hide(self, hidden: bool) -> None:
        """While hidden it takes nothing in, also not what was on its way."""
        with self._lock:
            self._hidden = hidden
            self._era += 1
            self._picture = None

    def clear(self) -> None:
        """Let go of the picture, also of one on its way: it must not be shown as it was veiled."""
        with self._lock:
            self._era += 1
            self._picture = None


class Watching(Protocol):
    """The camera whose pictures these are. Its zones may be others from one picture to the next."""

    settings: CameraSettings
    header: Header

    @property
    def zones(self) -> Zones: ...

    @property
    def paused(self) -> bool: ...


class Pictures:
    """For any thread. None of them is ever written to a disk."""

    def __init__(self, camera: Watching) -> None:
        self._camera = camera
        self.ring = Ring()
        self.preview = Preview(lambda frame: camera.zones.mask_frame(frame))

    def push(self, frame: Frame) -> None:
        """A sampled frame that is now remembered, zones burnt in."""
        self.ring.push(frame)
        if self.preview.active:
            self.preview.offer_veiled(frame)

    def at(self, t: float) -> Frame:
        """The picture shown at `t`, read again where it is no longer here. Raises QueryError."""
        frame = self.ring.at(t)
        if frame is not None and t - frame.t <= 1 / self._camera.header.sample_fps:
            return frame
        if self._camera.paused:
            raise QueryError("watching is paused for privacy: no picture is read again; ask with a photo")
        try:
            return self._camera.zones.mask_frame(read_frame_at(self._camera.settings.source, t))
        except LvmError as error:
            raise QueryError(f"the picture at {t:g} s is no longer here ({error})") from error

    def newest(self) -> Picture | None:
        """That of now while somebody looks, else the newest sampled one; None where there is none."""
        picture = self.preview.newest()
        frame = self.ring.at(math.inf)
        if picture is not None and (frame is None or frame.t <= picture.t):
            return picture
        return None if frame is None else Picture(frame)

    # -- privacy -------------------------------------------------------------------------------------------

    def hide(self, hidden: bool) -> None:
        """While hidden there are none, and none is taken in."""
        self.ring.hide(hidden)
        self.preview.hide(hidden)

    def forget(self, start: float, end: float) -> None:
        """Let go of the pictures of [start, end) seconds, and of that of now."""
        self.ring.forget(start, end)
        self.preview.clear()

    def clear(self) -> None:
        """Let go of all: the zones are others now."""
        self.forget(-math.inf, math.inf)


RING_FRAMES = 32


RING_SIDE_PX = 640


class Ring:
    """The newest sampled pictures, in RAM only, at most 640 pixels wide: what a box in "now" refers to."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=RING_FRAMES)
        self._lock = threading.Lock()
        self._hidden = False

    def push(self, frame: Frame) -> None:
        image = shrink(frame.image, RING_SIDE_PX)
        with self._lock:
            if not self._hidden:
                self._frames.append(Frame(image, frame.t))

    def hide(self, hidden: bool) -> None:
        """While hidden it is empty and takes nothing in, also not what was on its way."""
        with self._lock:
            self._hidden = hidden
            if hidden:
                self._frames.clear()

    def forget(self, start: float, end: float) -> int:
        """Let go of the pictures of [start, end) seconds. Returns how many."""
        with self._lock:
            kept = [frame for frame in self._frames if not start <= frame.t < end]
            gone = len(self._frames) - len(kept)
            self._frames = deque(kept, maxlen=RING_FRAMES)
        return gone

    def at(self, t: float) -> Frame | None:
        """The picture shown at `t`, None if it is not (or no longer) here."""
        with self._lock:
            frames = list(self._frames)
        shown = [frame for frame in frames if frame.t <= t + 1e-6]
        return shown[-1] if shown else None
