"""Novelty: what always was is usual, what was never seen stands out."""

import numpy as np
import pytest

from edge_runtime.memory.background_model import Background
from edge_runtime.memory.version import clip_tokens

SCENE = np.random.default_rng(0).normal(size=(49, 32)).astype(np.float32)
LIGHT = np.random.default_rng(1).normal(size=32).astype(np.float32)


def _clip(rng, frames=10):
    """A still scene under changing light, with a little noise."""
    light = rng.normal(size=(frames, 1, 1)) * LIGHT
    return (SCENE + light + rng.normal(size=(frames, 49, 32)) * 0.05).astype(np.float16)


def _trained(rng, clips=8):
    background = Background.empty(4, 32, 0.99)
    for _ in range(clips):
        background = background.update(_clip(rng))
    return background


def test_a_new_object_stands_out_and_changing_light_does_not(rng):
    background = _trained(rng)
    clip = _clip(rng)
    clip[5, 17] += np.random.default_rng(2).normal(size=32).astype(np.float16) * 2
    novelty = background.novelty(clip_tokens(clip, range(10)))
    assert novelty.argmax() == 5 * 49 + 17
    assert np.sort(novelty)[-2] < novelty.max()
    usual = np.delete(novelty, 5 * 49 + 17)
    assert novelty.max() > 0.99 and abs(np.median(usual)) < 0.6


def test_a_restless_cell_is_usual_and_the_same_change_in_a_quiet_cell_is_news(rng):
    def clip():
        frames = _clip(rng).astype(np.float32)
        frames[:, 20] += rng.normal(size=(10, 32)) * 0.5  # an advert, another picture in each frame
        return frames

    background = Background.empty(4, 32, 0.99)
    for _ in range(8):
        background = background.update(clip())
    frames = clip()
    frames[5, 17] += rng.normal(size=32) * 0.5
    novelty = background.novelty(clip_tokens(frames.astype(np.float16), range(10))).reshape(10, 49)
    assert novelty.argmax() == 5 * 49 + 17
    assert np.median(novelty[:, 20]) < 0.9 < novelty[5, 17]


def test_noise_in_a_cell_where_nothing_ever_moves_is_no_news(rng):
    still = _clip(rng, frames=1)[0].astype(np.float32)

    def clip():
        frames = _clip(rng).astype(np.float32)
        frames[:, 3] = still[3]
        return frames

    background = Background.empty(4, 32, 0.99)
    for _ in range(8):
        background = background.update(clip())
    frames = clip()
    frames[5, 3] += rng.normal(size=32) * 0.001
    assert background.novelty(clip_tokens(frames.astype(np.float16), range(10)))[5 * 49 + 3] < 0.5


@pytest.mark.parametrize("count", range(1, 9))
def test_the_first_cell_means_are_the_median_of_a_clip_of_any_length(rng, count):
    clip = _clip(rng, count)
    means = Background.empty(4, 32, 0.99).update(clip).cell_means
    np.testing.assert_allclose(means, np.median(clip.astype(np.float32), axis=0), rtol=1e-5, atol=1e-6)


def test_nothing_is_novel_before_the_first_clip(rng):
    assert (Background.empty(4, 32, 0.99).novelty(clip_tokens(_clip(rng), range(10))) == 0).all()


def test_a_version_never_changes_and_bad_frames_are_refused(rng):
    background = _trained(rng, clips=2)
    means = background.cell_means.copy()
    broken = _clip(rng)
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        background.update(broken)
    background.update(_clip(rng))
    assert (background.cell_means == means).all()
    with pytest.raises(ValueError, match=r"\(F, 49, d\)"):
        background.update(np.zeros((3, 48, 32), np.float16))
