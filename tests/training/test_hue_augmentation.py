"""Real products in other hues: the same thing on all of its photographs, another product in another hue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.photo_folders import PhotoFaces, make_world
from edge_runtime.simulation.world import World
from export.training.data.scenes import draw_scenes
from export.training.data.world_pool import (
    HUES,
    UNCHANGED_SHARE,
    HueShiftedFaces,
    make_training_world,
    shift_hue,
)
from export.training.recipe import Data
from tests.support.fakes import small_network
from tests.support.pictures import product_folder

LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return product_folder(tmp_path_factory.mktemp("shop") / "products", 6, 9)


def test_a_turn_of_hue_keeps_brightness_and_makes_as_many_colours_as_there_are_hues() -> None:
    colour = np.full((4, 4, 3), (150, 110, 100), np.uint8)
    seen = [shift_hue(colour, hue) for hue in range(HUES)]
    assert len({tuple(one[0, 0]) for one in seen}) == HUES
    for one in seen:
        assert one[0, 0] @ LUMA == pytest.approx(colour[0, 0] @ LUMA, abs=1.0)
    np.testing.assert_array_equal(seen[0], colour)
    np.testing.assert_array_equal(shift_hue(colour, HUES), colour)


def test_grey_has_no_hue_to_turn() -> None:
    grey = np.full((2, 2, 3), 90, np.uint8)
    for hue in range(HUES):
        np.testing.assert_allclose(shift_hue(grey, hue).astype(int), 90, atol=1)


def test_a_product_has_one_hue_in_the_stream_and_on_the_photographs_that_ask_for_it(products: Path) -> None:
    faces = PhotoFaces(products, 1)
    tinted = HueShiftedFaces(faces, 1)
    for instance in range(6):
        hue = tinted.hue(instance)
        for view in (*range(tinted.views(instance)), *tinted.query_views(instance)):
            np.testing.assert_array_equal(
                tinted.photo(instance, view), shift_hue(faces.photo(instance, view), hue)
            )
        face, plain = tinted.face(instance), faces.face(instance)
        np.testing.assert_array_equal(face[:, :, :3], shift_hue(plain[:, :, :3], hue))
        np.testing.assert_array_equal(face[:, :, 3], plain[:, :, 3])
        assert tinted.product(instance) == f"{faces.product(instance)}, hue {hue} of {HUES}"


def test_hues_differ_between_worlds_and_a_share_of_products_keeps_its_own(products: Path) -> None:
    faces = PhotoFaces(products, 1)
    tints = np.array([[HueShiftedFaces(faces, seed).hue(one) for one in range(6)] for seed in range(200)])
    assert set(tints.ravel()) == set(range(HUES))
    assert (tints == 0).mean() == pytest.approx(UNCHANGED_SHARE, abs=0.05)


def test_worlds_to_learn_from_sell_products_in_hues_and_those_to_be_judged_by_do_not(products: Path) -> None:
    data = Data(products=products, product_worlds=1.0)
    learned = make_training_world(data, 3)
    assert {learned.product(one).rpartition(",")[0] for one in range(6)} == {
        make_world(WorldConfig(seed=3), products).product(one) for one in range(6)
    }


def _batch(worlds: list[World]) -> int:
    """How many photos a batch has in which everything has one."""
    scenes = draw_scenes(
        worlds,
        np.random.default_rng(0),
        frames_a_world=3,
        photos_a_world=99,
        inside_events=1.0,
        network=small_network(image_size=56, activities=10),
    )
    return len(scenes.crops)


def test_a_real_product_of_two_worlds_is_one_product_with_one_photo(products: Path) -> None:
    config = WorldConfig(seed=3, facings=6)
    once = _batch([make_world(config, products)])
    other = make_world(config.model_copy(update={"seed": 4}), products)
    assert once == 6 and _batch([make_world(config, products), other]) == 6


def test_drawn_products_of_two_worlds_are_different_ones_of_the_same_number() -> None:
    worlds = [World(WorldConfig(seed=seed, instances=6, facings=6)) for seed in (3, 4)]
    assert _batch(worlds) == _batch(worlds[:1]) + _batch(worlds[1:])
