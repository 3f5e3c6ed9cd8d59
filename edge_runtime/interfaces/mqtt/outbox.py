"""What is still to be told to the broker: bounded whether it listens or not.

Of a retained state only the newest matters, so one is kept for each topic. Events and answers wait in order;
where they are too many or too large together, the oldest go and are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_STATES = 2000
"""Retained topics: 64 cameras of eight topics, and as many again that are still to be taken back."""


@dataclass(frozen=True)
class Message:
    """`correlation` is what an MQTT 5 asker wants to find in its answer."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    about: str | None = None
    """The camera whose past it tells."""

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.topic)


class Line:
    """Messages in order, at most so many and so many bytes; what is too much is dropped from the front."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
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
        """The oldest, which is then somebody else's until it is `done` or given back; one at a time."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        self.bytes -= message.size
        self._dropped_before = self.dropped
        return message

    def done(self) -> None:
        """What was taken has arrived."""
        self.sent += 1

    def give_back(self, message: Message) -> None:
        """What was taken is the oldest again: whether it has arrived is not known. Where younger ones had to
        go meanwhile, so has it."""
        if self.dropped != self._dropped_before:
            self.dropped += 1
            return
        self._waiting.appendleft(message)
        self.bytes += message.size
        self._trim()

    def forget(self, about: str) -> None:
        """Drop, uncounted, what waits `about` this: it must not be told any more."""
        self._waiting = deque(one for one in self._waiting if one.about != about)
        self.bytes = sum(one.size for one in self._waiting)

    def _trim(self) -> None:
        while len(self._waiting) > self._most or self.bytes > self._most_bytes:
            self.bytes -= self._waiting.popleft().size
            self.dropped += 1

    def as_json(self) -> dict[str, int]:
        return {"sent": self.sent, "waiting": len(self), "bytes": self.bytes, "dropped": self.dropped}


class States:
    """The newest payload of each retained topic, and which of them the broker has not got yet."""

    def __init__(self) -> None:
        self._newest: dict[str, bytes] = {}
        self._untold: dict[str, None] = {}  # in the order in which they came

    def __iter__(self) -> Iterator[str]:
        return iter(self._newest)

    def get(self, topic: str) -> bytes | None:
        return self._newest.get(topic)

    def set(self, topic: str, payload: bytes) -> None:
        """An empty payload takes a topic back: the broker forgets it, and so do we when it has been told."""
        if self._newest.get(topic) == payload:
            return
        self._newest[topic] = payload
        self._untold[topic] = None
        while len(self._newest) > MAX_STATES:  # cameras came and went for ages while nobody listened
            taken_back = (one for one, payload in self._newest.items() if not payload)
            self.forget(next(taken_back, next(iter(self._newest))))

    def update(self, payloads: Mapping[str, bytes]) -> None:
        for topic, payload in payloads.items():
            self.set(topic, payload)

    def forget(self, topic: str) -> None:
        self._newest.pop(topic, None)
        self._untold.pop(topic, None)

    def all_untold(self) -> None:
        """The broker may have lost everything: tell it all again."""
        self._untold = dict.fromkeys(self._newest)

    def take(self) -> Message | None:
        """One that the broker has not got in its newest form."""
        if not self._untold:
            return None
        topic = next(iter(self._untold))
        return Message(topic, self._newest[topic], retain=True)

    def done(self, message: Message) -> None:
        """The broker has got it; if it has changed meanwhile it has to be told again."""
        if self._newest.get(message.topic) == message.payload:
            self._untold.pop(message.topic, None)
            if not message.payload:
                self._newest.pop(message.topic, None)
