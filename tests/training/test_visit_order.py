"""Which videos are visited together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import LvmError
from export.training.lvm.visit_order import plan_epoch

clips_of_videos = st.lists(st.integers(0, 6), min_size=1, max_size=6)


@st.composite
def epochs(draw):
    """clips of each video, at most, the epoch that was drawn."""
    clips = draw(clips_of_videos)
    batch = draw(st.integers(1, len(clips)))
    most = draw(st.integers(1, 7))
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    seed = draw(st.integers(0, 1000))
    return clips, batch, most, epoch(clips, batch, seed, share=share, most=most)


def epoch(clips, batch, seed, *, share=0.5, most=100):
    rng = np.random.default_rng(seed)
    return plan_epoch(clips, batch, rng, chronological=share, max_clips=most)


def visits_of(batches, video):
    return [visit for batch in batches for visit in batch if visit.video == video]


@settings(max_examples=30, deadline=None)
@given(epochs())
def test_no_video_is_twice_in_a_batch(drawn):
    _, batch, _, batches = drawn
    for visits in batches:
        assert len({visit.video for visit in visits}) == len(visits) == batch


@settings(max_examples=30, deadline=None)
@given(epochs())
def test_each_clip_is_visited_at_most_once_and_exists(drawn):
    clips, _, most, batches = drawn
    for video, count in enumerate(clips):
        numbers = [visit.clip for visit in visits_of(batches, video)]
        assert len(set(numbers)) == len(numbers) <= most
        assert all(0 <= clip < count for clip in numbers)


@settings(max_examples=30, deadline=None)
@given(epochs())
def test_a_sweep_takes_clip_after_clip(drawn):
    clips, _, _, batches = drawn
    for video in range(len(clips)):
        visits = visits_of(batches, video)
        if visits and visits[0].chronological:
            first = visits[0].clip
            assert [visit.clip for visit in visits] == list(range(first, first + len(visits)))


@settings(max_examples=30, deadline=None)
@given(epochs())
def test_only_the_first_visit_of_a_video_begins_its_memory(drawn):
    clips, _, _, batches = drawn
    for video in range(len(clips)):
        firsts = [visit.first for visit in visits_of(batches, video)]
        assert firsts == [True] * bool(firsts) + [False] * (len(firsts) - 1)


@settings(max_examples=30, deadline=None)
@given(epochs())
def test_an_epoch_ends_only_where_too_few_videos_have_clips_left(drawn):
    clips, batch, most, batches = drawn
    left = [min(count, most) - len(visits_of(batches, video)) for video, count in enumerate(clips)]
    assert np.count_nonzero(left) < batch


def test_equal_generators_make_equal_epochs_and_others_do_not():
    clips = [12] * 6
    assert epoch(clips, 3, 5) == epoch(clips, 3, 5)
    assert epoch(clips, 3, 5) != epoch(clips, 3, 6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_or_none_of_the_videos_are_swept(share):
    batches = epoch([10] * 5, 2, 0, share=share)
    assert {visit.chronological for batch in batches for visit in batch} == {bool(share)}


def test_a_share_of_the_videos_is_swept():
    swept = sum(visit.chronological for visit in (v for b in epoch([1] * 400, 1, 0, share=0.3) for v in b))
    assert 80 < swept < 160


def test_random_order_is_not_the_order_of_time():
    visits = visits_of(epoch([30] * 2, 2, 0, share=0.0), 0)
    numbers = [visit.clip for visit in visits]
    assert numbers != sorted(numbers)


def test_the_part_that_is_visited_begins_anywhere():
    begins = {min(v.clip for v in visits_of(epoch([10], 1, seed, most=3), 0)) for seed in range(60)}
    assert begins == set(range(8))


def test_videos_with_much_left_come_more_often():
    """Drawn evenly the short videos would be used up first and the epoch would end early."""
    batches = epoch([4, 4, 40, 40], 2, 0)
    assert len(batches) > 30


def test_too_few_videos_for_a_batch_are_refused():
    with pytest.raises(LvmError, match="batch of 3 distinct videos.*got 2"):
        epoch([5, 5], 3, 0)
