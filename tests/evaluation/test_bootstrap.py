"""Intervals against cases that are known, and the properties that make them trustworthy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import LvmError
from export.data.metrics import auroc
from export.evaluation import bootstrap
from export.evaluation.bootstrap import Plan, sum_by_video


def clustered(rng, videos=12, queries=20, seeds=3, spread=1.0):
    """Normal values: each video has its own mean."""
    shape = (seeds, videos, queries)
    values = spread * rng.normal(size=videos)[None, :, None] + rng.normal(size=shape)
    names = np.broadcast_to(np.array([f"v{index:02d}" for index in range(videos)])[None, :, None], shape)
    runs = np.broadcast_to(np.arange(seeds)[:, None, None], shape)
    return values.ravel(), names.ravel().tolist(), runs.ravel().tolist()


def test_the_estimate_is_the_mean_over_queries_not_over_videos():
    interval = bootstrap.mean_interval(sum_by_video([1, 1, 1, 0], ["a", "a", "a", "b"]))
    assert interval.estimate == 0.75
    assert (interval.low, interval.high) == (0, 1)
    assert (interval.n_videos, interval.n_seeds) == (2, 1)


def test_seeds_count_equally():
    scores = sum_by_video([1, 1, 0], ["a", "a", "a"], [0, 0, 1])
    assert bootstrap.mean_interval(scores).estimate == 0.5


def test_a_mean_of_many_videos_has_the_interval_of_the_normal_law(rng):
    values, videos, seeds = clustered(rng, videos=200, queries=5, seeds=1)
    interval = bootstrap.mean_interval(sum_by_video(values, videos, seeds))
    error = values.reshape(200, 5).mean(1).std(ddof=1) / np.sqrt(200)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert interval.low < interval.estimate < interval.high


def test_more_queries_of_the_same_videos_do_not_narrow_the_interval(rng):
    values, videos, _ = clustered(rng, seeds=1)
    once, ten = sum_by_video(values, videos), sum_by_video(np.tile(values, 10), videos * 10)
    assert bootstrap.mean_interval(once)[1:3] == pytest.approx(bootstrap.mean_interval(ten)[1:3])


def test_equal_plans_give_equal_intervals_in_any_order_of_queries(rng):
    values, videos, seeds = clustered(rng)
    order = rng.permutation(len(values))
    mixed = sum_by_video(values[order], [videos[i] for i in order], [seeds[i] for i in order])
    one = bootstrap.mean_interval(sum_by_video(values, videos, seeds))
    assert bootstrap.mean_interval(mixed) == pytest.approx(one)
    assert bootstrap.mean_interval(mixed, Plan(random_seed=1)) != pytest.approx(one)


def test_drawing_seeds_widens_the_interval_of_runs_that_differ(rng):
    values, videos, seeds = clustered(rng)
    scores = sum_by_video(values + 2 * np.asarray(seeds), videos, seeds)
    with_seeds, without = (
        bootstrap.mean_interval(scores),
        bootstrap.mean_interval(scores, Plan(draw_seeds=False)),
    )
    assert with_seeds.high - with_seeds.low > 1.5 * (without.high - without.low)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6), st.floats(-0.5, 0.5))
def test_a_constant_difference_has_no_width(values, shift):
    videos = ["a", "a", "b", "b", "c", "c"]
    theirs = sum_by_video(values, videos)
    ours = sum_by_video(np.array(values) + shift, videos)
    interval = bootstrap.difference_interval(ours, theirs, Plan(resamples=200))
    assert interval[:3] == pytest.approx([shift] * 3, abs=1e-9)


def test_pairing_takes_the_videos_out_of_a_difference(rng):
    values, videos, seeds = clustered(rng, spread=3.0)
    ours = sum_by_video(values + 0.5 + 0.1 * rng.normal(size=len(values)), videos, seeds)
    theirs = sum_by_video(values, videos, seeds)
    paired, alone = bootstrap.difference_interval(ours, theirs), bootstrap.mean_interval(ours)
    assert paired.low > 0.4
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


def test_a_system_that_ran_once_is_compared_with_one_that_ran_three_times(rng):
    values, videos, seeds = clustered(rng)
    once = np.asarray(seeds) == 0
    theirs = sum_by_video(
        values[once], [video for video, retained in zip(videos, once, strict=True) if retained]
    )
    interval = bootstrap.difference_interval(sum_by_video(values, videos, seeds), theirs)
    assert interval.n_seeds == 1
    assert interval.low < 0 < interval.high


def test_a_constant_ratio_has_no_width(rng):
    values, videos, seeds = clustered(rng)
    theirs = sum_by_video(np.abs(values), videos, seeds)
    ours = sum_by_video(1.5 * np.abs(values), videos, seeds)
    assert bootstrap.ratio_interval(ours, theirs)[:3] == pytest.approx([1.5] * 3)


def test_a_ratio_to_nothing_is_infinite_and_of_nothing_to_nothing_one():
    something, nothing = sum_by_video([1, 1], ["a", "b"]), sum_by_video([0, 0], ["a", "b"])
    assert bootstrap.ratio_interval(something, nothing)[:3] == (np.inf, np.inf, np.inf)
    assert bootstrap.ratio_interval(nothing, nothing)[:3] == (1, 1, 1)


def test_the_general_statistic_agrees_with_the_mean(rng):
    values, videos, seeds = clustered(rng)
    general = bootstrap.statistic_interval(lambda rows: float(values[rows].mean()), videos, seeds, Plan(500))
    assert general == pytest.approx(bootstrap.mean_interval(sum_by_video(values, videos, seeds), Plan(500)))


def test_resamples_without_a_negative_are_left_out(rng):
    happened = np.array([True, True, True, False] * 5)
    videos = ["a", "a", "a", "b"] * 5
    score = rng.normal(size=20) + happened
    interval = bootstrap.statistic_interval(lambda rows: auroc(score[rows], happened[rows]), videos)
    assert interval.estimate == interval.low == interval.high == auroc(score, happened)


def test_a_seed_that_lacks_a_video_is_named():
    with pytest.raises(LvmError, match="seed 7 lacks b"):
        sum_by_video([1, 1, 1], ["a", "b", "a"], [0, 0, 7])


def test_unequal_lengths_are_refused():
    with pytest.raises(LvmError, match="got 2, 1 and 1"):
        sum_by_video([1, 1], ["a"])


def test_systems_on_other_videos_cannot_be_paired():
    with pytest.raises(LvmError, match="only one has b, c"):
        bootstrap.difference_interval(sum_by_video([1, 1], ["a", "b"]), sum_by_video([1, 1], ["a", "c"]))
