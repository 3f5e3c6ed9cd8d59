"""Close-ups: as many as asked for, large, near the middle, and marked where their pixels are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.simulation.activities import ACTIVITIES, find_activity
from edge_runtime.simulation.closeup import CLOSEUPS
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.schedule import Event
from edge_runtime.simulation.space import Box
from edge_runtime.simulation.world import World

SIZE = (180, 320)
HOUR = 3600.0


def near_world(level: str = "L1", seed: int = 2, **changes: object) -> World:
    plain = WorldConfig.level(level, seed=seed).model_dump()
    return World(WorldConfig.model_validate({**plain, "closeup": 1.0, **changes}))


def close_ups(world: World, count: int) -> list[Event]:
    events = world.events(0.0, HOUR)
    return [event for event in events if ACTIVITIES[event.activity].name in CLOSEUPS][:count]


def half_way(event: Event) -> float:
    return (event.start + event.end) / 2


def box_of(world: World, event: Event) -> Box:
    tracks = world.truth(half_way(event)).active
    return next(track.box for track in tracks if track.instance == event.instance)


def changed(world: World, t: float) -> NDArray[np.bool_]:
    return np.asarray((world.frame(t, SIZE) != world.frame(t, SIZE, hide_active=True)).any(axis=2))


@pytest.mark.parametrize("activity", CLOSEUPS)
def test_the_box_of_a_close_up_lies_around_its_pixels(activity: str) -> None:
    world = near_world()
    for event in [event for event in close_ups(world, 60) if event.activity == find_activity(activity)][:4]:
        rows, columns = np.nonzero(changed(world, half_way(event)))
        pixels = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / (
            320,
            180,
            320,
            180,
        )
        assert np.abs(pixels - box_of(world, event)).max() < 0.06


def test_close_ups_are_large_and_near_the_middle() -> None:
    world = near_world()
    boxes = np.array([box_of(world, event) for event in close_ups(world, 20)])  # (20, 4)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.median(boxes[:, 3] - boxes[:, 1]) > 0.4
    assert np.abs(middles - 0.5).max() < 0.2


def test_so_many_events_are_close_ups_as_the_knob_says() -> None:
    far, some = near_world(closeup=0.0), near_world(closeup=0.5)
    events = close_ups(some, 30)
    larger = [np.subtract(*box_of(some, e)[1::2]) < 1.4 * np.subtract(*box_of(far, e)[1::2]) for e in events]
    assert 8 <= sum(larger) <= 22
    assert some.events(0.0, HOUR) == far.events(0.0, HOUR)


def test_other_activities_stay_over_the_counter() -> None:
    near, far = near_world(), near_world(closeup=0.0)
    for event in near.events(0.0, 1200.0):
        if ACTIVITIES[event.activity].name not in CLOSEUPS:
            assert near.truth(half_way(event)).active == far.truth(half_way(event)).active


def test_what_a_close_up_hides_is_not_in_the_truth() -> None:
    near, far = (near_world("L3", parked=3, closeup=share) for share in (1.0, 0.0))
    times = [half_way(event) for event in close_ups(near, 40)]
    seen, all_seen = ([len(world.truth(t).tracks) for t in times] for world in (near, far))
    assert sum(seen) < sum(all_seen)


def test_a_scan_shows_its_line_near_the_camera_too() -> None:
    world = near_world(noise=0.0, flicker=0.0)
    event = next(e for e in close_ups(world, 60) if e.activity == find_activity("scan"))
    red = (world.frame(half_way(event), SIZE) == (255, 24, 20)).all(axis=2)
    assert red.sum() > 200
