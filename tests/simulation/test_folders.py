"""A shop's own pictures in the world: every product once, questions never see what was drawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.photo_folders import FolderBackdrop, PhotoFaces, make_world
from engines.errors import LvmError
from tests.support.pictures import background_folder, product_folder

CONFIG = WorldConfig(seed=3, instances=6, closeup=0.5)


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return product_folder(tmp_path_factory.mktemp("shop") / "products", 6, 9)


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return background_folder(tmp_path_factory.mktemp("shop") / "backgrounds", 3)


def colour(rgba: NDArray[np.uint8]) -> tuple[int, ...]:
    """Of the middle of a face or photograph."""
    return tuple(int(level) for level in rgba[len(rgba) // 2, rgba.shape[1] // 2, :3])


def test_every_product_comes_once_before_any_comes_twice(products: Path) -> None:
    faces = PhotoFaces(products, 1)
    assert len({faces.product(instance) for instance in range(6)}) == 6
    assert faces.product(6) == faces.product(0)
    assert len({PhotoFaces(products, seed).products for seed in range(8)}) > 4


def test_faces_are_cut_out_of_the_photograph_that_was_asked_for(products: Path) -> None:
    faces = PhotoFaces(products, 1)
    for instance in range(6):
        number = int(faces.product(instance)[-2:])
        for view in range(faces.views(instance)):
            assert colour(faces.face(instance, view)) == (40 + 20 * number, 10 * view, 200)


def test_a_face_is_opaque_in_the_middle_soft_at_its_edge_and_clear_around(products: Path) -> None:
    faces = PhotoFaces(products, 1)
    alphas = [faces.face(instance, view)[:, :, 3] for instance in range(6) for view in range(6)]
    assert all(alpha[80, 80] == 255 and alpha[0, 0] == 0 for alpha in alphas)
    assert all(((alpha > 0) & (alpha < 255)).any() for alpha in alphas)
    assert np.std([(alpha > 0).mean() for alpha in alphas]) > 0.05


def test_photographs_for_questions_are_never_drawn(products: Path) -> None:
    faces = PhotoFaces(products, 1)
    assert (faces.views(0), faces.query_views(0)) == (6, range(6, 9))
    for view in faces.query_views(0):
        with pytest.raises(ValueError, match=r"must be in 0\.\.5 to be drawn"):
            faces.face(0, view)


def test_events_show_other_photographs_of_a_product_than_one_another(products: Path) -> None:
    world = make_world(CONFIG, products)
    greens = set()
    for event in world.events(0.0, 3600.0):
        if event.instance == 0:
            t = (event.start + event.end) / 2
            pixels = (world.frame(t, (90, 160)) != world.frame(t, (90, 160), hide_active=True)).any(axis=2)
            assert pixels.any()
            greens.add(int(np.median(world.frame(t, (90, 160))[pixels][:, 1])) // 10)
    assert len(greens) >= 3


def test_a_question_gets_the_plain_photograph_padded_and_not_stretched(products: Path) -> None:
    world = make_world(CONFIG, products)
    view = world.query_views(2)[0]
    photo = world.instance_image(2, (64, 64), view=view)
    assert photo.shape == (64, 64, 3)
    assert (photo == photo[0, 0]).all() and photo[0, 0, 1] == 10 * view
    with pytest.raises(ValueError, match=r"view of product-.* must be in 0\.\.8, got 9"):
        world.instance_image(2, view=9)


def test_a_world_of_photographs_is_a_pure_function_of_seed_and_time(
    products: Path, backgrounds: Path
) -> None:
    times = [3.0, 700.2, 41.8, 5000.0]
    forward = [make_world(CONFIG, products, backgrounds).frame(t, (63, 112)) for t in times]
    world = make_world(CONFIG, products, backgrounds)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda t: world.frame(t, (63, 112)), reversed(times)))
    assert all(np.array_equal(a, b) for a, b in zip(forward, reversed(again), strict=True))


def test_there_are_no_more_instances_than_products(products: Path) -> None:
    assert make_world(WorldConfig(seed=1), products).config.instances == 6
    names = ["product-01", "product-02", "product-03", "product-05"]
    world = make_world(WorldConfig(seed=1), products, only=names)
    reds = {int(world.instance_image(instance, view=0)[0, 0, 0]) for instance in range(4)}
    assert (world.config.instances, reds) == (4, {60, 80, 100, 140})


def test_a_backdrop_is_a_part_of_one_picture_and_differs_by_seed(backgrounds: Path) -> None:
    pictures = [FolderBackdrop(backgrounds, seed).picture((90, 160)) for seed in range(8)]
    assert all(picture.shape == (90, 160, 3) for picture in pictures)
    assert np.array_equal(pictures[2], FolderBackdrop(backgrounds, 2).picture((90, 160)))
    assert len({picture.tobytes() for picture in pictures}) == 8
    assert all(len(np.unique(picture[:, :, 2])) == 1 for picture in pictures)


def test_the_backdrop_shows_the_same_part_at_every_size(backgrounds: Path) -> None:
    backdrop = FolderBackdrop(backgrounds, 4)
    small, large = backdrop.picture((45, 80)).astype(int), backdrop.picture((90, 160)).astype(int)
    assert np.abs(large[::2, ::2] - small).mean() < 4.0


def test_a_missing_or_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    lonely = product_folder(tmp_path / "lonely", 4, 1)
    for folder, complaint in (
        (tmp_path / "none", "no folder of products"),
        (tmp_path / "empty", "has no products: expected one sub-folder"),
        (lonely, "has 1 photographs .* at least two"),
    ):
        with pytest.raises(LvmError, match=complaint):
            PhotoFaces(folder, 1)
    for folder, complaint in ((tmp_path / "none", "no folder of"), (tmp_path / "empty", "no backgrounds")):
        with pytest.raises(LvmError, match=complaint):
            FolderBackdrop(folder, 1)


def test_an_unknown_product_is_named(products: Path) -> None:
    with pytest.raises(LvmError, match="no product kiwi"):
        make_world(CONFIG, products, only=["product-01", "kiwi"])
    with pytest.raises(LvmError, match="name the folder"):
        make_world(CONFIG, only=["kiwi"])


def test_a_damaged_photograph_is_named_when_it_is_needed(tmp_path: Path) -> None:
    folder = product_folder(tmp_path / "shop", 4, 3)
    for photo in folder.rglob("000.png"):
        photo.write_bytes(b"not a picture")
    with pytest.raises(LvmError, match=r"000\.png is damaged"):
        PhotoFaces(folder, 1).face(0, 0)
