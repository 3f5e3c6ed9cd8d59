"""What can be found by colours and raw features."""

import numpy as np
import pytest

from export.evaluation import histogram_baseline as lookup


def test_window_sums_are_sums_over_all_squares(rng):
    cells = rng.normal(size=(2, 49, 3)).astype(np.float32)
    grid = cells.reshape(2, 7, 7, 3)
    expected = [
        grid[:, y : y + side, x : x + side].sum(axis=(1, 2))
        for side in range(1, 8)
        for y in range(8 - side)
        for x in range(8 - side)
    ]
    assert np.allclose(lookup.sum_windows(cells), np.stack(expected, axis=1), atol=1e-4)


def test_every_pixel_is_counted_in_its_cell():
    image = np.zeros((112, 112, 3), np.uint8)
    image[16:32, 32:48] = (255, 0, 0)
    counts = lookup.make_cell_histograms(image)
    assert (counts.sum(axis=1) == 256).all()
    differing = np.flatnonzero((counts != counts[0]).any(axis=1))
    assert differing.tolist() == [7 + 2]


@pytest.mark.parametrize("place", [(0, 0), (40, 70), (80, 80)])
def test_colours_are_found_wherever_they_are(rng, place):
    y, x = place
    frames = np.full((3, 112, 112, 3), 128, np.uint8)
    frames[1, y : y + 30, x : x + 30] = (200, 20, 20)
    frames[2, y : y + 30, x : x + 30] = (20, 20, 200)
    cells = np.stack([lookup.make_cell_histograms(frame) for frame in frames])
    photos = [np.full((50, 40, 3), colour, np.uint8) for colour in ((210, 10, 10), (20, 30, 220))]
    scores = lookup.score_histograms(
        cells, np.stack([lookup.make_photo_histogram([photo]) for photo in photos])
    )
    assert scores.shape == (2, 3)
    assert scores.argmax(axis=1).tolist() == [1, 2]


def test_a_perfect_match_of_colours_scores_one():
    image = np.full((112, 112, 3), (10, 200, 30), np.uint8)
    found = lookup.score_histograms(
        lookup.make_cell_histograms(image)[None], lookup.make_photo_histogram([image])[None]
    )
    assert found == pytest.approx(1.0)


def test_the_best_window_of_features_counts(rng):
    cells = rng.normal(size=(80, 49, 16)).astype(np.float32)  # more frames than one round
    expected = rng.normal(size=(2, 16)).astype(np.float32)
    cells.reshape(80, 7, 7, 16)[70, 2:5, 3:6] = 4 * expected[1]
    scores = lookup.score_windows(cells, expected)
    assert scores.shape == (2, 80)
    assert scores[1].argmax() == 70 and scores[1, 70] == pytest.approx(1, abs=1e-4)
    assert np.abs(scores).max() <= 1 + 1e-5


def test_tokens_are_compared_by_direction_only(rng):
    tokens = rng.normal(size=(5, 8)).astype(np.float32)
    scores = lookup.score_tokens(3 * tokens, tokens[[4, 0]])
    assert scores.argmax(axis=1).tolist() == [4, 0]
    assert scores.max(axis=1) == pytest.approx(1, abs=1e-5)


def test_photos_are_pooled_by_direction_so_that_none_outshouts_the_others(rng):
    one, two = (rng.normal(size=(49, 8)).astype(np.float32) for _ in range(2))
    assert np.allclose(lookup.pool_photos([one, two]), lookup.pool_photos([100 * one, two]), atol=1e-5)
