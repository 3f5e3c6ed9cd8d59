"""The pictures of one camera in RAM: the newest sampled ones, to ask about, and that of now, to look at."""

from __future__ import annotations

import math
from typing import Protocol

from edge_runtime.camera_settings import CameraSettings
from edge_runtime.frame import Frame
from edge_runtime.preview import Picture, Preview
from edge_runtime.privacy.zones import Zones
from edge_runtime.queries import QueryError
from edge_runtime.ring import Ring
from edge_runtime.sources import frame_at
from edge_runtime.state import Header
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
        self.preview = Preview(lambda frame: camera.zones.burn(frame))

    def push(self, frame: Frame) -> None:
        """A sampled frame that is now remembered, zones burnt in."""
        self.ring.push(frame)
        if self.preview.wanted:
            self.preview.offer_veiled(frame)

    def at(self, t: float) -> Frame:
        """The picture shown at `t`, read again where it is no longer here. Raises QueryError."""
        frame = self.ring.at(t)
        if frame is not None and t - frame.t <= 1 / self._camera.header.sample_fps:
            return frame
        if self._camera.paused:
            raise QueryError("watching is paused for privacy: no picture is read again; ask with a photo")
        try:
            return self._camera.zones.burn(frame_at(self._camera.settings.source, t))
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
