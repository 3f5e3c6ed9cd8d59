"""Whether photos of one product are alike: ranks by hand, and the tool as a person runs it."""

import json

import numpy as np
import pytest

from tests.support.products import product_folder
from tools.quality import photos
from tools.quality.photos import estimate, rank_photos


def test_ranks_are_those_counted_by_hand():
    rows = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.8, 0.6]], float)
    found = rank_photos(rows, ["a", "a", "b", "b", "b"])
    assert found["a"] == ([1.0, 1.0], [1.0, 1.0])
    nearest, precision = found["b"]
    assert nearest == [1.0, 1.0, 0.0]
    # The last one's order is a (0.9, 0.1), a (1, 0), b, b: precisions 1/3 and 2/4.
    assert precision[:2] == [1.0, 1.0] and precision[2] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_a_product_with_one_photo_is_only_among_the_others():
    assert set(rank_photos(np.eye(3), ["a", "a", "b"])) == {"a"}


def test_the_interval_is_over_products():
    mean, low, high = estimate([[1.0] * 10, [0.0] * 10])
    assert mean == 0.5 and (low, high) == (0.0, 1.0)


def test_the_tool_compares_what_the_bundle_was_not_trained_on(tmp_path, capsys):
    folder = product_folder(tmp_path / "products", 3, photos=4)
    assert photos.main([str(folder), "--most", "3"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["photos"] == 9 and {"tokens", "colours"} <= set(result)
    assert all(0 <= result["colours"][name][0] <= 1 for name in ("nearest", "map"))
