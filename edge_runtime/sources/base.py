"""What all sources of frames share: the protocol, a base class, counts, and a tap for live previews.

A source opens its file, device or connection when iteration begins and releases it when iteration ends,
always in the thread that iterates. `close`, from any thread, only sets a flag: no native object is ever freed
while another thread is inside it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from edge_runtime.frame import Frame
from engines.errors import LvmError, Unavailable

log = logging.getLogger(__name__)


class Refused(LvmError):
    """A source that rejects us, or that nothing here can read: trying again soon is useless."""


class Unsupported(Refused, Unavailable):
    """This machine lacks a driver or plugin for a source; somebody has to install it."""


class NoVideo(LvmError):
    """What was opened is in no format that is known, or too damaged to tell."""


class TransportRefused(LvmError):
    """A camera does not send over the transport that was asked for."""


class Recorded(LvmError):
    """An address that was taken for live is a recording: it can be read again, and nothing of it is lost."""


Bookmark = tuple[float, str]
"""A time in seconds, and the name of what a folder showed then: where to go on in it."""


class Source(Protocol):
    """Frames in time order, at the requested rate. Iterating may raise LvmError, one sentence."""

    @property
    def live(self) -> bool:
        """Whether pictures come in real time: a slow consumer must lose some and not lag."""

    @property
    def name(self) -> str:
        """For people and logs; credentials are blanked."""

    @property
    def duration(self) -> float | None:
        """Seconds; None where there is no end or it is unknown."""

    @property
    def seen(self) -> int:
        """Pictures decoded so far, sampled or not."""

    @property
    def errors(self) -> int:
        """Packets and pictures that could not be decoded and were skipped."""

    @property
    def epoch(self) -> float | None:
        """Seconds since 1970 of second 0, where a recording's own names tell it."""

    @property
    def repairs(self) -> Mapping[str, int]:
        """Pictures that were not timed by their own stamp, by what was wrong with it."""

    def bookmark_at(self, t: float) -> Bookmark | None:
        """Return where a folder goes on after `t` seconds; None where the seconds tell it."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield the sampled frames only."""

    def close(self) -> None:
        """End the iteration, from any thread, at the latest when the read in progress times out."""

    def __enter__(self) -> Source: ...

    def __exit__(self, *_: object) -> None: ...


class FrameTap(Protocol):
    """A viewer of all decoded pictures, sampled or not. Both may be called from any thread, never raise."""

    @property
    def active(self) -> bool:
        """Whether the tap would use a picture that comes now."""

    def offer(self, frame: Frame) -> None:
        """Take a picture as it was decoded: no privacy zone is masked yet."""


@runtime_checkable
class Tapped(Protocol):
    """A source that reads more pictures than are sampled, and can show them.

    While `tap.active` it converts the picture that it just decoded and offers it; at all other times a tap
    costs one check a picture.
    """

    tap: FrameTap | None


C = TypeVar("C", bound="Closeable")


class Closeable:
    """A context manager with a flag that ends iterations. A closed object stays closed."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Tally:
    """Counts of one source; `name` is the source's, for the log."""

    name: str
    seen: int = 0
    errors: int = 0
    earlier: int = 0
    """Errors of earlier openings of the same source, for the log."""
    repairs: Counter[str] = field(default_factory=Counter)
    """Pictures that were not timed by their own stamp, by what was wrong with it (`clocks.Repair`)."""

    def skip(self, what: str) -> None:
        """Count something undecodable; log the 1st, 10th, 100th …: a bad cable must not fill a disk."""
        self.errors += 1
        total = self.earlier + self.errors
        if total == 10 ** (len(str(total)) - 1):
            log.warning("%s: %s, skipped (%d so far)", self.name, what, total)


class BaseSource(Closeable):
    """The attributes that all sources of this package share."""

    def __init__(self, name: str, *, live: bool, duration: float | None = None) -> None:
        super().__init__()
        self.name = name
        self.live = live
        self.duration = duration
        self.epoch: float | None = None
        self.tally = Tally(name)
        self.tap: FrameTap | None = None

    @property
    def seen(self) -> int:
        return self.tally.seen

    @property
    def errors(self) -> int:
        return self.tally.errors

    @property
    def repairs(self) -> Mapping[str, int]:
        return dict(self.tally.repairs)  # a copy: other threads read it while this source counts

    def bookmark_at(self, t: float) -> Bookmark | None:
        """Return None: only folders need a bookmark."""
        return None

    @property
    def has_viewer(self) -> bool:
        """Whether the tap would use a picture that comes now, sampled or not."""
        return self.tap is not None and self.tap.active and not self.closed

    def show(self, frame: Frame) -> None:
        """Offer `frame` to the tap. A closed source shows nothing: a driver may return hours later."""
        if self.tap is not None and not self.closed:
            self.tap.offer(frame)
