"""The demo source: frames at the sampling rate, endless, paced, closed from anywhere."""

from __future__ import annotations

import threading
import time
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from edge_runtime.sources.demo import DemoSource, parse_demo
from engines.errors import LvmError
from tests.support.pictures import background_folder, product_folder
from tests.support.stalls import timed

CONFIG = WorldConfig(seed=3)
SIZE = (36, 64)


def source(*, sample_fps: float = 5.0, start: float = 0.0, speed: float = 0.0) -> DemoSource:
    return DemoSource(CONFIG, sample_fps=sample_fps, start=start, size=SIZE, speed=speed)


def test_frames_come_at_the_sampling_rate_and_show_the_world_at_their_time() -> None:
    demo = source(sample_fps=2.0)
    frames = list(islice(demo, 4))
    assert [frame.t for frame in frames] == [0.0, 0.5, 1.0, 1.5]
    assert all(np.array_equal(frame.image, World(CONFIG).frame(frame.t, SIZE)) for frame in frames)
    assert (demo.seen, demo.live, demo.duration) == (4, False, None)


@pytest.mark.parametrize(("start", "first"), [(0.0, 0.0), (0.3, 0.4), (7.0, 7.0), (3 * 0.2, 0.6), (1e6, 1e6)])
def test_the_first_frame_is_the_first_one_not_before_the_start(start: float, first: float) -> None:
    assert next(iter(source(start=start))).t == pytest.approx(first, abs=1e-9)


def test_iterating_again_goes_on_where_it_stopped() -> None:
    demo = source()
    assert [frame.t for frame in islice(demo, 2)] == [0.0, 0.2]
    assert [frame.t for frame in islice(demo, 2)] == [0.4, 0.6]


@timed
def test_speed_one_keeps_the_pace_of_the_clock() -> None:
    begun = time.monotonic()
    list(islice(source(sample_fps=20.0, speed=1.0), 11))
    assert 0.49 <= time.monotonic() - begun < 2.0


@timed
def test_close_from_another_thread_ends_a_waiting_iteration_at_once() -> None:
    demo = source(sample_fps=0.01, speed=1.0)
    timer = threading.Timer(0.2, demo.close)
    timer.start()
    begun = time.monotonic()
    assert len(list(demo)) == 1
    assert time.monotonic() - begun < 5.0
    timer.join()


def test_a_closed_source_gives_nothing_more() -> None:
    demo = source()
    next(iter(demo))
    demo.close()
    demo.close()
    assert list(demo) == []


@pytest.mark.parametrize("wrong", [{"sample_fps": 0.0}, {"start": -1.0}, {"speed": float("nan")}])
def test_rates_and_starts_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(LvmError, match=f"{next(iter(wrong)).removesuffix('s')}.*got"):
        source(**wrong)


def test_a_plain_address_is_the_default_world() -> None:
    settings = parse_demo("demo")
    assert settings.config == WorldConfig()
    assert (settings.size, settings.speed) == ((360, 640), 0.0)


def test_an_address_sets_seed_level_speed_and_size() -> None:
    settings = parse_demo("demo?seed=3&level=L2&speed=1.5&size=64x36")
    assert settings.config == WorldConfig.level("L2", seed=3)
    frame = next(iter(settings.open(sample_fps=1.0, start=2.0)))
    assert (frame.image.shape, frame.t, settings.speed) == ((36, 64, 3), 2.0, 1.5)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("film.mp4", "demo?key=value"),
        ("demo?sped=1", "settings are seed, level, speed, size, products, backgrounds, got 'sped'"),
        ("demo?seed=-1", "seed must be .* got '-1'"),
        ("demo?seed=99999999999999999999", "seed must be"),
        ("demo?seed=1&seed=2", "once"),
        ("demo?level=L7", "level must be one of L0, L1, L2, L3, got 'L7'"),
        ("demo?speed=fast", "speed must be .* got 'fast'"),
        ("demo?speed=inf", "speed must be"),
        ("demo?size=640", "size must be WIDTHxHEIGHT"),
        ("demo?size=640x0", "size must be"),
        ("demo?size=axb", "got 'axb'"),
        ("demo?level", "level must be"),
        ("demo?products=/no/such/folder", "products must be a folder of pictures, got '/no/such/folder'"),
        ("demo?backgrounds=", "backgrounds must be a folder"),
    ],
)
def test_a_wrong_address_is_one_sentence(spec: str, complaint: str) -> None:
    with pytest.raises(LvmError, match=complaint.replace("?", r"\?")) as caught:
        parse_demo(spec)
    assert "\n" not in str(caught.value)


def test_an_address_names_folders_of_products_and_backgrounds(tmp_path: Path) -> None:
    products = product_folder(tmp_path / "my products", 5, 3)
    backgrounds = background_folder(tmp_path / "walls", 2)
    settings = parse_demo(f"demo?products={quote(str(products))}&backgrounds={backgrounds}&size=64x36")
    frame = next(iter(settings.open(sample_fps=1.0)))
    assert settings.make_world().config.instances == 5
    assert np.array_equal(frame.image, settings.frame_at(0.0).image)
    assert not np.array_equal(frame.image, parse_demo("demo?size=64x36").frame_at(0.0).image)


def test_a_folder_without_products_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LvmError, match="has no products: expected one sub-folder"):
        parse_demo(f"demo?products={tmp_path}").open(sample_fps=1.0)
