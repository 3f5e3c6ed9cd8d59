"""Schedule events: each is drawn from a hash of its slot, so hour one hundred costs the same as hour one.

The time of each pair of hands is divided into slots of equal length; a slot holds one whole event. A pair of
hands has one event at a time, and no two pairs use one product or one place at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.activities import ACTIVITIES, find_activity
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.rng import Use, between, mix, unit


@dataclass(frozen=True)
class Event:
    """`activity` (index of ACTIVITIES) done to product `instance` from `start` up to `end`, on ticks.

    `hands` is the number of the pair of hands; events of one pair never overlap.
    """

    activity: int
    instance: int
    start: float
    end: float
    hands: int = 0


class Schedule:
    """The events of one world, by time. Caches only the slots used last."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        ranks = [(1.0 + rank) ** -config.zipf for rank in range(config.instances)]
        self._cumulative = [share / sum(ranks) for share in accumulate(ranks)]
        seed = config.seed
        self._by_rank = sorted(range(config.instances), key=lambda i: mix(seed, Use.SLOT, 9, i))
        self._phase = [
            config.slot_seconds * unit(seed, Use.SLOT, 8, hands) for hands in range(config.concurrent)
        ]
        self._event = lru_cache(maxsize=512)(self._draw)

    def between(self, t_from: float, t_to: float) -> list[Event]:
        """Return the events that share time with [t_from, t_to), by start."""
        pairs = range(self._config.concurrent)
        events = [event for hands in pairs for event in self._events_of(hands, t_from, t_to)]
        return sorted(events, key=lambda event: (event.start, event.hands))

    def at(self, t: float) -> list[Event]:
        """Return the events going on at `t`, at most one of each pair of hands."""
        events = []
        for hands in range(self._config.concurrent):
            event = self._event(hands, self._slot(hands, t))
            if event is not None and event.start <= t < event.end:
                events.append(event)
        return events

    def _slot(self, hands: int, t: float) -> int:
        return math.floor((t - self._phase[hands]) / self._config.slot_seconds)

    def _events_of(self, hands: int, t_from: float, t_to: float) -> Iterator[Event]:
        for slot in range(max(self._slot(hands, t_from), 0), self._slot(hands, t_to) + 1):
            event = self._event(hands, slot)
            if event is not None and event.start < t_to and event.end > t_from:
                yield event

    def _draw(self, hands: int, slot: int) -> Event | None:
        """Draw the event of one slot; none before the stream begins."""
        if slot < 0:
            return None
        start, end = self._draw_times(hands, slot)
        # Lower pairs of hands choose first, so this recursion is at most two deep.
        others = [event for lower in range(hands) for event in self._events_of(lower, start, end)]
        key = (self._config.seed, Use.SLOT, hands, slot)
        activity = self._draw_activity(key, {find_place(event.activity) for event in others})
        instance = self._draw_instance(key, {event.instance for event in others})
        return Event(activity, instance, start, end, hands)

    def _draw_times(self, hands: int, slot: int) -> tuple[float, float]:
        key = (self._config.seed, Use.SLOT, hands, slot)
        length = self._config.slot_seconds
        low, high = self._config.event_seconds
        duration = between(low, min(high, length - 0.8), *key, 0)
        start = self._phase[hands] + length * slot + between(0.2, length - duration - 0.2, *key, 1)
        # Inwards to whole ticks, so that the events of neighbouring slots cannot meet.
        first, last = math.ceil(start * TICKS_PER_SECOND), math.floor((start + duration) * TICKS_PER_SECOND)
        return first / TICKS_PER_SECOND, last / TICKS_PER_SECOND

    def _draw_activity(self, key: tuple[int, ...], busy: set[int]) -> int:
        pair = [find_activity("bag"), find_activity("unbag")]
        hard = unit(*key, 2) < self._config.hard_pairs and self._config.activities > pair[1]
        choice = pair if hard else list(range(self._config.activities))
        free = [activity for activity in choice if find_place(activity) not in busy]
        free = free or [
            activity for activity in range(self._config.activities) if find_place(activity) not in busy
        ]
        return free[mix(*key, 3) % len(free)]

    def _draw_instance(self, key: tuple[int, ...], busy: set[int]) -> int:
        for attempt in range(64):
            point = unit(*key, 4, attempt)
            rank = next(
                (r for r, share in enumerate(self._cumulative) if point < share), len(self._by_rank) - 1
            )
            if self._by_rank[rank] not in busy:
                return self._by_rank[rank]
        return next(instance for instance in self._by_rank if instance not in busy)


def find_place(activity: int) -> int:
    """Return the place that an activity needs to itself: bag and unbag share the bag."""
    return find_activity("bag") if ACTIVITIES[activity].name == "unbag" else activity
