"""Publish what happens to the interfaces that subscribe, and hold the newest questions and answers in RAM.

A subscriber that does not keep up loses its oldest events, counted; it never delays the publisher.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_runtime.query.answers import Answer
from edge_runtime.query.schema import AnyQuery

MAX_WAITING_EVENTS = 256
"""Events that wait for a subscriber, unless it asks for another number."""
MAX_ANSWERS = 100
"""Answers in the history."""


@dataclass(frozen=True)
class Event:
    """Something that began, changed or ended.

    `kind` is what it is about: "activity" (recognised), "camera" (its condition), "answer", "privacy"
    (a pause, or something was forgotten). `before` and `after` are the same JSON object at the two moments,
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
    """Events since the subscription began, in order. `lost` counts those that came too fast."""

    def __init__(self, max_events: int, on_event: Callable[[], None] | None) -> None:
        self.lost = 0
        self._events: deque[Event] = deque(maxlen=max_events)
        self._on_event = on_event
        self._changed = threading.Condition()

    def get(self, timeout: float | None = None) -> Event | None:
        """Return the next event; None when none has come within `timeout` seconds (0: does not wait)."""
        with self._changed:
            self._changed.wait_for(lambda: self._events, timeout)
            return self._events.popleft() if self._events else None

    def put(self, event: Event) -> None:
        """Add an event; the oldest is lost where there are too many."""
        with self._changed:
            self.lost += len(self._events) == self._events.maxlen
            self._events.append(event)
            self._changed.notify()
        if self._on_event is not None:
            self._on_event()


class Events:
    """Hands events to subscriptions. Any number of threads may publish and subscribe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()

    def publish(self, event: Event) -> None:
        for subscription in self._subscriptions:
            subscription.put(event)

    @contextmanager
    def subscribe(
        self, max_events: int = MAX_WAITING_EVENTS, on_event: Callable[[], None] | None = None
    ) -> Iterator[Subscription]:
        """Receive events from now on. The publishing thread calls `on_event` after each, so it must not block
        or raise; an event loop passes `loop.call_soon_threadsafe`."""
        subscription = Subscription(max_events, on_event)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions = tuple(sub for sub in self._subscriptions if sub is not subscription)


class AnswerHistory:
    """The newest questions and answers of all interfaces, for any thread. Each is published as an event."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=MAX_ANSWERS)
        self._forgotten: Counter[str] = Counter()
        self.observers: list[Callable[[Answer], None]] = []
        """Called with each answer by the thread that asked, whatever is forgotten meanwhile. They must be
        quick and must not store what the answer says."""

    def count_forgotten(self, camera: str) -> int:
        """Return how often something of the camera was forgotten, to be passed to `record`."""
        with self._lock:
            return self._forgotten[camera]

    def record(self, camera: str, query: AnyQuery, answer: Answer, forgotten: int) -> None:
        """Store and publish an answer, unless something was forgotten since `count_forgotten` returned
        `forgotten`: the answer may be about that. Observers, which store nothing, are called in any case."""
        entry = {
            "at": round(time.time(), 3),
            "camera": camera,
            "question": query_to_json(query),
            "answer": answer.json_fields,
        }
        for observer in self.observers:
            observer(answer)
        with self._lock:
            if self._forgotten[camera] != forgotten:
                return
            self._entries.append(entry)
            # Within the lock, which forgetting takes before it publishes its own event: no subscriber may get
            # an answer after that. Publishing takes only the subscriptions' locks, for a moment each.
            self._events.publish(Event("answer", "new", camera, after=entry))

    def newest(self, limit: int = MAX_ANSWERS) -> list[dict[str, Any]]:
        """Return entries as JSON, newest first."""
        with self._lock:
            return list(self._entries)[::-1][:limit]

    def forget(self, camera: str) -> None:
        """Drop the answers from a camera's memory: an answer says what was seen, too."""
        with self._lock:
            self._forgotten[camera] += 1
            entries = [entry for entry in self._entries if entry["camera"] != camera]
            self._entries = deque(entries, maxlen=MAX_ANSWERS)


def query_to_json(query: AnyQuery) -> dict[str, Any]:
    """Return a question as JSON, with the number of its photos in place of the photos."""
    fields = query.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"object": {"photos"}})
    photos = getattr(getattr(query, "object", None), "photos", None)
    return fields if photos is None else fields | {"object": {"photos": len(photos)}}
