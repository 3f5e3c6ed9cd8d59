"""Frames become memory the same way however they arrive."""

import numpy as np
import pytest

from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import Ingest, preprocess, round_to_half
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version, select_novel
from engines.errors import EngineFault
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network

NETWORK = small_network()


def _ingest(network=NETWORK, sampler="neural"):
    engine = fake_sampler(network)
    return Ingest(network, fake_backbone(network), make_sampler(sampler, engine), empty_version(network))


def _same(one, two):
    return all(
        np.array_equal(getattr(one.memory, name), getattr(two.memory, name))
        for name in ("features", "tick", "cell", "score", "valid")
    ) and np.array_equal(one.background.svd.basis, two.background.svd.basis)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
def test_chunks_of_any_size_give_the_same_memory(size):
    whole, chunked = _ingest(), _ingest()
    stream = frames(42)
    whole.push(stream)
    for start in range(0, len(stream), size):
        chunked.push(stream[start : start + size])
    assert _same(whole.version, chunked.version)
    assert whole.version.pending_ticks == chunked.version.pending_ticks == (200, 205)


def test_the_memory_is_bounded_and_full_and_its_ticks_are_of_the_stream():
    ingest = _ingest()
    ingest.push(frames(60))
    memory = ingest.version.memory
    assert memory.filled == memory.slots == 20
    assert set((memory.tick // 5).tolist()) <= set(range(60))
    assert ingest.version.coverage.watched_seconds() == 60


def test_a_version_that_was_read_stays_as_it_was():
    ingest = _ingest()
    before = ingest.push(frames(10))
    ticks = before.memory.tick.copy()
    ingest.push(frames(10, start=10))
    assert (before.memory.tick == ticks).all() and before.frames == 10


def test_a_frame_that_is_not_newer_is_refused_also_across_clips():
    ingest = _ingest()
    ingest.push(frames(4))
    with pytest.raises(ValueError, match="newer than tick 15"):
        ingest.push(frames(1, start=3))
    assert ingest.version.frames == 4


def test_a_backbone_that_gives_nan_loses_the_frame_and_nothing_else():
    ingest = _ingest()
    ingest.push(frames(6))
    good = ingest.backbone._function
    ingest.backbone._function = lambda feeds: {"tokens": good(feeds)["tokens"] * np.nan}
    with pytest.raises(EngineFault, match="NaN"):
        ingest.push(frames(1, start=6))
    ingest.backbone._function = good
    ingest.push(frames(1, start=7))
    assert ingest.version.frames == 7 and ingest.version.coverage.gaps == ((6, 7),)


def test_old_tokens_leave_after_the_horizon():
    ingest = _ingest(small_network(horizon_s=8))
    ingest.push(frames(40))
    assert ingest.version.memory.tick.min() >= (39 - 8) * 5


def test_without_a_background_clips_are_not_thinned():
    ingest = _ingest(small_network(svd_rank=0, sampler_novelty=False, clip_candidates=196), "fifo")
    ingest.push(frames(8))
    assert ingest.version.memory.filled == 20 and ingest.version.background is None


def test_thinning_keeps_the_most_novel_in_order():
    ingest = _ingest()
    ingest.push(frames(9))
    version = ingest.version
    clip = version.clip()
    novelty = version.clip_novelty()
    kept = select_novel(novelty, 5)
    assert sorted(novelty[kept]) == sorted(novelty)[-5:]
    assert (np.diff(kept) > 0).all()
    assert np.allclose(novelty, version.background.novelty(clip), atol=1e-5)
    assert select_novel(np.ones(9, np.float32), 3).tolist() == [0, 1, 2]


def test_stored_features_are_exactly_half_precision(rng):
    x = np.concatenate([rng.normal(size=5000) * 10.0**e for e in range(-9, 5)]).astype(np.float32)
    stored = round_to_half(x[np.abs(x) < 65000])
    assert np.array_equal(stored, stored.astype(np.float16).astype(np.float32))
    wanted = x[np.abs(x) < 65000].astype(np.float16).astype(np.float32)
    assert np.array_equal(stored, np.where(np.abs(x[np.abs(x) < 65000]) < 2.0**-14, 0, wanted))
    for bad in (70000, -70000, np.nan, np.inf):
        with pytest.raises(ValueError, match="half precision"):
            round_to_half(np.array([1, bad], np.float32))


def test_preprocessing_squashes_the_whole_picture():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, -10:] = 255
    small = preprocess(Frame(image, 0.0), 30)
    assert small.shape == (30, 30, 3) and (small[:, -1] == 255).all() and (small[:, 0] == 0).all()
