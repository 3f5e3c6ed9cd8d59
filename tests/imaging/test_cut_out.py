"""Products cut out of photographs along their outline."""

import cv2
import numpy as np
import pytest

from edge_runtime.imaging.cut_out import cut_square, find_extent, outline_product

SHAPES = {
    "bottle": [(45, 10), (55, 10), (55, 40), (70, 55), (70, 95), (30, 95), (30, 55), (45, 40)],
    "carton": [(25, 20), (75, 20), (75, 90), (25, 90)],
    "fruit": [(round(50 + 30 * np.cos(a)), round(50 + 28 * np.sin(a))) for a in np.linspace(0, 6.2, 24)],
}


def draw(shape, size=(150, 150), seed=0):
    """Return a photo of a coloured shape before a noisy shelf, and where the shape is."""
    rng = np.random.default_rng(seed)
    height, width = size
    photo = np.asarray(cv2.resize(rng.integers(60, 130, (15, 15, 3)).astype(np.uint8), (width, height)))
    truth = np.zeros(size, np.uint8)
    scaled = (np.array(SHAPES[shape]) * np.array([width, height]) / 100).astype(np.int32)
    cv2.fillPoly(truth, [scaled], 1)
    photo[truth > 0] = rng.integers(0, 40, 3) + np.array([200, 40, 60])
    noisy = photo + rng.normal(0, 5, photo.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), truth > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(150, 150), (400, 300), (90, 160)])
def test_the_outline_is_the_products(shape, size):
    photo, truth = draw(shape, size)
    mask = outline_product(photo)
    assert mask.shape == size and mask.dtype == np.uint8
    found = mask > 127
    assert (found & truth).sum() / (found | truth).sum() > 0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_the_outline_is_the_same_each_time(shape):
    photo = draw(shape)[0]
    first = outline_product(photo)
    outline_product(draw("carton", seed=5)[0])  # moves OpenCV's random numbers
    assert np.array_equal(outline_product(photo), first)


@pytest.mark.parametrize(
    "photo",
    [
        np.full((120, 120, 3), 90, np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (120, 90, 3)).astype(np.uint8),
        np.full((1, 300, 3), 200, np.uint8),
    ],
    ids=["one colour", "tiny", "noise", "a line"],
)
def test_where_nothing_stands_out_there_is_none_or_a_mask_that_can_be_cut(photo):
    mask = outline_product(photo)
    assert mask is None or (mask.shape == photo.shape[:2] and mask.any())


def test_one_colour_has_no_outline():
    assert outline_product(np.full((120, 120, 3), 90, np.uint8)) is None


def test_a_square_holds_the_product_in_its_middle():
    photo, truth = draw("bottle", (200, 100))
    mask = outline_product(photo)
    square = cut_square(photo, mask)
    rows, columns = find_extent(mask)
    assert square.shape == (rows.stop - rows.start,) * 2 + (4,)
    filled = np.flatnonzero(square[..., 3].any(axis=0))
    assert abs(filled[0] - (len(square) - 1 - filled[-1])) <= 1
    assert (square[..., 3] > 0).sum() == (mask > 0).sum()
