"""What happens, told to whoever wants to know: doors subscribe, cameras and recognisers publish.

A subscriber that does not keep up loses its oldest events, counted; it never delays whoever publishes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

KEPT = 256
"""Events that wait for a subscriber, unless it asks for another number."""


@dataclass(frozen=True)
class Event:
    """Something that began, changed or ended.

    `kind` is what it is about: "activity" (a recognised one), "camera" (its condition), "answer",
    "privacy" (something was forgotten). `before` and `after` are the same JSON object at the two moments,
    None where there is none; `at` is seconds since 1970.
    """

    kind: str
    type: Literal["new", "update", "end"]
    camera: str | None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    at: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Subscription:
    """Events since it began, in order. `lost` counts those that came too fast."""

    def __init__(self, most: int, woken: Callable[[], None] | None) -> None:
        self.lost = 0
        self._events: deque[Event] = deque(maxlen=most)
        self._woken = woken
        self._some = threading.Condition()

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None where none has come within `timeout` seconds (0: does not wait)."""
        with self._some:
            self._some.wait_for(lambda: self._events, timeout)
            return self._events.popleft() if self._events else None

    def _put(self, event: Event) -> None:
        with self._some:
            self.lost += len(self._events) == self._events.maxlen
            self._events.append(event)
            self._some.notify()
        if self._woken is not None:
            self._woken()


class Events:
    """For any number of threads that publish and subscribe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()

    def publish(self, event: Event) -> None:
        for subscription in self._subscriptions:
            subscription._put(event)

    @contextmanager
    def subscribe(self, most: int = KEPT, woken: Callable[[], None] | None = None) -> Iterator[Subscription]:
        """Events from now on. `woken` is called by the publishing thread after each: for an event loop, with
        `loop.call_soon_threadsafe`; it must not block or raise."""
        subscription = Subscription(most, woken)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)
