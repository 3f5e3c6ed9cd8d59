"""Tokens of a frozen backbone with their truth: what the runtime itself would judge."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import Sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.query.reader_inputs import make_context
from engines.errors import LvmError
from export.data.token_cache import load, load_or_encode, save
from tests.support.fakes import fake_backbone
from tests.support.training_models import toy_cache, toy_caches, toy_config, toy_frames


class Witness:
    """A sampler that notes what it was asked, and keeps what the first feature says."""

    def __init__(self):
        self.asked = []

    def __call__(self, memory, clip, novelty):
        self.asked.append((memory, clip, novelty.copy()))
        return np.concatenate([memory.features[:, 0], clip.features[:, 0]])


@pytest.fixture(scope="module")
def watched():
    """The runtime on video 0: what its sampler was asked, and the version after each clip."""
    config, cache, witness = toy_config(), toy_caches()[0], Witness()
    runtime = Ingest(
        config, fake_backbone(config), Sampler("w", witness, prefilters=True), empty_version(config)
    )
    versions = []
    try:
        for number, (t, image) in enumerate(toy_frames(cache.truth, 0, 120)):
            version = runtime.push_images([image], [t])
            if number % 10 == 9:
                versions.append(version)
    finally:
        runtime.close()
    return witness.asked, versions


def test_candidates_are_those_of_the_runtime(watched):
    cache = toy_caches()[0]
    assert cache.clips == len(watched[0]) == 12
    for number, (_, clip, novelty) in enumerate(watched[0]):
        assert np.array_equal(cache.tick[number], clip.tick)
        assert np.array_equal(cache.cell[number], clip.cell)
        np.testing.assert_allclose(cache.features[number], clip.features, atol=2e-3)
        np.testing.assert_allclose(cache.novelty[number], novelty[60:], atol=1e-3)


def test_the_background_of_a_clip_judges_memory_as_the_runtime_does(watched):
    cache, config = toy_caches()[0], toy_config()
    for number, (memory, _, novelty) in enumerate(watched[0]):
        found = cache.background(number, config).novelty(memory.slots_as_tokens())
        np.testing.assert_allclose(found[memory.valid], novelty[:60][memory.valid], atol=1e-3)


def test_the_summary_after_a_clip_is_what_the_reader_gets(watched):
    cache, config = toy_caches()[0], toy_config()
    for number, version in enumerate(watched[1]):
        feeds = make_context(version, config).svd
        np.testing.assert_allclose(cache.summary[number + 1][:, :-1], feeds["svd_basis"], atol=1e-3)
        np.testing.assert_allclose(cache.summary[number + 1][:, -1], feeds["svd_strength"], atol=1e-3)


def test_nothing_is_known_before_the_first_clip():
    assert not toy_caches()[0].summary[0].any()


def test_each_candidate_knows_its_event():
    cache = toy_caches()[0]
    for clip in range(cache.clips):
        assert (
            cache.event[clip].tolist()
            == cache.truth.find_evidence(cache.tick[clip], cache.cell[clip]).tolist()
        )
    assert (cache.event >= 0).any()


def test_all_frames_are_kept_also_those_of_an_unfinished_clip():
    cache = toy_cache(5, seconds=27)
    assert cache.clips == 2 and len(cache.tokens) == 27
    assert cache.ticks.tolist() == list(range(0, 135, 5))


def test_products_have_tokens_of_each_photo():
    cache = toy_caches()[0]
    assert cache.objects.shape == (6, 2, 49, 16)
    assert not np.array_equal(cache.objects[0, 0], cache.objects[0, 1])


def test_a_video_comes_back_from_disk(tmp_path):
    cache = toy_caches()[2]
    save(cache, tmp_path / "video.with.dots")
    found = load(tmp_path / "video.with.dots", "video.with.dots")
    assert found.name == "video.with.dots"
    for name, value in vars(cache).items():
        if isinstance(value, np.ndarray):
            assert getattr(found, name).dtype == value.dtype
            assert np.array_equal(getattr(found, name), value)
    assert np.array_equal(found.truth.box, cache.truth.box)
    assert [path.name for path in tmp_path.iterdir()] == ["video.with.dots"]


def test_tokens_are_mapped_and_not_read(tmp_path):
    save(toy_caches()[2], tmp_path / "video")
    assert isinstance(load(tmp_path / "video", "video").tokens, np.memmap)


def test_what_a_killed_run_left_half_written_is_overwritten(tmp_path):
    (tmp_path / "video.part").mkdir()
    (tmp_path / "video.part" / "tokens.npy").write_bytes(b"half")
    save(toy_caches()[2], tmp_path / "video")
    assert np.array_equal(load(tmp_path / "video", "video").tokens, toy_caches()[2].tokens)


def test_two_runs_that_want_one_video_see_it_once(tmp_path):
    seen = []

    def see():
        seen.append(time.monotonic())
        time.sleep(0.3)  # long enough for the other to look for it, too
        return toy_caches()[2]

    with ThreadPoolExecutor(2) as runs:
        found = [
            runs.submit(load_or_encode, tmp_path, "video", "worlds", toy_config(), see) for _ in range(2)
        ]
    for one in found:
        assert np.array_equal(one.result().tokens, toy_caches()[2].tokens)
    assert len(seen) == 1


def test_a_video_shorter_than_a_clip_is_refused():
    with pytest.raises(LvmError, match="toy-0 must last at least one clip of 10 frames .* got 9 frames"):
        toy_cache(0, seconds=9)


def test_a_network_without_background_has_all_tokens_as_candidates():
    config = toy_config(svd_rank=0, sampler_novelty=False, clip_candidates=490)
    cache = toy_cache(0, config, seconds=20)
    assert cache.features.shape == (2, 490, 16)
    assert cache.background(0, config) is None and not cache.novelty.any()
