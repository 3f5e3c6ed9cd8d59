"""Clocks of a stream, in the order in which a picture passes them.

`PtsClock` turns the presentation time stamps (PTS) of a file or stream into seconds, `SampleClock` says which
pictures are sampled, and `StreamClock` places the frames of a live source, which is opened again after each
failure, on one scale that only goes forward.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from edge_runtime.frame import TICKS_PER_SECOND

if TYPE_CHECKING:
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

Clock = Callable[[], float]

# -- PTS to seconds ----------------------------------------------------------------------------------------

RESTARTED_S = 1.0
"""Time that goes back by more than this means that the clock was set, not that pictures were reordered."""
JUMPED_S = 5.0
"""A live stream's clock that runs ahead of ours by more than this between two pictures was set."""
FROZEN_S = 1.0
"""A live stream's clock that does not advance for this long counts as frozen."""
DEFAULT_RATE = Fraction(25)


class PtsClock:
    """Seconds since the first picture plus `start`; never goes back.

    A picture without a time stamp comes one average period after the previous one; on a live stream, when it
    arrives. Where the clock of the stream was set (concatenated files, cameras that synchronise their time),
    time continues from where it was.
    """

    def __init__(self, stream: VideoStream, name: str, *, start: float, live: bool) -> None:
        self._time_base = stream.time_base or Fraction(1, 90_000)
        self.period = float(1 / (stream.average_rate or stream.guessed_rate or DEFAULT_RATE))
        self._name, self._start, self._live = name, start, live
        self._offset: Fraction | None = None  # seconds of the stream's clock at our zero
        self._last: float | None = None
        self._arrival = 0.0
        self._highest: Fraction | None = None  # the latest time stamp, and when it came
        self._advanced = 0.0
        self._frozen = False
        self._missing = 0

    def to_seconds(self, pts: int | None) -> float:
        """Return our time of the next picture, whose presentation time in the stream's units is `pts`."""
        elapsed = time.monotonic() - self._arrival
        self._arrival += elapsed
        if self._last is None:
            expected = self._start
        else:
            expected = self._last + (elapsed if self._live else self.period)
        self._last = self._place(pts, expected)
        return self._last

    def to_pts(self, t: float) -> int | None:
        """Return `t` seconds in the stream's units; None before a picture with a time stamp was seen."""
        return None if self._offset is None else int((Fraction(t) + self._offset) / self._time_base)

    def reset_last(self) -> None:
        """Allow any time for the next picture, as after a seek."""
        self._last = None

    def _place(self, pts: int | None, expected: float) -> float:
        if pts is None:
            self._warn_missing()
            return expected
        stamp = pts * self._time_base
        frozen_s = self._frozen_for(stamp)
        if self._offset is None:
            begun = self._start if self._last is None else self._last + self.period
            self._offset = stamp - Fraction(begun)
        t = float(stamp - self._offset)
        if self._last is None:
            return t
        if t < self._last - RESTARTED_S or (self._live and t > expected + JUMPED_S):
            log.warning("%s: its clock jumped by %.1f s at %.1f s", self._name, t - expected, expected)
            self._highest, self._advanced = stamp, self._arrival
        elif frozen_s <= FROZEN_S:
            self._frozen = False
            return max(t, self._last)
        elif not self._frozen:
            self._frozen = True
            expected = self._last + frozen_s  # the time that it took to notice
        self._offset = stamp - Fraction(expected)
        return expected

    def _frozen_for(self, stamp: Fraction) -> float:
        """Return for how many seconds a live stream's clock has not advanced although pictures came."""
        if self._highest is None or stamp > self._highest:
            self._highest, self._advanced = stamp, self._arrival
        return self._arrival - self._advanced if self._live else 0.0

    def _warn_missing(self) -> None:
        self._missing += 1
        # RTSP has no stamp for the very first picture, which is no reason to warn.
        if self._missing == (2 if self._live else 1):
            how = "by their arrival" if self._live else f"at {1 / self.period:.3g} a second"
            log.warning("%s: pictures without time stamps, timed %s", self._name, how)


# -- sampling ----------------------------------------------------------------------------------------------

SAME_INSTANT = 1e-6
"""Fraction of a sampling period below which two times are the same: float noise, never a real interval."""


PACE_PICTURES = 8
PACE_MIN_DISTANCES = 3
"""From so many distances on between pictures, up to the newest eight, a source has a pace."""
IRREGULAR = 0.25
REGULAR_SHARE = 0.75
"""So many of the distances must differ from the usual one by at most so much of it."""
SAME_PACE = 0.005
"""A source whose pictures are a sampling period apart within so much of it gives one in each."""
MAX_FRAME_PERIOD_S = 3600.0
"""A picture stands for an hour at most, however rarely a source gives one."""


class SampleClock:
    """Samples pictures at `fps`: the first one at or after each multiple of 1/fps since zero.

    Variable frame rates and gaps come out right, and no period ever gets two frames.
    """

    def __init__(self, fps: float) -> None:
        if not 0 < fps < math.inf:
            raise ValueError(f"sampling rate must be a positive number of frames a second, got {fps}")
        self._fps = fps
        self._last: int | None = None
        self._newest: tuple[float, ...] = ()  # times of pictures; replaced, as several threads may read it

    def period_index(self, t: float) -> int:
        """Return the number of the period that `t` seconds lies in."""
        return math.floor(t * self._fps + SAME_INSTANT)

    def period_start(self, t: float) -> float:
        """Return the seconds at which the period of `t` begins, never later than `t`."""
        return min(t, self.period_index(t) / self._fps)

    def accept(self, t: float) -> bool:
        """Return whether the picture at `t` seconds is a sample. Call once a picture, in time order."""
        self._newest = (*self._newest[-PACE_PICTURES:], t)
        period = self.period_index(t)
        if self._last is not None and period <= self._last:
            return False
        self._last = period
        return True

    @property
    def frame_period(self) -> float | None:
        """Seconds that a sampled frame stands for; None before there are enough pictures to tell.

        That is one sampling period, or of a slower source the usual distance of its pictures. Of one that is
        barely faster, now and then two pictures lie in one sampling period and only the first is a sample.
        Then the next one comes up to two periods later and nothing is missing, so a frame stands for longer.
        """
        period = 1 / self._fps
        distances = sorted(b - a for a, b in zip(self._newest, self._newest[1:], strict=False))
        if len(distances) < PACE_MIN_DISTANCES:
            return None
        usual = distances[len(distances) // 2]
        regular = sum(abs(distance - usual) <= IRREGULAR * usual for distance in distances)
        if regular < REGULAR_SHARE * len(distances):
            return period
        if abs(usual / period - 1) <= SAME_PACE:
            return period
        if usual > period:
            return min(round(usual, 3), MAX_FRAME_PERIOD_S)
        return max(period, round((period + usual) / 1.5, 3))  # half as much again is no gap


# -- one scale for all openings of a live source -----------------------------------------------------------

WINDOW_S = 30.0
"""A camera's clock that is slower than ours shows as lag that never falls to zero for this long."""
JITTER_S = 0.05
"""How exactly an arrival tells when a picture was taken; less than this ahead of our clock is no fault."""


def boot_time() -> float:
    """Return seconds that no setting of the wall clock changes and that go on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class StreamClock:
    """Places the frames of one opening after another on seconds that only go forward.

    A source may count from any zero; its distances are exact, since they come from the camera. Each opening
    is anchored at the time when it really began, so an outage is as long here as it was. A picture cannot
    arrive before it was taken: a time ahead of our clock moves the anchor back. A time that stands still or
    goes back is anchored again. Anchors move by whole ticks of 1/5 s, so that each of 5 frames a second keeps
    a tick of its own.
    """

    def __init__(self, sample_fps: float, *, start: float = 0.0, clock: Clock = boot_time) -> None:
        self._clock, self._zero = clock, clock() - start
        self._min_gap = 0.5 / sample_fps
        self._offset: float | None = None
        self._last_in: float | None = None
        self._last_out: float | None = None
        self._min_lag, self._window_began = math.inf, 0.0
        self.lag = 0.0
        """Seconds by which the last frame lay behind our clock."""

    def now(self) -> float:
        """Return the seconds of the stream at this moment."""
        return self._clock() - self._zero

    def begin_opening(self) -> None:
        """Anchor the next frame again: it belongs to a new opening."""
        self._offset = self._last_in = None

    def place(self, t: float) -> float | None:
        """Return the stream seconds of a frame that arrives now and that its source puts at `t`.

        None where it lies less than half a sampling period after the last frame, or before it.
        """
        now = self.now()
        if self._offset is None or (self._last_in is not None and t <= self._last_in):
            self._offset = _floor_to_ticks(now - t)
            self._min_lag, self._window_began = math.inf, now
        elif t + self._offset > now + JITTER_S:
            self._offset += _floor_to_ticks(now - t - self._offset)
        self._last_in = t
        placed = t + self._offset
        self.lag = now - placed
        self._follow_drift(now)
        if self._last_out is not None and placed < self._last_out + self._min_gap:
            return None
        self._last_out = placed
        return placed

    def catch_up(self) -> None:
        """Trust our clock and not the camera's: the next frame is from now."""
        self._last_in = math.inf

    def _follow_drift(self, now: float) -> None:
        """Follow a camera's quartz, which differs by some seconds a day, in steps of one tick."""
        self._min_lag = min(self._min_lag, self.lag)
        if now - self._window_began >= WINDOW_S:
            if self._offset is not None and self._min_lag > 1.5 / TICKS_PER_SECOND:
                self._offset += 1 / TICKS_PER_SECOND
            self._min_lag, self._window_began = math.inf, now


def _floor_to_ticks(seconds: float) -> float:
    return math.floor(seconds * TICKS_PER_SECOND + SAME_INSTANT) / TICKS_PER_SECOND
