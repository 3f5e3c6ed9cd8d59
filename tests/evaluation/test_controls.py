"""Samplers that know too much, and readers that see too little."""

import numpy as np
import pytest

from engines.errors import LvmError
from engines.fake import FakeEngine
from engines.network_config import GRID, NetworkConfig
from engines.spec import TensorSpec
from export.evaluation.controls import (
    BlindReader,
    make_control_sampler,
    make_oracle_scores,
    make_uniform_scores,
)
from export.evaluation.evaluate import EvidenceIndex
from export.evaluation.stream_run import Model, build_memory
from tests.support.evaluation_videos import cache, model

CELLS = GRID * GRID


def memory_of(
    name: str, one: Model, order: str = "stream"
) -> tuple[EvidenceIndex, np.ndarray, NetworkConfig]:
    video = cache()
    sampler = make_control_sampler(name, one.sampler, video, one.network.memory_tokens)
    tokens = build_memory(one, video, sampler, order).memory.tokens()  # type: ignore[arg-type]
    return EvidenceIndex.build(video.truth, tokens.tick, tokens.cell, video.ticks), tokens.tick, one.network


def test_the_oracle_remembers_evidence_of_all_events_alike_and_nothing_else() -> None:
    known, ticks, network = memory_of("oracle", model())
    assert len(ticks) == network.memory_tokens == 20
    assert known.count_by_event().tolist() == [10, 10]


def test_the_oracle_covers_all_events_before_it_doubles_any() -> None:
    known, _, _ = memory_of("oracle", model(memory_tokens=2))
    assert known.count_by_event().tolist() == [1, 1]


def test_the_oracle_ranks_all_evidence_before_anything_else() -> None:
    video, scores = cache(), make_oracle_scores(cache())
    tick, cell = np.repeat(video.ticks, CELLS), np.tile(np.arange(CELLS), len(video.ticks))
    evidence = (video.truth.find_evidence(tick, cell) >= 0).reshape(scores.shape)
    assert scores[evidence].min() > scores[~evidence].max()
    assert len(np.unique(scores[~evidence])) == (~evidence).sum()


def test_uniform_frames_are_whole_and_evenly_spread() -> None:
    _, ticks, _ = memory_of("uniform-frames", model(memory_tokens=3 * 49))
    moments, counts = np.unique(ticks, return_counts=True)
    assert (counts == 49).all()
    # The middles of three thirds of 46 frames.
    assert (moments / 5).tolist() == [7, 23, 38]


def test_no_frame_is_marked_where_not_one_fits() -> None:
    assert not make_uniform_scores(10, 48, CELLS).any()


@pytest.mark.parametrize("name", ["neural", "random", "fifo", "svd-novelty", "oracle", "uniform-frames"])
def test_every_sampler_takes_clips_in_time_order_and_at_random(name: str) -> None:
    for order in ("stream", "random"):
        _, ticks, network = memory_of(name, model(), order)
        assert len(ticks) == network.memory_tokens and (np.diff(ticks) >= 0).all()


@pytest.mark.parametrize("name", ["random", "oracle"])
def test_where_each_token_is_judged_alone_the_memory_does_not_depend_on_the_order(name: str) -> None:
    in_time, shuffled = (memory_of(name, model(), order)[1] for order in ("stream", "random"))
    assert in_time.tolist() == shuffled.tolist()


def test_an_unknown_sampler_names_the_known_ones() -> None:
    with pytest.raises(LvmError, match="one of neural, random, .*, uniform-frames, got 'clever'"):
        make_control_sampler("clever", model().sampler, cache(), 20)


def test_a_blind_reader_gets_zeros_for_what_is_hidden_and_all_else_unchanged() -> None:
    heard: list[dict[str, np.ndarray]] = []
    specs = tuple(
        TensorSpec(name, kind, ("batch", 2))
        for name, kind in (
            ("object_tokens", "float32"),
            ("memory_valid", "bool"),
            ("svd_strength", "float32"),
        )
    )
    engine = FakeEngine(lambda feeds: heard.append(dict(feeds)) or {}, specs, ())  # type: ignore[func-returns-value]
    feeds = {spec.name: np.ones((1, 2), spec.dtype) for spec in specs}
    for blind in ("query", "memory"):
        BlindReader(engine, blind)(feeds)  # type: ignore[arg-type]
    seen = [[name for name, array in one.items() if array.any()] for one in heard]
    assert seen == [["memory_valid", "svd_strength"], ["object_tokens"]]
    assert all(array.all() for array in feeds.values())


def test_without_a_background_clips_are_taken_at_random_too() -> None:
    changes = {"svd_rank": 0, "sampler_novelty": False, "clip_candidates": 4 * CELLS}
    one, video = model(**changes), cache(**changes)
    for name in ("neural", "svd-novelty"):
        sampler = make_control_sampler(name, one.sampler, video, one.network.memory_tokens)
        assert build_memory(one, video, sampler, "random").memory.filled == one.network.memory_tokens
