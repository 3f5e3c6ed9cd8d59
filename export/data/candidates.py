"""Draw candidates for questions inside a query window, with their answers.

The property window of an event is `tight`, the event's own interval, or `loose`, a random part of the query
window that contains the event. Negatives ask about something that never happened in their window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from export.data.crops import Window
from export.data.files import Tracks
from export.data.records import Box, Duration, EventRecord, QueryType, event_order

TYPES: tuple[QueryType, ...] = get_args(QueryType)
DURATIONS: tuple[Duration, ...] = get_args(Duration)


@dataclass(frozen=True)
class QueryRules:
    """Limits and shares of the questions about one video."""

    per_cell: int = 40
    """Maximum number of questions of one type and duration, negatives included."""
    negatives: float = 0.2
    """Share of questions about something that never happened."""
    tight: float = 0.5
    """Share of property windows that are the event's own interval."""
    min_loose_s: float = 30.0
    durations: tuple[Duration, ...] = DURATIONS
    types: tuple[QueryType, ...] = TYPES


class Candidate(NamedTuple):
    """A question before it has an id and a crop."""

    query_window: Window
    property_window: Window | None
    activities: tuple[int, ...]
    instance: int | None
    boxes: dict[int, Box]
    happened: bool


class Rejected(Exception):
    """A candidate has no unique answer; the message is the reason that the rejection log counts."""


class CandidateSource:
    """Candidates of one type and duration."""

    def __init__(
        self,
        kind: QueryType,
        duration: Duration,
        events: Sequence[EventRecord],
        tracks: Tracks,
        instances: Sequence[int],
        windows: Sequence[Window],
        rules: QueryRules,
        rng: np.random.Generator,
    ) -> None:
        self.kind, self.duration, self.rules, self.rng = kind, duration, rules, rng
        self._tracks, self._instances, self._windows = tracks, instances, windows
        self._events = sorted(events, key=event_order)
        self._activities = sorted({event.activity for event in events})

    def positives(self) -> Iterator[Callable[[], Candidate]]:
        """Yield makers for every event in every window that contains it, in random order."""
        pairs = [
            (window, event)
            for window in self._windows
            for event in self._events
            if window[0] <= event.t_s and event.t_e <= window[1]
        ]
        about = {"activity": self._ask_activity, "object": self._ask_object, "time": self._ask_time}[
            self.kind
        ]
        for at in self.rng.permutation(len(pairs)):
            window, event = pairs[int(at)]
            yield lambda window=window, event=event: about(window, event)  # type: ignore[misc]

    def negatives(self) -> Iterator[Callable[[], Candidate]]:
        """Yield makers for random windows, instances and activities, endlessly if there are any."""
        about = {"activity": self._deny_activity, "object": self._deny_object, "time": self._deny_time}[
            self.kind
        ]
        while self._windows and self._instances and self._activities:
            window = self._windows[int(self.rng.integers(len(self._windows)))]
            yield lambda window=window: about(window)  # type: ignore[misc]

    def _ask_activity(self, query: Window, event: EventRecord) -> Candidate:
        window = self._draw_property(query, event)
        activities = {other.activity for other in self._during(window) if other.instance == event.instance}
        return Candidate(query, window, tuple(sorted(activities)), event.instance, {}, True)

    def _ask_object(self, query: Window, event: EventRecord) -> Candidate:
        window = self._draw_property(query, event)
        matches = [other for other in self._during(window) if other.activity == event.activity]
        if {other.instance for other in matches} != {event.instance}:
            raise Rejected("several objects had the activity")
        boxes = self._active_boxes(
            event.instance, [(max(window[0], other.t_s), min(window[1], other.t_e)) for other in matches]
        )
        if not boxes:
            raise Rejected("no box of the object while it was active")
        return Candidate(query, window, (event.activity,), event.instance, boxes, True)

    def _ask_time(self, query: Window, event: EventRecord) -> Candidate:
        pair = (event.activity, event.instance)
        if sum((other.activity, other.instance) == pair for other in self._during(query)) > 1:
            raise Rejected("it happened several times")
        return Candidate(query, (event.t_s, event.t_e), (event.activity,), event.instance, {}, True)

    def _deny_activity(self, query: Window) -> Candidate:
        window, instance = self._draw_anywhere(query), self._choose(self._instances)
        if any(other.instance == instance for other in self._during(window)):
            raise Rejected("negative: something was done with the object")
        return Candidate(query, window, (), instance, {}, False)

    def _deny_object(self, query: Window) -> Candidate:
        window, activity = self._draw_anywhere(query), self._choose(self._activities)
        if any(other.activity == activity for other in self._during(window)):
            raise Rejected("negative: the activity was done")
        return Candidate(query, window, (activity,), None, {}, False)

    def _deny_time(self, query: Window) -> Candidate:
        activity, instance = self._choose(self._activities), self._choose(self._instances)
        if any((other.activity, other.instance) == (activity, instance) for other in self._during(query)):
            raise Rejected("negative: it happened")
        return Candidate(query, None, (activity,), instance, {}, False)

    def _during(self, window: Window) -> list[EventRecord]:
        return [event for event in self._events if event.t_s < window[1] and event.t_e > window[0]]

    def _choose(self, choice: Sequence[int]) -> int:
        return choice[int(self.rng.integers(len(choice)))]

    def _draw_property(self, query: Window, event: EventRecord) -> Window:
        if self.rng.random() < self.rules.tight:
            return event.t_s, event.t_e
        return self._draw_loose(query, event.t_s, event.t_e)

    def _draw_anywhere(self, query: Window) -> Window:
        """Return a property window without an event, with the lengths of tight and loose windows."""
        spans = [event.t_e - event.t_s for event in self._events]
        length = min(spans[int(self.rng.integers(len(spans)))], query[1] - query[0])
        start = query[0] + float(self.rng.random()) * (query[1] - query[0] - length)
        tight = self.rng.random() < self.rules.tight
        if tight:
            return _round_to_ticks(start, start + length)
        return self._draw_loose(query, start, start + length)

    def _draw_loose(self, query: Window, start: float, end: float) -> Window:
        """Return a random part of `query` that contains `start` to `end`; its length is log-uniform."""
        longest = query[1] - query[0]
        shortest = min(max(self.rules.min_loose_s, end - start), longest)
        length = shortest * (longest / shortest) ** float(self.rng.random())
        low, high = max(query[0], end - length), min(start, query[1] - length)
        first = low + float(self.rng.random()) * max(high - low, 0.0)
        window = _round_to_ticks(first, first + length)
        return max(min(window[0], start), query[0]), min(max(window[1], end), query[1])

    def _active_boxes(self, instance: int, spans: Iterable[Window]) -> dict[int, Box]:
        """Return the boxes at the ticks at which the instance is active in one of `spans`."""
        track, boxes = self._tracks.select(instance), dict[int, Box]()
        for start, end in spans:
            part = track.between(_first_tick(start), _first_tick(end))
            for tick, box, active in zip(part.tick5, part.box, part.active, strict=True):
                if active:
                    x1, y1, x2, y2 = (round(float(side), 5) for side in box)
                    boxes[int(tick)] = (x1, y1, x2, y2)
        return boxes

    def event_windows(self, instance: int) -> list[Window]:
        """Return the intervals in which a crop of the instance would reveal an answer."""
        return [(event.t_s, event.t_e) for event in self._events if event.instance == instance]


def _first_tick(t: float) -> int:
    """Return the first tick at or after `t` seconds."""
    return int(np.ceil(t * TICKS_PER_SECOND - 1e-6))


def _round_to_ticks(start: float, end: float) -> Window:
    first, last = round(start * TICKS_PER_SECOND), round(end * TICKS_PER_SECOND)
    return first / TICKS_PER_SECOND, max(last, first + 1) / TICKS_PER_SECOND
