"""What can be asked inside a query window, and what is true of it.

An event can be asked about with a `tight` property window, which is the event's own interval, or a `loose`
one, a random part of the query window around it. Negatives are about what never happened in their window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from export.data.crops import Window
from export.data.files import Tracks
from export.data.records import Box, Duration, EventRecord, QueryType

TYPES: tuple[QueryType, ...] = get_args(QueryType)
DURATIONS: tuple[Duration, ...] = get_args(Duration)


@dataclass(frozen=True)
class Rules:
    """How many questions of a video, and of what kind."""

    per_cell: int = 40
    """Most questions of one type and duration, negatives included."""
    negatives: float = 0.2
    """Share of questions about what never happened."""
    tight: float = 0.5
    """Share of property windows that are the event's own interval."""
    least_loose_s: float = 30.0
    durations: tuple[Duration, ...] = DURATIONS
    types: tuple[QueryType, ...] = TYPES


class Candidate(NamedTuple):
    """A question before it has a number and a crop."""

    asked: Window
    told: Window | None
    activities: tuple[int, ...]
    instance: int | None
    boxes: dict[int, Box]
    happened: bool


class Rejected(Exception):
    """A candidate has no unique answer; the words say why."""


class Cell:
    """One type and duration: where candidates come from, and what is true of each."""

    def __init__(
        self,
        kind: QueryType,
        duration: Duration,
        events: Sequence[EventRecord],
        tracks: Tracks,
        instances: Sequence[int],
        windows: Sequence[Window],
        rules: Rules,
        rng: np.random.Generator,
    ) -> None:
        self.kind, self.duration, self.rules, self.rng = kind, duration, rules, rng
        self._tracks, self._instances, self._windows = tracks, instances, windows
        self._events = sorted(events, key=_when)
        self._activities = sorted({event.activity for event in events})

    def positives(self) -> Iterator[Callable[[], Candidate]]:
        """Every event in every window that holds it, in random order."""
        pairs = [
            (window, event)
            for window in self._windows
            for event in self._events
            if window[0] <= event.t_s and event.t_e <= window[1]
        ]
        about = {"activity": self._activity, "object": self._object, "time": self._time}[self.kind]
        for at in self.rng.permutation(len(pairs)):
            window, event = pairs[int(at)]
            yield lambda window=window, event=event: about(window, event)  # type: ignore[misc]

    def negatives(self) -> Iterator[Callable[[], Candidate]]:
        """Random windows, instances and activities, without end where there are any."""
        about = {"activity": self._idle, "object": self._never_done, "time": self._never_paired}[self.kind]
        while self._windows and self._instances and self._activities:
            window = self._windows[int(self.rng.integers(len(self._windows)))]
            yield lambda window=window: about(window)  # type: ignore[misc]

    def _activity(self, asked: Window, event: EventRecord) -> Candidate:
        told = self._property(asked, event)
        found = {one.activity for one in self._during(told) if one.instance == event.instance}
        return Candidate(asked, told, tuple(sorted(found)), event.instance, {}, True)

    def _object(self, asked: Window, event: EventRecord) -> Candidate:
        told = self._property(asked, event)
        found = [one for one in self._during(told) if one.activity == event.activity]
        if {one.instance for one in found} != {event.instance}:
            raise Rejected("several objects had the activity")
        boxes = self._boxes(event.instance, [_shared(told, one) for one in found])
        if not boxes:
            raise Rejected("no box of the object while it was active")
        return Candidate(asked, told, (event.activity,), event.instance, boxes, True)

    def _time(self, asked: Window, event: EventRecord) -> Candidate:
        pair = (event.activity, event.instance)
        if sum((one.activity, one.instance) == pair for one in self._during(asked)) > 1:
            raise Rejected("it happened several times")
        return Candidate(asked, (event.t_s, event.t_e), (event.activity,), event.instance, {}, True)

    def _idle(self, asked: Window) -> Candidate:
        told, instance = self._anywhere(asked), self._any(self._instances)
        if any(one.instance == instance for one in self._during(told)):
            raise Rejected("negative: something was done with the object")
        return Candidate(asked, told, (), instance, {}, False)

    def _never_done(self, asked: Window) -> Candidate:
        told, activity = self._anywhere(asked), self._any(self._activities)
        if any(one.activity == activity for one in self._during(told)):
            raise Rejected("negative: the activity was done")
        return Candidate(asked, told, (activity,), None, {}, False)

    def _never_paired(self, asked: Window) -> Candidate:
        activity, instance = self._any(self._activities), self._any(self._instances)
        if any((one.activity, one.instance) == (activity, instance) for one in self._during(asked)):
            raise Rejected("negative: it happened")
        return Candidate(asked, None, (activity,), instance, {}, False)

    def _during(self, window: Window) -> list[EventRecord]:
        return [one for one in self._events if one.t_s < window[1] and one.t_e > window[0]]

    def _any(self, choice: Sequence[int]) -> int:
        return choice[int(self.rng.integers(len(choice)))]

    def _property(self, asked: Window, event: EventRecord) -> Window:
        if self.rng.random() < self.rules.tight:
            return event.t_s, event.t_e
        return self._loose(asked, event.t_s, event.t_e)

    def _anywhere(self, asked: Window) -> Window:
        """A property window for which no event is needed: as long as tight and loose ones are."""
        spans = [one.t_e - one.t_s for one in self._events]
        lasting = min(spans[int(self.rng.integers(len(spans)))], asked[1] - asked[0])
        start = asked[0] + float(self.rng.random()) * (asked[1] - asked[0] - lasting)
        tight = self.rng.random() < self.rules.tight
        return _on_ticks(start, start + lasting) if tight else self._loose(asked, start, start + lasting)

    def _loose(self, asked: Window, start: float, end: float) -> Window:
        """A random part of `asked` that holds `start` to `end`; all lengths of one magnitude as likely."""
        longest = asked[1] - asked[0]
        least = min(max(self.rules.least_loose_s, end - start), longest)
        length = least * (longest / least) ** float(self.rng.random())
        low, high = max(asked[0], end - length), min(start, asked[1] - length)
        first = low + float(self.rng.random()) * max(high - low, 0.0)
        told = _on_ticks(first, first + length)
        return max(min(told[0], start), asked[0]), min(max(told[1], end), asked[1])

    def _boxes(self, instance: int, spans: Iterable[Window]) -> dict[int, Box]:
        """Boxes at the ticks at which the instance is active in one of `spans`."""
        own, boxes = self._tracks.of(instance), dict[int, Box]()
        for start, end in spans:
            part = own.between(_tick_from(start), _tick_from(end))
            for tick, box, active in zip(part.tick5, part.box, part.active, strict=True):
                if active:
                    x1, y1, x2, y2 = (round(float(side), 5) for side in box)
                    boxes[int(tick)] = (x1, y1, x2, y2)
        return boxes

    def times_of(self, instance: int) -> list[Window]:
        """Times of which a crop of the instance would give an answer away."""
        return [(one.t_s, one.t_e) for one in self._events if one.instance == instance]


def _when(event: EventRecord) -> tuple[float, float, str]:
    return event.t_s, event.t_e, event.event


def _shared(window: Window, event: EventRecord) -> Window:
    return max(window[0], event.t_s), min(window[1], event.t_e)


def _tick_from(t: float) -> int:
    """The first tick at or after `t` seconds."""
    return int(np.ceil(t * TICKS_PER_SECOND - 1e-6))


def _on_ticks(start: float, end: float) -> Window:
    first, last = round(start * TICKS_PER_SECOND), round(end * TICKS_PER_SECOND)
    return first / TICKS_PER_SECOND, max(last, first + 1) / TICKS_PER_SECOND
