"""A photo at the sizes at which products occur in frames."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.query.photo_mosaic import mosaic


def _photo(height: int = 90, width: int = 60) -> np.ndarray:
    """Left half red, right half blue."""
    photo = np.zeros((height, width, 3), np.uint8)
    photo[:, : width // 2, 0] = 255
    photo[:, width // 2 :, 2] = 255
    return photo


@pytest.mark.parametrize("size", [112, 224, 100])
def test_every_copy_is_the_whole_photo(size: int) -> None:
    shown = mosaic(_photo(), size)
    cell = size / 7
    for row, column, side in ((0, 0, 3), (4, 0, 3), (0, 3, 2), (2, 5, 2), (4, 3, 2), (3, 0, 1), (6, 6, 1)):
        y = round((row + side / 2) * cell)
        left, right = round((column + side / 4) * cell), round((column + 3 * side / 4) * cell)
        assert shown[y, left, 0] > 200 and shown[y, left, 2] < 50, (row, column)
        assert shown[y, right, 2] > 200 and shown[y, right, 0] < 50, (row, column)


def test_the_copies_cover_the_picture() -> None:
    assert (mosaic(np.full((5, 9, 3), 200, np.uint8), 112) == 200).all()


def test_a_photo_of_one_pixel_is_shown() -> None:
    assert mosaic(np.full((1, 1, 3), 7, np.uint8), 112).shape == (112, 112, 3)
