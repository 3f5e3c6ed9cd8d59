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
STILL = 1.0
"""Seconds after which a live stream's clock that does not advance counts as standing."""
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
        self._highest: Fraction | None = None  # the latest time stamp, and when it came
        self._advanced = 0.0
        self._standing = False
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
        stood = self._stood(stamp)
        if self._offset is None:
            begun = self._start if self._last is None else self._last + self.period
            self._offset = stamp - Fraction(begun)
        t = float(stamp - self._offset)
        if self._last is None:
            return t
        if t < self._last - RESTARTED or (self._live and t > expected + JUMPED):
            log.warning("%s: its clock jumped by %.1f s at %.1f s", self._name, t - expected, expected)
            self._highest, self._advanced = stamp, self._arrival
        elif stood <= STILL:
            self._standing = False
            return max(t, self._last)
        elif not self._standing:
            self._standing = True
            expected = self._last + stood  # the time that it took to notice
        self._offset = stamp - Fraction(expected)
        return expected

    def _stood(self, stamp: Fraction) -> float:
        """Seconds for which a live stream's clock has not advanced though pictures came."""
        if self._highest is None or stamp > self._highest:
            self._highest, self._advanced = stamp, self._arrival
        return self._arrival - self._advanced if self._live else 0.0

    def _say_missing(self) -> None:
        self._missing += 1
        # RTSP has no stamp for the very first picture, which is no reason to warn.
        if self._missing == (2 if self._live else 1):
            how = "by their arrival" if self._live else f"at {1 / self.period:.3g} a second"
            log.warning("%s: pictures without time stamps, timed %s", self._name, how)
