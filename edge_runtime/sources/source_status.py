"""How a supervised source is doing, for people, programs and the log."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from edge_runtime.frame import Frame

log = logging.getLogger(__name__)

State = Literal["connecting", "live", "stalled", "ended", "failed"]
Drop = Literal["slow consumer", "reconnect", "privacy pause", "clock"]

LOG_EVERY_S = 60.0
"""A camera that comes and goes every second must not fill a disk with saying so."""
RATE_WINDOW_S = 5.0


@dataclass(frozen=True)
class SourceStatus:
    """A moment of a source. `since` and `last_t` are seconds on the stream's clock."""

    name: str
    state: State
    why: str
    """One sentence without credentials; empty while all is well."""
    since: float
    reconnects: int
    """Openings after the first one, successful or not."""
    drops: Mapping[str, int]
    """Sampled frames that nobody got, by reason."""
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


class Health:
    """What `SourceStatus` is made of. Whoever owns it guards it with one lock."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.state: State = "connecting"
        self.why = ""
        self.reconnects = 0
        self.drops: Counter[str] = Counter()
        self._since = 0.0
        self._size: tuple[int, int] | None = None
        self._last_t: float | None = None
        self._counts: deque[tuple[float, int]] = deque()
        self._outage_began: float | None = None
        self._logged_at: float | None = None

    def enter(self, state: State, why: str, now: float) -> None:
        """The source is in this state from stream second `now` on."""
        if (state, why) == (self.state, self.why):
            return
        if state != self.state:
            self._since = now
        self._say(state, why, now)
        self.state, self.why = state, why

    def frame(self, frame: Frame) -> None:
        """A sampled frame has come."""
        height, width = frame.image.shape[:2]
        if self._size not in (None, (width, height)):
            log.info("%s: pictures are %d x %d from now on", self._name, width, height)
        self._size, self._last_t = (width, height), frame.t

    def pictures(self, seen: int, now: float) -> None:
        """`seen` pictures in this opening so far; called a few times a second."""
        self._counts.append((now, seen))
        while len(self._counts) > 2 and now - self._counts[1][0] >= RATE_WINDOW_S:
            self._counts.popleft()

    def forget_rate(self) -> None:
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
        return SourceStatus(
            name=self._name,
            state=self.state,
            why=self.why,
            since=self._since,
            reconnects=self.reconnects,
            drops=MappingProxyType(dict(self.drops)),
            corrupt=corrupt,
            seen=seen,
            abandoned=abandoned,
            size=self._size,
            rate=self.rate,
            last_t=self._last_t,
        )

    def _say(self, state: State, why: str, now: float) -> None:
        if state == "live":
            if self._outage_began is not None:
                log.info("%s: live again after %.1f s", self._name, now - self._outage_began)
            self._outage_began = None
            return
        if not why or state == "ended":
            return
        if self._outage_began is None:
            self._outage_began = now
        if self._logged_at is None or now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            log.warning("%s: %s; it is tried again (opened %d times)", self._name, why, self.reconnects + 1)
