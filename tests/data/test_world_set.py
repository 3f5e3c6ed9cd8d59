"""Checkout worlds as a data folder: the records say what the world shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from engines.errors import LvmError
from export.data.checks import find_problems, read_data_folder
from export.data.records import Video
from export.data.world_set import (
    make_world_events,
    make_world_tracks,
    make_world_video,
    open_world,
    write_worlds,
)
from tests.support.pictures import product_folder


def short(seed: int = 1, **changes: object) -> Video:
    return make_world_video(seed, minutes=1.5, **changes)  # type: ignore[arg-type]


def test_a_written_folder_is_sound_and_tells_its_worlds(tmp_path: Path) -> None:
    done: list[str] = []
    write_worlds(tmp_path, [short(1), short(2, split="test", level="L2")], progress=done.append)
    assert find_problems(tmp_path) == []
    data = read_data_folder(tmp_path)
    assert done == ["L1-1", "L2-2"]
    world = open_world(data.videos["L2-2"])
    assert world.config == WorldConfig.level("L2", seed=2)
    assert [event.t_s for event in data.events["L2-2"]] == [one.start for one in world.events(0.0, 90.0)]


def test_active_boxes_come_at_every_tick_and_idle_ones_once_a_second() -> None:
    video, world = short(), World(WorldConfig.level("L1", seed=1))
    tracks = list(make_world_tracks(video, world))
    event = world.events(0.0, 90.0)[1]
    ticks = [one.tick5 for one in tracks if one.active and one.instance == event.instance]
    inside = [tick for tick in ticks if event.start <= tick / 5 < event.end]
    assert len(inside) > 0.9 * (event.end - event.start) * 5
    assert {one.tick5 % 5 for one in tracks if not one.active} == {0}
    assert all(one.active for one in make_world_tracks(video, world, idle_every=0))


def test_boxes_are_the_worlds_own() -> None:
    video, world = short(), World(WorldConfig.level("L1", seed=1))
    for track in list(make_world_tracks(video, world))[::150]:
        boxes = [one.box for one in world.truth(track.tick5 / 5).tracks if one.instance == track.instance]
        assert any(track.box == pytest.approx(box, abs=1e-5) for box in boxes)


def test_label_noise_changes_annotations_and_not_the_world() -> None:
    noisy, clean = (make_world_video(1, minutes=20.0, knobs={"label_noise": share}) for share in (0.5, 0.0))
    world = open_world(noisy)
    said, true = make_world_events(noisy, world), make_world_events(clean, open_world(clean))
    wrong = [a.activity != b.activity for a, b in zip(said, true, strict=True)]
    assert 0.25 < sum(wrong) / len(wrong) < 0.75
    assert world.events(0.0, 1200.0) == open_world(clean).events(0.0, 1200.0)
    assert make_world_events(noisy, world) == said


def test_missing_boxes_are_missing_by_the_share() -> None:
    gappy, whole = short(knobs={"missing_boxes": 0.4}), short()
    left = len(list(make_world_tracks(gappy, open_world(gappy))))
    assert 0.5 < left / len(list(make_world_tracks(whole, open_world(whole)))) < 0.7


def test_events_end_with_the_video() -> None:
    event = World(WorldConfig.level("L1", seed=1)).events(0.0, 600.0)[3]
    video = make_world_video(1, minutes=(event.start + 1.0) / 60.0)
    assert make_world_events(video, open_world(video))[-1].t_e == pytest.approx(event.start + 1.0)


def test_a_world_of_real_products_is_rebuilt_from_its_record_alone(tmp_path: Path) -> None:
    products = product_folder(tmp_path / "shop", 6, 3)
    names = ["product-00", "product-02", "product-03", "product-04"]
    video = Video.model_validate_json(short(products=products, only=names).model_dump_json())
    assert {open_world(video).product(instance) for instance in range(4)} == set(names)
    assert next(make_world_tracks(video, open_world(video))).category in names


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"level": "L7"}, "level must be one of"), ({"knobs": {"zipf": -1.0}}, "zipf: .* got -1")],
)
def test_levels_and_knobs_that_make_no_sense_are_one_sentence(
    changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(LvmError, match=complaint):
        short(**changes)


def test_a_file_is_no_world() -> None:
    video = Video(video="v", path="v.mp4", fps=25, width=64, height=36, duration_s=9.0, split="test")
    with pytest.raises(LvmError, match="is a file"):
        open_world(video)
