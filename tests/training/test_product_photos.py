"""Photos of products as training material."""

import cv2
import numpy as np
import pytest

from engines.errors import LvmError
from export.training.data.product_photos import PhotoSet, select_held_out

COLOURS = {"ale": (200, 30, 30), "bread": (30, 190, 40), "curd": (40, 60, 200), "dill": (210, 200, 30)}
PHOTOS = 5


@pytest.fixture
def folder(tmp_path):
    """Four products, each of one colour on grey; the photos are wide or tall."""
    for name, colour in COLOURS.items():
        (tmp_path / "products" / name).mkdir(parents=True)
        for i in range(PHOTOS):
            height, width = (60, 80) if i % 2 else (90, 60)
            image = np.full((height, width, 3), 120, np.uint8)
            image[8:-8, 8:-8] = colour
            path = tmp_path / "products" / name / f"{i}.png"
            cv2.imwrite(str(path), image[..., ::-1])
    return tmp_path / "products"


def test_every_fourth_product_in_order_of_names_is_held_out():
    names = [f"p{i:02}" for i in range(9)]
    assert select_held_out(names[::-1]) == ("p03", "p07")


def test_held_out_products_are_neither_named_nor_drawn(folder):
    photos = PhotoSet(folder, ["bread"], stored_side=48)
    assert photos.names == ("ale", "curd", "dill")
    assert len(photos) == 3 * PHOTOS
    drawn = np.concatenate([photos.photo(i).reshape(-1, 3) for i in range(len(photos))])
    assert not (drawn[:, 1] > drawn[:, 0].astype(int) + 60).any(), "bread is the only green"


def test_a_held_out_name_that_is_no_product_is_refused(folder):
    with pytest.raises(LvmError, match="got ael"):
        PhotoSet(folder, ["ael"])


def test_a_folder_without_products_is_one_sentence(tmp_path):
    with pytest.raises(LvmError, match="one sub-folder of photographs for each"):
        PhotoSet(tmp_path)


def test_a_photo_keeps_its_shape(folder):
    photos = PhotoSet(folder, stored_side=48)
    assert photos.photo(0).shape == (48, 32, 3)
    assert photos.photo(1).shape == (36, 48, 3)


def test_a_batch_has_so_many_photos_of_so_many_products(folder):
    images, labels = PhotoSet(folder, stored_side=48).batch(np.random.default_rng(1), 3, 4, size=56)
    assert images.shape == (12, 56, 56, 3) and images.dtype == np.uint8
    assert [len(set(labels[i : i + 4])) for i in (0, 4, 8)] == [1, 1, 1]
    assert len(set(labels)) == 3


def test_more_photos_than_a_product_has_are_drawn_twice_but_look_different(folder):
    images, _ = PhotoSet(folder, stored_side=48).batch(np.random.default_rng(1), 1, PHOTOS + 2, size=32)
    assert len({image.tobytes() for image in images}) == PHOTOS + 2


def test_one_seed_gives_one_batch_and_another_seed_another(folder):
    photos = PhotoSet(folder, stored_side=48)
    first, again, other = (photos.batch(np.random.default_rng(seed), 4, 2, size=40)[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_labels_follow_the_products_in_the_pictures(folder):
    photos = PhotoSet(folder, stored_side=48)
    images, labels = photos.batch(np.random.default_rng(0), 4, 40, size=40)
    colours = np.array(list(COLOURS.values()), float) - 120
    middle = images[:, 10:30, 10:30].mean(axis=(1, 2)) - images.mean(axis=(1, 2, 3))[:, None]
    guessed = (middle @ (colours - colours.mean(axis=1, keepdims=True)).T).argmax(axis=1)
    assert (guessed == labels).mean() > 0.6  # chance is a quarter; light and covers hide some


def test_a_second_start_reads_the_cache_and_not_the_photos(folder, tmp_path):
    cache = tmp_path / "cache"
    first = PhotoSet(folder, cache=cache, stored_side=48)
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    second = PhotoSet(folder, cache=cache, stored_side=48)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written
    batches = [one.batch(np.random.default_rng(2), 2, 2, size=32)[0] for one in (first, second)]
    assert np.array_equal(*batches)


def test_a_new_photo_is_seen_in_spite_of_the_cache(folder, tmp_path):
    PhotoSet(folder, cache=tmp_path / "cache", stored_side=48)
    cv2.imwrite(str(folder / "ale" / "new.png"), np.zeros((40, 40, 3), np.uint8))
    assert len(PhotoSet(folder, cache=tmp_path / "cache", stored_side=48)) == 4 * PHOTOS + 1


def test_a_pasted_product_lies_in_its_box_and_the_rest_stays(folder):
    photos, ground = PhotoSet(folder, stored_side=48), np.full((90, 160, 3), 7, np.uint8)
    for seed in range(20):
        made = photos.composite(np.random.default_rng(seed), ground)
        changed = np.argwhere((made.image != 7).any(axis=2))  # (n, 2) row, column
        (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0) + 1
        x1, y1, x2, y2 = np.array(made.box) * (160, 90, 160, 90)
        assert max(x1 - left, y1 - top, right - x2, bottom - y2) <= 8, "only a soft edge is outside"
        assert min(x1 - left, y1 - top, right - x2, bottom - y2) >= 0
    assert (ground == 7).all()


def test_pasted_products_are_as_wide_as_asked(folder):
    photos, ground = PhotoSet(folder, stored_side=48), np.zeros((300, 300, 3), np.uint8)
    boxes = [photos.composite(np.random.default_rng(i), ground, share=(0.3, 0.3)).box for i in range(20)]
    widths = [x2 - x1 for x1, _, x2, _ in boxes]
    assert 0.2 < min(widths) and max(widths) < 0.6  # upright ones are 0.3, turned ones up to a diagonal
