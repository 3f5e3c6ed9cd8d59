"""One clock for a camera's whole life: its own time stamps tell the distances, ours tell where they lie."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.sources.base import SAME_INSTANT

Clock = Callable[[], float]

WINDOW_S = 30.0
"""A camera's clock that is slower than ours shows as lag that never falls to zero for this long."""
JITTER_S = 0.05
"""How exactly an arrival tells when a picture was taken; less than this ahead of our clock is no fault."""


def boot_time() -> float:
    """Seconds that no setting of the wall clock moves, and that go on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class StreamClock:
    """Places the frames of one opening after another on seconds that only go forward.

    A source counts from wherever it likes; its distances are exact, since they come from the camera. Each
    opening is anchored where it really began, so an outage is as long here as it was. A picture cannot arrive
    before it was taken: what lies ahead of our clock moves the anchor back. What stands still or goes back
    is anchored anew. Anchors move by whole ticks of 1/5 s, so that frames at 5 a second keep falling into
    ticks of their own.
    """

    def __init__(self, sample_fps: float, *, start: float = 0.0, clock: Clock = boot_time) -> None:
        self._clock, self._zero = clock, clock() - start
        self._closest = 0.5 / sample_fps
        self._offset: float | None = None
        self._last_in: float | None = None
        self._last_out: float | None = None
        self._least_lag, self._window_began = math.inf, 0.0
        self.lag = 0.0
        """Seconds by which the last frame lay behind our clock."""

    def now(self) -> float:
        """Seconds of the stream at this moment."""
        return self._clock() - self._zero

    def begin(self) -> None:
        """What comes next is of a new opening."""
        self._offset = self._last_in = None

    def place(self, t: float) -> float | None:
        """Stream seconds of a frame that arrives now and that its source puts at `t`.

        None where it lies less than half a sampling period after the last one, or before it.
        """
        now = self.now()
        if self._offset is None or (self._last_in is not None and t <= self._last_in):
            self._anchor(now, t)
        elif t + self._offset > now + JITTER_S:
            self._offset += _whole_ticks(now - t - self._offset)
        self._last_in = t
        placed = t + (self._offset or 0.0)
        self.lag = now - placed
        self._follow_drift(now)
        if self._last_out is not None and placed < self._last_out + self._closest:
            return None
        self._last_out = placed
        return placed

    def catch_up(self) -> None:
        """Believe our clock, not the camera's: the next frame is from now."""
        self._last_in = math.inf

    def _anchor(self, now: float, t: float) -> None:
        self._offset = _whole_ticks(now - t)
        self._least_lag, self._window_began = math.inf, now

    def _follow_drift(self, now: float) -> None:
        """Quartz differs by some seconds a day: follow it, by a tick when it has come to one."""
        self._least_lag = min(self._least_lag, self.lag)
        if now - self._window_began >= WINDOW_S:
            if self._offset is not None and self._least_lag > 1.5 / TICKS_PER_SECOND:
                self._offset += 1 / TICKS_PER_SECOND
            self._least_lag, self._window_began = math.inf, now


def _whole_ticks(seconds: float) -> float:
    return math.floor(seconds * TICKS_PER_SECOND + SAME_INSTANT) / TICKS_PER_SECOND
