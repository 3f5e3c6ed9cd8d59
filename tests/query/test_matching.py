"""Photos matched with what is remembered by looks alone."""

import numpy as np
import pytest

from edge_runtime.query.matching import match_appearance
from edge_runtime.query.photo_mosaic import WHOLE, make_mosaic, take_whole
from tests.support.fakes import small_network

WIDTH = 16


def make_scenes(scenes: int, moments: int, cells: int, seed: int = 0):
    """Return tokens (n, a) at ticks (n,), and the looks (scenes, a): each scene has looks of its own."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(scenes, WIDTH)).astype(np.float32)
    scene = np.repeat(np.arange(scenes), moments * cells)
    features = looks[scene] + 0.4 * rng.normal(size=(len(scene), WIDTH)).astype(np.float32)
    return features + 7, np.repeat(np.arange(scenes * moments) * 5, cells).astype(np.int64), looks + 7


@pytest.mark.parametrize("scene", [0, 3, 7])
def test_the_scene_with_these_looks_is_found_whatever_all_have_in_common(scene):
    features, ticks, looks = make_scenes(8, 10, 4)
    photo = looks[scene] + 0.4 * np.random.default_rng(9).normal(size=(25, WIDTH)).astype(np.float32)
    match = match_appearance(features, ticks, np.ones(len(ticks), np.bool_), photo)
    start, end, share = match.spans(1.0)[0]
    assert 10 * scene <= start < end <= 10 * scene + 10
    assert share > 0.5
    assert match.tokens.argmax() // 40 == scene


def test_what_is_seen_once_is_surer_than_what_is_seen_everywhere():
    features, ticks, looks = make_scenes(8, 10, 4)
    inside = np.ones(len(ticks), np.bool_)
    once = match_appearance(features, ticks, inside, np.repeat(looks[:1], 25, 0)).spans(1.0)
    mean = np.repeat(looks.mean(0, keepdims=True), 25, 0)
    everywhere = match_appearance(features, ticks, inside, mean).spans(1.0)
    assert once[0][2] > 0.95 and everywhere[0][2] < 0.75


def test_only_the_window_is_matched():
    features, ticks, looks = make_scenes(4, 10, 4)
    inside = ticks >= 100
    match = match_appearance(features, ticks, inside, np.repeat(looks[:1], 25, 0))
    assert match.ticks.min() == 100 and not match.tokens[~inside].any()


def test_spans_are_apart_and_their_shares_are_at_most_all():
    features, ticks, looks = make_scenes(12, 20, 3)
    match = match_appearance(features, ticks, np.ones(len(ticks), np.bool_), np.repeat(looks[4:5], 25, 0))
    spans = match.spans(1.0)
    ordered = sorted(spans)
    assert all(b[0] >= a[1] for a, b in zip(ordered, ordered[1:], strict=False))
    assert sum(share for *_, share in spans) <= 1 + 1e-5 and all(end > start for start, end, _ in spans)


@pytest.mark.parametrize("tokens", [1, 2])
def test_a_memory_of_hardly_anything_can_be_asked(tokens):
    features, ticks, looks = make_scenes(1, tokens, 1)
    match = match_appearance(features, ticks, np.ones(tokens, np.bool_), np.repeat(looks, 25, 0))
    assert len(match.spans(1.0)) == 1 and np.isfinite(match.similarity).all()


def test_the_whole_copy_of_a_mosaic_is_taken_out_of_its_tokens():
    network = small_network(backbone="tf_efficientnet_lite0", appearance=8, image_size=70)
    photo = np.zeros((30, 30, 3), np.uint8)
    photo[:, :, 1] = np.linspace(0, 255, 30)[None]
    picture = make_mosaic(photo, network)
    cells = picture.reshape(7, 10, 7, 10, 3).mean((1, 3)).reshape(49, 3)
    whole = take_whole(cells).reshape(WHOLE, WHOLE, 3)
    assert np.all(np.diff(whole[..., 1], axis=1) > 20)  # one photo from left to right
    assert np.allclose(whole[0], whole[-1], atol=1)
