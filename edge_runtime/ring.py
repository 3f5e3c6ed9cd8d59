"""The newest pictures, in RAM only."""

from __future__ import annotations

import threading
from collections import deque

import cv2
import numpy as np

from edge_runtime.frame import Frame

RING_FRAMES = 32
RING_SIDE_PX = 640


class Ring:
    """The newest sampled pictures, in RAM only, at most 640 pixels wide: what a box in "now" refers to."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=RING_FRAMES)
        self._lock = threading.Lock()
        self._hidden = False

    def push(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        scale = RING_SIDE_PX / max(height, width)
        image = frame.image
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
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
