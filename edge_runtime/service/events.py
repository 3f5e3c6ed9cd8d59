"""Publish what happens to the interfaces that subscribe, and hold the newest questions and answers in RAM.

A subscriber that does not keep up loses its oldest events, counted; it never delays whoever publishes.
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


KEPT = 100


class AnswerHistory:
    """For any thread. Each entry is told as an event of the kind "answer" too."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._forgotten: Counter[str] = Counter()
        self.observers: list[Callable[[Answer], None]] = []
        """Called with each answer by the thread that asked, whatever is forgotten meanwhile: they must be
        quick, and keep nothing of what it tells."""

    def forgotten(self, camera: str) -> int:
        """How often something of it was forgotten; to be asked before a question is answered."""
        with self._lock:
            return self._forgotten[camera]

    def note(self, camera: str, query: AnyQuery, answer: Answer, forgotten: int) -> None:
        """Keep and tell an answer, unless something was forgotten since `forgotten` was asked: it may tell
        what was seen then. Observers, who keep none, are called in any case."""
        entry = {
            "at": round(time.time(), 3),
            "camera": camera,
            "question": question_of(query),
            "answer": answer.json_fields,
        }
        for observer in self.observers:
            observer(answer)
        with self._lock:
            if self._forgotten[camera] != forgotten:
                return
            self._entries.append(entry)
            # Within the lock, which forgetting takes before it tells of itself: no subscriber may be told an
            # answer after that. Publishing takes none but the subscriptions' own, for a moment each.
            self._events.publish(Event("answer", "new", camera, after=entry))

    def newest(self, limit: int = KEPT) -> list[dict[str, Any]]:
        """Entries as JSON, the newest first."""
        with self._lock:
            return list(self._entries)[::-1][:limit]

    def forget(self, camera: str) -> None:
        """Drop what was answered from a camera's memory: an answer tells what was seen, too."""
        with self._lock:
            self._forgotten[camera] += 1
            kept = [entry for entry in self._entries if entry["camera"] != camera]
            self._entries = deque(kept, maxlen=KEPT)


def question_of(query: AnyQuery) -> dict[str, Any]:
    """A question as JSON, with the number of its photos in place of the photos."""
    said = query.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"object": {"photos"}})
    photos = getattr(getattr(query, "object", None), "photos", None)
    return said if photos is None else said | {"object": {"photos": len(photos)}}
