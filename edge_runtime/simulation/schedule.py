"""What happens when: each event comes from a hash of its slot, so hour one hundred costs what hour one costs.

Time of each pair of hands is cut into slots of equal length; a slot holds one whole event. Hands never do two
things at once, and no two pairs of hands use one product or one place at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.activities import ACTIVITIES, activity_named
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.rng import Use, between, mix, unit


@dataclass(frozen=True)
class Event:
    """`activity` (index of ACTIVITIES) done to product `instance` from `start` up to `end`, on ticks.

    `hands` says which pair of hands did it; events of one pair never overlap.
    """

    activity: int
    instance: int
    start: float
    end: float
    hands: int = 0


class Schedule:
    """The events of one world, found by time. Remembers only the few slots asked for last."""

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
        """Events that share time with [t_from, t_to), by start."""
        found = [event for hands in range(self._config.concurrent) for event in self._of(hands, t_from, t_to)]
        return sorted(found, key=lambda event: (event.start, event.hands))

    def at(self, t: float) -> list[Event]:
        """Events going on at `t`, at most one of each pair of hands."""
        found = []
        for hands in range(self._config.concurrent):
            event = self._event(hands, self._slot(hands, t))
            if event is not None and event.start <= t < event.end:
                found.append(event)
        return found

    def _slot(self, hands: int, t: float) -> int:
        return math.floor((t - self._phase[hands]) / self._config.slot_seconds)

    def _of(self, hands: int, t_from: float, t_to: float) -> Iterator[Event]:
        for slot in range(max(self._slot(hands, t_from), 0), self._slot(hands, t_to) + 1):
            event = self._event(hands, slot)
            if event is not None and event.start < t_to and event.end > t_from:
                yield event

    def _draw(self, hands: int, slot: int) -> Event | None:
        """The event of one slot; none before the stream begins."""
        if slot < 0:
            return None
        start, end = self._times(hands, slot)
        # Lower pairs of hands choose first, so this recursion is at most two deep.
        others = [event for lower in range(hands) for event in self._of(lower, start, end)]
        key = (self._config.seed, Use.SLOT, hands, slot)
        activity = self._activity(key, {place_of(event.activity) for event in others})
        instance = self._instance(key, {event.instance for event in others})
        return Event(activity, instance, start, end, hands)

    def _times(self, hands: int, slot: int) -> tuple[float, float]:
        key = (self._config.seed, Use.SLOT, hands, slot)
        length = self._config.slot_seconds
        low, high = self._config.event_seconds
        lasting = between(low, min(high, length - 0.8), *key, 0)
        start = self._phase[hands] + length * slot + between(0.2, length - lasting - 0.2, *key, 1)
        # Inwards to whole ticks, so that the events of neighbouring slots cannot meet.
        first, last = math.ceil(start * TICKS_PER_SECOND), math.floor((start + lasting) * TICKS_PER_SECOND)
        return first / TICKS_PER_SECOND, last / TICKS_PER_SECOND

    def _activity(self, key: tuple[int, ...], taken: set[int]) -> int:
        pair = [activity_named("bag"), activity_named("unbag")]
        hard = unit(*key, 2) < self._config.hard_pairs and self._config.activities > pair[1]
        choice = pair if hard else list(range(self._config.activities))
        free = [activity for activity in choice if place_of(activity) not in taken]
        free = free or [
            activity for activity in range(self._config.activities) if place_of(activity) not in taken
        ]
        return free[mix(*key, 3) % len(free)]

    def _instance(self, key: tuple[int, ...], taken: set[int]) -> int:
        for attempt in range(64):
            point = unit(*key, 4, attempt)
            rank = next(
                (r for r, share in enumerate(self._cumulative) if point < share), len(self._by_rank) - 1
            )
            if self._by_rank[rank] not in taken:
                return self._by_rank[rank]
        return next(instance for instance in self._by_rank if instance not in taken)


def place_of(activity: int) -> int:
    """The place that an activity needs to itself: bag and unbag share the bag."""
    return activity_named("bag") if ACTIVITIES[activity].name == "unbag" else activity
