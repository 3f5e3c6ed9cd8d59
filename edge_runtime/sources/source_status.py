"""The status of a live source, for people, programs and the log."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from edge_runtime.frame import Frame

log = logging.getLogger(__name__)

SourceState = Literal["connecting", "live", "stalled", "ended", "failed"]
DropReason = Literal["slow consumer", "reconnect", "privacy pause", "clock"]
"""A live source gives three of them; a privacy pause closes it and is counted by no source."""

LOG_EVERY_S = 60.0
"""A camera that comes and goes every second must not fill a disk with log lines."""
RATE_WINDOW_S = 5.0


@dataclass(frozen=True)
class SourceStatus:
    """A source at one moment. `since` and `last_t` are seconds on the stream's clock."""

    name: str
    state: SourceState
    why: str
    """One sentence without credentials; empty while all is well."""
    since: float
    outage_at: float | None
    """Since when it has given no pictures, seconds since 1970; None while it gives them."""
    reconnects: int
    """Openings after the first one, successful or not."""
    drops: Mapping[str, int]
    """Sampled frames that were read and not delivered, by reason."""
    corrupt: int
    """Packets and pictures that could not be decoded and were skipped."""
    seen: int
    """Pictures decoded, sampled or not."""
    abandoned: int
    """Reads that hang in a driver now, each holding a thread."""
    size: tuple[int, int] | None
    """Width and height of the last frame, pixels."""
    rate: float | None
    """Pictures a second, over the last seconds of being connected."""
    last_t: float | None

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "drops": dict(self.drops)}


class SourceHealth:
    """The changing values behind `SourceStatus`. Its owner guards it with one lock."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.state: SourceState = "connecting"
        self.why = ""
        self.reconnects = 0
        self._drops: Counter[str] = Counter()
        self._since = 0.0
        self._size: tuple[int, int] | None = None
        self._last_t: float | None = None
        self._counts: deque[tuple[float, int]] = deque()
        self._outage_began: float | None = None
        self._outage_at: float | None = None
        self._logged_at: float | None = None

    def enter(self, state: SourceState, why: str, now: float, *, final: bool = False) -> None:
        """Change to `state` at stream second `now`; where it is `final`, an error that is raised says why."""
        if (state, why) == (self.state, self.why):
            return
        if state != self.state:
            self._since = now
        if not final:
            self._log_change(state, why, now)
        self.state, self.why = state, why

    def drop(self, reason: DropReason) -> None:
        """Count a sampled frame that is not delivered."""
        self._drops[reason] += 1

    def note_frame(self, frame: Frame) -> None:
        """Note the size and time of a sampled frame."""
        height, width = frame.image.shape[:2]
        if self._size not in (None, (width, height)):
            log.info("%s: pictures are %d x %d from now on", self._name, width, height)
        self._size, self._last_t = (width, height), frame.t

    def note_seen(self, seen: int, now: float) -> None:
        """Note that this opening has given `seen` pictures so far; called a few times a second."""
        self._counts.append((now, seen))
        while len(self._counts) > 2 and now - self._counts[1][0] >= RATE_WINDOW_S:
            self._counts.popleft()

    def reset_rate(self) -> None:
        self._counts.clear()

    @property
    def rate(self) -> float | None:
        """Pictures a second; None before there is a second of them."""
        if len(self._counts) < 2 or self._counts[-1][0] - self._counts[0][0] < 1.0:
            return None
        (began, first), (ended, last) = self._counts[0], self._counts[-1]
        return (last - first) / (ended - began)

    @property
    def period(self) -> float:
        """Seconds from picture to picture; 0 where that is not known."""
        return 1 / rate if (rate := self.rate) else 0.0

    def snapshot(self, *, seen: int, corrupt: int, abandoned: int) -> SourceStatus:
        """Return the status of this moment, with counts that the owner keeps."""
        return SourceStatus(
            name=self._name,
            state=self.state,
            why=self.why,
            since=self._since,
            outage_at=self._outage_at,
            reconnects=self.reconnects,
            drops=MappingProxyType(dict(self._drops)),
            corrupt=corrupt,
            seen=seen,
            abandoned=abandoned,
            size=self._size,
            rate=self.rate,
            last_t=self._last_t,
        )

    def _log_change(self, state: SourceState, why: str, now: float) -> None:
        if state == "live":
            if self._outage_began is not None:
                log.info("%s: live again after %.1f s", self._name, now - self._outage_began)
            self._outage_began = self._outage_at = None
            return
        if not why or state == "ended":
            return
        if self._outage_began is None:
            self._outage_began, self._outage_at = now, time.time()
        if self._logged_at is None or now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            times = f" (failed {self.reconnects + 1} times)" if self.reconnects else ""
            what = why.removeprefix(f"{self._name} ")  # a sentence may begin with the name, too
            log.warning("%s: %s; it is tried again%s", self._name, what, times)
