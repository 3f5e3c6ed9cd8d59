"""The pictures of one camera in RAM: the newest sampled ones, to ask about, and that of now, to look at."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Protocol

from edge_runtime.frame import Frame
from edge_runtime.imaging.jpeg import shrink
from edge_runtime.persistence import Header
from edge_runtime.privacy.zones import Zones
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.live_preview import Picture, Preview
from edge_runtime.sources import read_frame_at
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError


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
