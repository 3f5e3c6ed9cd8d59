"""What every source of frames has in common: the protocol, the sampling clock, names without passwords.

A source opens its file, device or connection when iteration begins and gives it back when iteration ends,
always in the thread that iterates. So `close`, from any thread, only has to raise a flag: nothing native is
ever freed under the feet of a thread that is inside it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar

from edge_runtime.frame import Frame
from edge_runtime.sources.frame_tap import Tap
from engines.errors import LvmError, Missing

log = logging.getLogger(__name__)

SAME_INSTANT = 1e-6
"""Fraction of a sampling period below which two times are the same: float noise, never a real interval."""


class Refused(LvmError):
    """A source that does not want us, or that nothing here can read: asking again soon is no use."""


class Unsupported(Refused, Missing):
    """This machine lacks a driver or plugin for a source, and will until somebody installs it."""


class Source(Protocol):
    """Frames in time order, at the rate that was asked for. Iterating may raise LvmError, one sentence."""

    @property
    def live(self) -> bool:
        """True where pictures come when they come: a slow consumer must lose some, not lag."""

    @property
    def name(self) -> str:
        """For people and logs; credentials are blanked."""

    @property
    def duration(self) -> float | None:
        """Seconds; None where there is no end or nobody knows it."""

    @property
    def seen(self) -> int:
        """Pictures decoded so far, sampled or not."""

    @property
    def errors(self) -> int:
        """Packets and pictures that could not be decoded and were skipped."""

    def __iter__(self) -> Iterator[Frame]:
        """The sampled frames only."""

    def close(self) -> None:
        """End the iteration, from any thread, at the latest when the read that is under way times out."""

    def __enter__(self) -> Source: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


C = TypeVar("C", bound="Closing")


class Closing:
    """A context manager with a flag that ends iterations. What is closed stays closed."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Tally:
    """What a source counts. `name` is the source's, for the log."""

    name: str
    seen: int = 0
    errors: int = 0

    def skip(self, what: str) -> None:
        """Count something undecodable; logged at the 1st, 10th, 100th … so that bad cables fill no disk."""
        self.errors += 1
        if self.errors == 10 ** (len(str(self.errors)) - 1):
            log.warning("%s: %s, skipped (%d so far)", self.name, what, self.errors)


class Counting(Closing):
    """The attributes that all sources of this package share."""

    def __init__(self, name: str, *, live: bool, duration: float | None = None) -> None:
        super().__init__()
        self.name = name
        self.live = live
        self.duration = duration
        self.tally = Tally(name)
        self.tap: Tap | None = None

    @property
    def seen(self) -> int:
        return self.tally.seen

    @property
    def errors(self) -> int:
        return self.tally.errors

    @property
    def watched(self) -> bool:
        """Whether somebody would look at a picture that comes now, sampled or not."""
        return self.tap is not None and self.tap.wanted and not self.closed

    def show(self, frame: Frame) -> None:
        """To those who look. What was closed shows nothing: a driver may come back hours later."""
        if self.tap is not None and not self.closed:
            self.tap.offer(frame)


class SampleClock:
    """Which pictures count at `fps`: the first one at or after each multiple of 1/fps since zero.

    So variable frame rates and gaps come out right, and no period ever gets two frames.
    """

    def __init__(self, fps: float) -> None:
        if not 0 < fps < math.inf:
            raise ValueError(f"sampling rate must be a positive number of frames a second, got {fps}")
        self._fps = fps
        self._last: int | None = None

    def period_of(self, t: float) -> int:
        """Number of the period that `t` seconds lies in."""
        return math.floor(t * self._fps + SAME_INSTANT)

    def start_of_period(self, t: float) -> float:
        """Seconds at which the period of `t` begins, never later than `t`."""
        return min(t, self.period_of(t) / self._fps)

    def wants(self, t: float) -> bool:
        """Whether the picture at `t` seconds is a sample. Ask once for each picture, in time order."""
        period = self.period_of(t)
        if self._last is not None and period <= self._last:
            return False
        self._last = period
        return True
