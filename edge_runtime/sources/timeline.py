"""From the time stamps of a stream, which may be missing or set anew, to our seconds."""

from __future__ import annotations

import logging
import time
from fractions import Fraction

from av.video.stream import VideoStream

log = logging.getLogger(__name__)

RESTARTED = 1.0
"""Seconds by which time must go back to mean that the clock was set, not that pictures were shuffled."""
JUMPED = 5.0
"""Seconds by which a live stream's clock may run ahead of ours between two pictures."""
USUAL_RATE = Fraction(25)


class Timeline:
    """Seconds since the first picture plus `start`, never going back.

    Pictures without a time stamp are put one average period after the one before; on a live stream, where
    they came. Where the clock of the stream was set (concatenated files, cameras that learn the time), time
    goes on where it was.
    """

    def __init__(self, stream: VideoStream, name: str, *, start: float, live: bool) -> None:
        self._time_base = stream.time_base or Fraction(1, 90_000)
        self.period = float(1 / (stream.average_rate or stream.guessed_rate or USUAL_RATE))
        self._name, self._start, self._live = name, start, live
        self._offset: Fraction | None = None  # seconds of the stream's clock at our zero
        self._last: float | None = None
        self._arrival = 0.0
        self._missing = 0

    def time_of(self, pts: int | None) -> float:
        """Our time of the next picture, whose presentation time in the stream's units is `pts`."""
        expected = self._expected()
        self._last = self._place(pts, expected)
        return self._last

    def ticks(self, t: float) -> int | None:
        """`t` seconds in the stream's units; None before a picture with a time stamp was seen."""
        return None if self._offset is None else int((Fraction(t) + self._offset) / self._time_base)

    def forget_last(self) -> None:
        """The next picture may lie anywhere: for after a seek."""
        self._last = None

    def _expected(self) -> float:
        elapsed = time.monotonic() - self._arrival
        self._arrival += elapsed
        if self._last is None:
            return self._start
        return self._last + (elapsed if self._live else self.period)

    def _place(self, pts: int | None, expected: float) -> float:
        if pts is None:
            self._say_missing()
            return expected
        stamp = pts * self._time_base
        if self._offset is None:
            begun = self._start if self._last is None else self._last + self.period
            self._offset = stamp - Fraction(begun)
        t = float(stamp - self._offset)
        if self._last is None:
            return t
        if t < self._last - RESTARTED or (self._live and t > expected + JUMPED):
            log.warning("%s: its clock jumped by %.1f s at %.1f s", self._name, t - expected, expected)
            self._offset = stamp - Fraction(expected)
            return expected
        return max(t, self._last)

    def _say_missing(self) -> None:
        self._missing += 1
        # RTSP has no stamp for the very first picture, which is no reason to warn.
        if self._missing == (2 if self._live else 1):
            how = "by their arrival" if self._live else f"at {1 / self.period:.3g} a second"
            log.warning("%s: pictures without time stamps, timed %s", self._name, how)
