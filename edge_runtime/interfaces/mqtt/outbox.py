"""Hold what is still to be published, bounded with or without a broker.

Of a retained state only the newest counts, so one payload is stored for each topic. Events and answers wait
in order; where they are too many or too large together, the oldest are dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

MAX_STATES = 2000
"""Retained topics: 64 cameras of eight topics, and as many again that are still to be taken back."""


@dataclass(frozen=True)
class Message:
    """A message to publish; `correlation` is the data that an MQTT 5 client wants back in its answer."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    about: str | None = None
    """The camera whose past the message holds."""

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.topic)


class Outbox:
    """Messages in order, with limits of their number and bytes; the oldest are dropped."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._waiting: deque[Message] = deque()
        self.bytes = 0
        self.dropped = self._dropped_before = 0
        self.sent = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message) -> None:
        self._waiting.append(message)
        self.bytes += message.size
        self._trim()

    def take(self) -> Message | None:
        """Take the oldest message out, one at a time, until it is `done` or given back."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        self.bytes -= message.size
        self._dropped_before = self.dropped
        return message

    def done(self) -> None:
        """Count the taken message as sent."""
        self.sent += 1

    def give_back(self, message: Message) -> None:
        """Put the taken message back as the oldest: it is not known whether it arrived.

        Where younger ones were dropped meanwhile, it is dropped too.
        """
        if self.dropped != self._dropped_before:
            self.dropped += 1
            return
        self._waiting.appendleft(message)
        self.bytes += message.size
        self._trim()

    def forget(self, about: str) -> None:
        """Drop the messages about a camera, uncounted: they must not be published any more."""
        self._waiting = deque(message for message in self._waiting if message.about != about)
        self.bytes = sum(message.size for message in self._waiting)

    def _trim(self) -> None:
        while len(self._waiting) > self._max_messages or self.bytes > self._max_bytes:
            self.bytes -= self._waiting.popleft().size
            self.dropped += 1

    def as_json(self) -> dict[str, int]:
        return {"sent": self.sent, "waiting": len(self), "bytes": self.bytes, "dropped": self.dropped}


class StateOutbox:
    """The newest payload of each retained topic, and which of them are not published yet."""

    def __init__(self, on_removal: Callable[[str], None] = lambda topic: None) -> None:
        """`on_removal` is called with each topic that was removed at the broker."""
        self._on_removal = on_removal
        self._newest: dict[str, bytes] = {}
        self._pending: dict[str, None] = {}  # in the order in which they came

    def __iter__(self) -> Iterator[str]:
        return iter(self._newest)

    def get(self, topic: str) -> bytes | None:
        return self._newest.get(topic)

    def set(self, topic: str, payload: bytes) -> None:
        """Set a payload. An empty one removes the topic at the broker, and here once that is published."""
        if self._newest.get(topic) == payload:
            return
        self._newest[topic] = payload
        self._pending[topic] = None
        while len(self._newest) > MAX_STATES:  # cameras came and went without a broker
            removed = (topic for topic, payload in self._newest.items() if not payload)
            self.forget(next(removed, next(iter(self._newest))))

    def set_all(self, payloads: Mapping[str, bytes]) -> None:
        for topic, payload in payloads.items():
            self.set(topic, payload)

    def forget(self, topic: str) -> None:
        self._newest.pop(topic, None)
        self._pending.pop(topic, None)

    def mark_all(self) -> None:
        """Mark all topics for publishing again: the broker may have lost them."""
        self._pending = dict.fromkeys(self._newest)

    def take(self) -> Message | None:
        """Return a state that is not published in its newest form, None where all are."""
        if not self._pending:
            return None
        topic = next(iter(self._pending))
        return Message(topic, self._newest[topic], retain=True)

    def done(self, message: Message) -> None:
        """Mark a state as published, unless it has changed meanwhile."""
        if self._newest.get(message.topic) == message.payload:
            self._pending.pop(message.topic, None)
            if not message.payload:
                self._newest.pop(message.topic, None)
                self._on_removal(message.topic)
