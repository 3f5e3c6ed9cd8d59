"""The newest questions and answers of all doors, in RAM only: for people who look, and for subscribers."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from edge_runtime.query.answers import Answer
from edge_runtime.query.schema import AnyQuery
from edge_runtime.service.events import Event, Events

KEPT = 100


class Answered:
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
