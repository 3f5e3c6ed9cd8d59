"""The checkout world: pure, endless, and its ground truth lies where its pixels are."""

from __future__ import annotations

import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.simulation.activities import ACTIVITIES, find_activity
from edge_runtime.simulation.config import LEVELS, WorldConfig
from edge_runtime.simulation.ground_truth import Truth
from edge_runtime.simulation.layout import make_layout
from edge_runtime.simulation.motion import MOTIONS, Moment
from edge_runtime.simulation.schedule import Event
from edge_runtime.simulation.space import PLAIN, Box, View, area, clip
from edge_runtime.simulation.world import World

SMALL, LARGE = (63, 112), (360, 640)
HOUR = 3600.0
STILL = {"walkers": 0, "advert": False, "parked": 0, "flicker": 0.0, "noise": 0.0}


class RedSquares:
    """Faces that are nothing but red."""

    def views(self, instance: int) -> int:
        return 1

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        face = np.zeros((32, 32, 4), np.uint8)
        face[4:28, 4:28] = (255, 0, 0, 255)
        return face


class Blue:
    """A backdrop that is nothing but blue."""

    def picture(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.full((*size, 3), (0, 0, 255), np.uint8)


def world_at(level: str, seed: int = 1) -> World:
    return World(WorldConfig.level(level, seed=seed))


def half_way(event: Event) -> float:
    return (event.start + event.end) / 2


def first_of_each(world: World, hours: float = 6.0) -> list[Event]:
    first: dict[int, Event] = {}
    for event in world.events(0.0, hours * HOUR):
        first.setdefault(event.activity, event)
    return list(first.values())


def changed(world: World, t: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) pixels that the active products make different."""
    return np.asarray((world.frame(t, size) != world.frame(t, size, hide_active=True)).any(axis=2))


def marked(truth: Truth, size: tuple[int, int], margin: float) -> NDArray[np.bool_]:
    """(H, W) pixels in the boxes of active products, `margin` pixels wider."""
    height, width = size
    mask = np.zeros(size, bool)
    for track in truth.active:
        x1, y1, x2, y2 = track.box
        top, left = max(int(np.floor(y1 * height - margin)), 0), max(int(np.floor(x1 * width - margin)), 0)
        mask[top : int(np.ceil(y2 * height + margin)), left : int(np.ceil(x2 * width + margin))] = True
    return mask


def bounds(mask: NDArray[np.bool_]) -> Box:
    """The box around the set pixels of `mask` (H, W), normalised."""
    (height, width), (rows, columns) = mask.shape, np.nonzero(mask)
    right, bottom = columns.max() + 1, rows.max() + 1
    return columns.min() / width, rows.min() / height, right / width, bottom / height


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return shared / (area(a) + area(b) - shared)


@pytest.mark.parametrize("level", ["L1", "L3"])
def test_any_order_of_questions_gives_the_same_world(level: str) -> None:
    times = [0.0, 61.4, 3.2, 5000.6, 61.6, 1e6 + 0.2]
    forward, backward = world_at(level), world_at(level)
    ahead = {t: (forward.frame(t, SMALL), forward.truth(t)) for t in times}
    backward.events(0.0, HOUR)
    for t in reversed(times):
        assert backward.truth(t) == ahead[t][1]
        assert np.array_equal(backward.frame(t, SMALL), ahead[t][0])


def test_a_window_of_events_does_not_depend_on_how_it_is_cut() -> None:
    whole = world_at("L3").events(100.0, 900.0)
    pieces = [event for t in range(100, 900, 50) for event in world_at("L3").events(t, t + 50.0)]
    assert set(pieces) == set(whole)
    assert len(whole) > 40


def test_the_millionth_second_costs_what_the_first_costs() -> None:
    world = world_at("L1")
    fastest = {1.0: 9.0, 1e6: 9.0, 1e9: 9.0}
    for step in range(60):
        for base in fastest:
            begun = time.perf_counter()
            world.frame(base + step, SMALL)
            world.truth(base + step)
            fastest[base] = min(fastest[base], time.perf_counter() - begun)
    assert max(fastest.values()) < 2.0 * fastest[1.0]


def test_hours_of_watching_leave_nothing_behind() -> None:
    world = world_at("L3")
    for step in range(1500):
        world.truth(step * 11.0)
    world.frame(0.0, SMALL)
    tracemalloc.start()
    for step in range(600):
        world.truth(1e5 + step * 11.0)
        if step % 20 == 0:
            world.frame(1e5 + step * 11.0, SMALL)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What is remembered of the newest slots replaces that of older ones, which was not traced.
    assert grown < 400_000


def test_every_activity_happens_and_can_be_acted() -> None:
    world = world_at("L1")
    assert {event.activity for event in world.events(0.0, HOUR)} == set(range(len(ACTIVITIES)))
    assert set(MOTIONS) == {activity.name for activity in ACTIVITIES}


def test_activities_are_found_by_name_and_unknown_names_are_refused() -> None:
    assert ACTIVITIES[find_activity("scan")].doing == "scanning an item"
    with pytest.raises(ValueError, match="got 'juggle'"):
        find_activity("juggle")


@pytest.mark.parametrize("level", LEVELS)
def test_one_pair_of_hands_does_one_thing_at_a_time(level: str) -> None:
    world = world_at(level)
    events = world.events(0.0, 2 * HOUR)
    for hands in range(world.config.concurrent):
        own = [event for event in events if event.hands == hands]
        assert len(own) > 100
        assert all(before.end <= after.start for before, after in pairwise(own))
        assert all(event.end - event.start >= 3.0 for event in own)


def test_hands_at_work_together_share_neither_product_nor_place() -> None:
    events = world_at("L3").events(0.0, 2 * HOUR)
    bags = {find_activity("bag"), find_activity("unbag")}
    pairs = [(a, b) for a, b in pairwise(events) if a.hands != b.hands and b.start < a.end]
    assert len(pairs) > 50
    assert all(a.instance != b.instance and a.activity != b.activity for a, b in pairs)
    assert all(not {a.activity, b.activity} <= bags for a, b in pairs)


@pytest.mark.parametrize(("level", "seed"), [("L1", 1), ("L1", 3), ("L2", 5), ("L3", 8)])
def test_truth_lies_where_the_pixels_are(level: str, seed: int) -> None:
    world, overlaps = world_at(level, seed), []
    for event in first_of_each(world):
        for part in (0.1, 0.45, 0.8):
            t = event.start + part * (event.end - event.start)
            pixels, boxes = changed(world, t, LARGE), marked(world.truth(t), LARGE, 2.0)
            unmarked = pixels & ~boxes
            assert unmarked.sum() <= 0.01 * pixels.sum(), (ACTIVITIES[event.activity].name, part)
            overlaps.append(pixels.sum() / max(boxes.sum(), 1))
    # Boxes are no larger than needed: products fill about half of them, hands cover some of that.
    assert np.mean(overlaps) > 0.4


@pytest.mark.parametrize("activity", [activity.name for activity in ACTIVITIES])
def test_boxes_hold_the_visible_part_and_no_more(activity: str) -> None:
    world, overlaps = world_at("L2", seed=5), []
    events = [event for event in world.events(0.0, 3 * HOUR) if ACTIVITIES[event.activity].name == activity]
    for event in events[:4]:
        for part in (0.2, 0.5, 0.8):
            t = event.start + part * (event.end - event.start)
            (track,) = world.truth(t).active
            overlaps.append(overlap(track.box, bounds(changed(world, t, LARGE))))
    assert np.median(overlaps) > 0.85
    assert min(overlaps) > 0.25


def test_the_active_product_is_in_the_truth_with_its_activity() -> None:
    world = world_at("L1")
    for event in first_of_each(world):
        truth = world.truth(half_way(event))
        assert [(track.instance, track.activity) for track in truth.active] == [
            (event.instance, event.activity)
        ]
    quiet = next(a.end for a, b in pairwise(world.events(0.0, HOUR)) if b.start - a.end > 2.0) + 1.0
    assert not world.truth(quiet).active


@pytest.mark.parametrize("level", LEVELS)
def test_boxes_are_normalised_and_inside_the_picture(level: str) -> None:
    world = world_at(level, seed=4)
    tracks = [track for step in range(400) for track in world.truth(step * 1.7).tracks]
    boxes = np.array([track.box for track in tracks])  # (n, 4)
    assert len(boxes) > 50
    assert boxes.min() >= 0.0 and boxes.max() <= 1.0
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_shelf_and_belt_are_tracks_that_are_never_active() -> None:
    truth = world_at("L1").truth(half_way(world_at("L1").events(0.0, HOUR)[3]))
    idle = [track for track in truth.tracks if not track.active]
    assert len(idle) >= 10 and all(track.activity is None for track in idle)


def test_unbag_is_bag_backwards() -> None:
    layout = make_layout(0)
    for u in (0.1, 0.4, 0.9):
        forward = MOTIONS["bag"](Moment(layout, u, 3.0 * u, 0.12, (0.0, 0.0)))
        backward = MOTIONS["unbag"](Moment(layout, 1.0 - u, 3.0 * (1.0 - u), 0.12, (0.0, 0.0)))
        assert np.allclose(forward.centre, backward.centre)


def test_different_seeds_are_different_shops() -> None:
    pictures = [world_at("L1", seed).frame(10.0, SMALL).astype(int) for seed in range(6)]
    distances = [np.abs(a - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(distances) > 10.0
    assert {make_layout(seed).mirror for seed in range(12)} == {True, False}
    assert world_at("L1", 1).events(0.0, HOUR) != world_at("L1", 2).events(0.0, HOUR)


def test_a_mirrored_room_puts_things_on_the_other_side() -> None:
    assert View(True).box((0.1, 0.2, 0.3, 0.4)) == pytest.approx((0.7, 0.2, 0.9, 0.4))


def test_no_two_products_of_one_shop_look_the_same() -> None:
    world = World(WorldConfig(seed=9, instances=96))
    photos = [world.instance_image(instance, (48, 48)).astype(int) for instance in range(96)]
    assert min(np.abs(a - b).mean() for i, a in enumerate(photos) for b in photos[:i]) > 2.0


def test_photographs_of_one_product_differ_by_view_and_repeat_by_number() -> None:
    world = world_at("L1")
    views = [world.instance_image(5, (112, 112), view=view) for view in range(4)]
    assert all((a != b).mean() > 0.2 for a, b in pairwise(views))
    assert np.array_equal(views[2], world_at("L1").instance_image(5, (112, 112), view=2))
    assert (views[0][:3] > 230).all()
    assert world.instance_image(5, (60, 90)).shape == (60, 90, 3)


def test_an_unknown_product_has_no_photograph() -> None:
    with pytest.raises(ValueError, match="instance must be in 0..23, got 24"):
        world_at("L1").instance_image(24)


def test_the_easy_level_has_no_traps_and_six_classes() -> None:
    world = world_at("L0")
    assert {event.activity for event in world.events(0.0, 2 * HOUR)} == set(range(6))
    assert all(track.active for step in range(200) for track in world.truth(step * 3.1).tracks)


def test_without_traps_and_noise_only_hands_and_products_move() -> None:
    world = World(WorldConfig(seed=2, **STILL))
    events = world.events(0.0, HOUR)
    gaps = [(a.end + b.start) / 2 for a, b in pairwise(events) if b.start - a.end > 1.0]
    assert np.array_equal(world.frame(gaps[0], SMALL), world.frame(gaps[9], SMALL))
    assert not np.array_equal(world.frame(gaps[0], SMALL), world.frame(half_way(events[0]), SMALL))


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("walkers", 3),
        ("advert", True),
        ("parked", 3),
        ("flicker", 0.2),
        ("noise", 8.0),
        ("shake_px", 3.0),
        ("drift", 0.5),
    ],
)
def test_each_trap_changes_the_empty_room(knob: str, value: float) -> None:
    world = World(WorldConfig.model_validate({"seed": 2, **STILL, knob: value}))
    gaps = [(a.end + b.start) / 2 for a, b in pairwise(world.events(0.0, 2 * HOUR)) if b.start - a.end > 1.0]
    first = world.frame(gaps[0], SMALL)
    assert any((world.frame(t, SMALL) != first).any() for t in gaps[1:40])


def test_larger_objects_have_larger_boxes() -> None:
    def mean_area(size: tuple[float, float]) -> float:
        world = World(WorldConfig(seed=3, object_size=size))
        boxes = [world.truth(half_way(event)).active[0].box for event in world.events(0.0, 1200.0)]
        return float(np.mean([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]))

    assert mean_area((0.15, 0.16)) > 2.0 * mean_area((0.08, 0.09))


def test_zipf_makes_some_products_common_and_others_rare() -> None:
    def max_count(zipf: float) -> int:
        events = World(WorldConfig(seed=3, zipf=zipf)).events(0.0, 6 * HOUR)
        return max(np.bincount([event.instance for event in events]))

    assert max_count(1.5) > 3 * max_count(0.0)


def test_hard_pairs_and_event_rate_follow_their_knobs() -> None:
    bags = {find_activity("bag"), find_activity("unbag")}
    events = World(WorldConfig(seed=3, hard_pairs=0.9, events_per_minute=4.0)).events(0.0, 3 * HOUR)
    assert np.mean([event.activity in bags for event in events]) > 0.85
    assert len(events) == pytest.approx(720, abs=2)


def test_occlusion_hides_a_part_of_the_product_for_a_while() -> None:
    clear, hidden = (World(WorldConfig(seed=3, occlusion=share)) for share in (0.0, 1.0))
    event = next(event for event in clear.events(0.0, HOUR) if ACTIVITIES[event.activity].name == "sticker")

    def heights(world: World) -> list[float]:
        times = np.arange(event.start + 0.1, event.end, 0.2)
        return [box[3] - box[1] for t in times for box in [track.box for track in world.truth(t).active]]

    assert min(heights(hidden)) < 0.8 * min(heights(clear))
    assert max(heights(hidden)) == pytest.approx(max(heights(clear)))


def test_weak_cues_make_the_red_line_disappear() -> None:
    def red(strength: float) -> int:
        world = World(WorldConfig(seed=2, cue_strength=strength, facings=0, **STILL))
        event = next(e for e in world.events(0.0, HOUR) if ACTIVITIES[e.activity].name == "scan")
        frame = world.frame(half_way(event), LARGE)
        return int((frame == (255, 24, 20)).all(axis=2).sum())

    assert red(1.0) > 100
    assert red(0.0) == 0


def test_twins_share_everything_but_a_chosen_step_of_hue() -> None:
    near, far = (World(WorldConfig(seed=3, lookalikes=1.0, lookalike_hue=gap)) for gap in (20.0, 150.0))

    def apart(world: World) -> float:
        return float(np.abs(world.instance_image(0).astype(int) - world.instance_image(1)).mean())

    assert 0.5 < apart(near) < 0.5 * apart(far)


def test_a_shops_own_faces_and_backdrop_take_the_place_of_the_drawn_ones() -> None:
    world = World(WorldConfig(seed=2, **STILL), faces=RedSquares(), backdrop=Blue())
    frame = world.frame(half_way(world.events(0.0, HOUR)[0]), LARGE)
    assert (frame == (255, 0, 0)).all(axis=2).sum() > 500
    assert (frame == (0, 0, 255)).all(axis=2).mean() > 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"object_size": (0.2, 0.1)},
        {"event_seconds": (0.0, 3.0)},
        {"events_per_minute": 18.0},
        {"concurrent": 4},
        {"activities": 1, "concurrent": 2},
        {"colour": 3},
    ],
)
def test_knobs_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WorldConfig.model_validate(wrong)


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="L0, L1, L2, L3, got 'L9'"):
        WorldConfig.level("L9")


def test_cameras_of_different_seeds_stand_in_different_places() -> None:
    lenses = [make_layout(seed, 1.0).lens for seed in range(40)]
    assert max(lens.zoom for lens in lenses) > 1.25 * min(lens.zoom for lens in lenses)
    tilts = [np.degrees(np.arctan2(lens.yx, lens.xx)) for lens in lenses]
    assert max(tilts) > 4.0 and min(tilts) < -4.0
    assert {make_layout(seed, 1.0).shelf_right for seed in range(12)} == {True, False}


def test_without_variety_every_camera_looks_straight_ahead() -> None:
    assert {make_layout(seed, 0.0).lens for seed in range(8)} == {PLAIN}
    assert {make_layout(seed, 0.0).scanner[0] < make_layout(seed, 0.0).scale[0] for seed in range(8)} == {
        True
    }


def test_what_people_work_at_stays_in_every_picture() -> None:
    for seed in range(60):
        layout = make_layout(seed, 1.0)
        view = View(layout.mirror, lens=layout.lens)
        for box in (layout.scanner, layout.scale, layout.bag, layout.shelf):
            seen = view.box(box)
            assert area(clip(seen)) > 0.7 * area(seen), seed


def test_a_lens_can_be_inverted() -> None:
    layout = make_layout(4, 1.0)
    view = View(layout.mirror, lens=layout.lens)
    assert view.to_room(view.point((0.3, 0.8))) == pytest.approx((0.3, 0.8))
