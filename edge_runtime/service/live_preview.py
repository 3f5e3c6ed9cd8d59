"""The picture of now, for people who look: made of what a source decodes anyway, and only while they look.

A privacy zone is burnt in at the camera's own resolution before a picture is shrunk, kept or encoded. Nothing
is done, and nothing is kept, while nobody looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_runtime.frame import Frame
from edge_runtime.imaging.jpeg import encode_jpeg, shrink
from engines.errors import LvmError

SIDE_PX = 1280
"""Larger pictures are shrunk: a page shows no more, and each costs a viewer its bytes."""
WIDTHS_PX = (160, 240, 320, 480, 640, 960, 1280)
"""What is encoded: a few widths, so that several viewers of different windows share their JPEGs."""
MOST_FPS = 15.0
MIN_FPS = 0.2
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
        fps = min(max(fps, MIN_FPS), MOST_FPS)
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

    @property
    def viewers(self) -> int:
        return len(self._rates)

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
