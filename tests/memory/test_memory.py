"""TokenMemory keeps the best tokens, each once, in order of time and cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.memory.token_memory import TokenMemory, Tokens, select


def _tokens(ticks, cells):
    ticks = np.asarray(ticks, np.int64)
    features = np.stack([ticks, cells], axis=1).astype(np.float32)
    return Tokens(features, ticks, np.asarray(cells, np.int32))


def _update(memory, clip, old=None, new=None, oldest=-(10**9)):
    old = np.zeros(memory.slots, np.float32) if old is None else np.asarray(old, np.float32)
    return memory.update(clip, np.concatenate([old, np.asarray(new, np.float32)]), oldest_tick=oldest)


def test_the_best_tokens_stay_in_time_order():
    clip = _tokens([5, 5, 10, 10], [3, 1, 2, 0])
    memory = _update(TokenMemory.empty(3, 2), clip, new=[0.1, 0.9, 0.8, 0.7])
    assert memory.tick.tolist() == [5, 10, 10]
    assert memory.cell.tolist() == [1, 0, 2]
    assert memory.features[:, 0].tolist() == [5, 10, 10]
    assert np.allclose(memory.score, [0.9, 0.7, 0.8])


def test_equal_scores_go_to_the_lower_index():
    memory = _update(TokenMemory.empty(2, 2), _tokens([1, 2, 3], [0, 0, 0]), new=[0.5, 0.5, 0.5])
    assert memory.tick.tolist() == [1, 2]


def test_a_repeated_tick_and_cell_counts_once_and_the_remembered_one_wins():
    memory = _update(TokenMemory.empty(3, 2), _tokens([1, 2], [4, 4]), new=[1, 1])
    again = Tokens(np.full((2, 2), 77, np.float32), np.array([2, 3]), np.array([4, 4], np.int32))
    memory = _update(memory, again, old=[0, 0, 0], new=[9, 1])
    assert memory.tick.tolist() == [1, 2, 3]
    assert memory.features[1].tolist() == [2, 4]


def test_empty_slots_never_win():
    memory = _update(TokenMemory.empty(4, 2), _tokens([1], [0]), old=[9, 9, 9, 9], new=[-5])
    assert memory.filled == 1
    assert memory.oldest_tick() == 1


def test_tokens_beyond_the_horizon_leave():
    memory = _update(TokenMemory.empty(4, 2), _tokens([1, 50], [0, 0]), new=[9, 1])
    memory = _update(memory, _tokens([60], [0]), old=[9, 1, 0, 0], new=[1], oldest=50)
    assert memory.tokens().tick.tolist() == [50, 60]


def test_a_version_never_changes():
    first = _update(TokenMemory.empty(2, 2), _tokens([1, 2], [0, 0]), new=[1, 1])
    before = first.features.copy()
    second = _update(first, _tokens([3, 4], [0, 0]), old=[0, 0], new=[1, 1])
    assert (first.features == before).all() and second.tick.tolist() == [3, 4]
    assert second.version == first.version + 1
    with pytest.raises(ValueError, match="read-only"):
        first.features[0, 0] = 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused_and_nothing_is_lost(bad):
    memory = _update(TokenMemory.empty(2, 2), _tokens([1], [0]), new=[1])
    with pytest.raises(ValueError, match="finite"):
        _update(memory, _tokens([2], [0]), old=[1, 0], new=[bad])
    assert memory.filled == 1


def test_scores_of_empty_slots_may_be_anything():
    memory = _update(TokenMemory.empty(2, 2), _tokens([1], [0]), old=[np.nan, np.nan], new=[1])
    assert memory.filled == 1


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"scores must be \(3,\), got \(2,\)"):
        TokenMemory.empty(2, 2).update(_tokens([1], [0]), np.zeros(2, np.float32), oldest_tick=0)
    with pytest.raises(ValueError, match=r"tokens must be features \(k, d\)"):
        Tokens(np.zeros((2, 3), np.float32), np.zeros(3, np.int64), np.zeros(3, np.int32))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.floats(-3, 3, width=32)), max_size=40),
    st.integers(1, 12),
)
@settings(max_examples=200, deadline=None)
def test_selection_is_the_top_m_of_the_distinct_tokens(rows, m):
    tick = np.array([r[0] for r in rows], np.int64)
    cell = np.array([r[1] for r in rows], np.int32)
    scores = np.array([r[2] for r in rows], np.float32)
    chosen = select(scores, tick, cell, np.ones(len(rows), bool), m)
    first = {}
    for i, row in enumerate(rows):
        first.setdefault(row[:2], i)
    wanted = sorted(first.values(), key=lambda i: (-scores[i], i))[:m]
    assert sorted(chosen.tolist()) == sorted(wanted)
    stamps = list(zip(tick[chosen], cell[chosen], strict=True))
    assert stamps == sorted(stamps)
