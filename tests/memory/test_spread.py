"""Where more is relevant than fits, what lies closest to others leaves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.diversity import REDUNDANT, find_redundant, mark_redundant
from edge_runtime.memory.samplers import SamplerOutput, make_sampler
from edge_runtime.memory.token_memory import TokenMemory, Tokens
from edge_runtime.memory.version import apply, empty_version
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network

NETWORK = small_network(spread=True)
ALL = ("features", "tick", "cell", "score", "valid")


def _brute(scores, tick, cell, real, m):
    """The rule word by word: every pair of every round, in seconds."""
    left = np.array(sorted(np.flatnonzero(real & (scores > 0)), key=lambda i: (tick[i], cell[i])), int)
    while len(left) > m:
        t, rows, columns = tick[left] / 5, cell[left] // 7, cell[left] % 7
        cells = np.maximum(abs(rows[:, None] - rows), abs(columns[:, None] - columns))
        apart = (abs(t[:, None] - t) + 0.5 * cells).round(6)
        np.fill_diagonal(apart, np.inf)
        one, other = np.unravel_index(apart.argmin(), apart.shape)
        crowd = [(np.sort(apart[a])[1], a) for a in (one, other)]
        left = np.delete(left, min(crowd)[1])
    gone = real & (scores > 0)
    gone[left] = False
    return gone


@given(st.integers(0, 10_000), st.integers(1, 90), st.integers(1, 40), st.sampled_from([1, 3, 40, 4000]))
@settings(max_examples=120, deadline=None)
def test_the_rule_holds_for_any_tokens(seed, n, m, seconds):
    rng = np.random.default_rng(seed)
    stamps = rng.choice(seconds * 49, min(n, seconds * 49), replace=False)
    tick, cell = stamps // 49 * 5, (stamps % 49).astype(np.int32)
    scores = rng.integers(-2, 6, len(stamps)).astype(np.float32)
    real = rng.random(len(stamps)) < 0.9
    found = find_redundant(scores, tick, cell, real, m)
    assert found.tolist() == _brute(scores, tick, cell, real, m).tolist()
    order = rng.permutation(len(stamps))
    again = find_redundant(scores[order], tick[order], cell[order], real[order], m)
    assert again.tolist() == found[order].tolist()


def test_a_crowd_in_one_second_finds_neighbours_beyond_its_window():
    """49 cells of a tick are more than the neighbours in time that are looked at first."""
    tick, cell = np.repeat([0, 5, 10], 49), np.tile(np.arange(49, dtype=np.int32), 3)
    scores = np.linspace(1, 2, 147, dtype=np.float32)
    real = np.ones(147, np.bool_)
    assert (
        find_redundant(scores, tick, cell, real, 30).tolist() == _brute(scores, tick, cell, real, 30).tolist()
    )


def test_the_same_cell_before_a_crowded_second_is_a_neighbour_too():
    """More tokens than are looked at first lie between the first two of three in one cell: the middle one
    leaves."""
    tick, cell = np.array([0, *[1] * 20, 2]), np.array([48, *range(19), 48, 48], np.int32)
    scores, real = np.ones(22, np.float32), np.ones(22, np.bool_)
    found = find_redundant(scores, tick, cell, real, 21)
    assert np.flatnonzero(found).tolist() == [20]
    assert found.tolist() == _brute(scores, tick, cell, real, 21).tolist()


@pytest.mark.parametrize("first", [0, -(10**6), 5 * 10**10])
def test_a_field_of_hundreds_is_compared_in_parts(first):
    """16 crowded seconds in a row of hours: more rows than are compared at once look beyond their window."""
    rng = np.random.default_rng(1)
    tick = np.concatenate([np.repeat(np.arange(16) * 5, 49), rng.choice(10**5, 200, replace=False) + 80])
    cell = np.concatenate([np.tile(np.arange(49), 16), rng.integers(0, 49, 200)]).astype(np.int32)
    everyone = np.ones(len(tick), np.bool_)
    found = find_redundant(everyone.astype(np.float32), tick + first, cell, everyone, 900)
    assert found.tolist() == _brute(everyone.astype(np.float32), tick, cell, everyone, 900).tolist()
    assert found[: 16 * 49].sum() > 80


def test_moments_are_kept_before_a_second_token_of_one():
    """Four events of five alike tokens each, the later ones scored higher, and four slots."""
    tick = np.repeat([0, 100, 200, 300], 5) + np.tile(np.arange(5), 4) * 5
    cell, scores = np.full(20, 24, np.int32), np.repeat([1, 2, 3, 4], 5).astype(np.float32)
    kept = ~find_redundant(scores, tick, cell, np.ones(20, np.bool_), 4)
    assert (tick[kept] // 100).tolist() == [0, 1, 2, 3]


def test_nothing_leaves_that_fits_and_nothing_irrelevant_counts():
    rng = np.random.default_rng(0)
    tick, cell = np.arange(40), rng.integers(0, 49, 40).astype(np.int32)
    scores = np.where(np.arange(40) < 12, 1, -1).astype(np.float32)
    assert not find_redundant(scores, tick, cell, np.ones(40, np.bool_), 12).any()
    gone = find_redundant(scores, tick, cell, np.ones(40, np.bool_), 11)
    assert gone.sum() == 1 and gone[:12].sum() == 1
    assert not find_redundant(np.full(40, np.nan, np.float32), tick, cell, np.ones(40, np.bool_), 1).any()


def _scored(name, network, oldest=0):
    """A full memory of one crowded second, and a clip of lone tokens that are scored lower."""
    m = network.memory_tokens
    memory = TokenMemory.empty(m, 16)
    crowd = Tokens(np.full((m, 16), 2, np.float32), np.full(m, 50), np.arange(m, dtype=np.int32))
    memory = memory.update(crowd, np.full(2 * m, 2, np.float32), oldest_tick=0)
    clip = Tokens(np.ones((3, 16), np.float32), np.array([100, 200, 300]), np.zeros(3, np.int32))
    scores = np.concatenate([np.full(m, 2), np.ones(3)]).astype(np.float32)
    sampler = make_sampler(name, fake_sampler(network))
    output = mark_redundant(SamplerOutput(scores), sampler, network, memory, clip, oldest_tick=oldest)
    return scores, output.scores, memory.update(clip, output.scores, oldest_tick=oldest)


def test_the_memory_takes_the_lone_ones_where_the_network_says_so():
    _, scores, memory = _scored("neural", NETWORK)
    assert set(memory.tick.tolist()) == {50, 100, 200, 300} and memory.filled == 20
    assert (scores == REDUNDANT).sum() == 3 and memory.score.min() == 1


@pytest.mark.parametrize(
    ("name", "network"),
    [("neural", small_network()), ("svd-novelty", NETWORK), ("random", NETWORK), ("fifo", NETWORK)],
)
def test_other_networks_and_samplers_choose_by_score_alone(name, network):
    before, after, memory = _scored(name, network)
    assert after is before and set(memory.tick.tolist()) == {50}


def test_what_leaves_by_its_age_crowds_nobody_out():
    _, scores, memory = _scored("neural", NETWORK, oldest=60)
    assert not (scores == REDUNDANT).any() and memory.tokens().tick.tolist() == [100, 200, 300]


def _ingest(network, said=lambda score: score + 1, sampler="neural"):
    engine = fake_sampler(network)
    inner = engine._function
    engine._function = lambda feeds: {"score": said(inner(feeds)["score"])}
    steps = []
    made = make_sampler(sampler, engine)
    return Ingest(network, fake_backbone(network), made, empty_version(network), on_step=steps.append), steps


def test_a_stream_is_remembered_more_evenly():
    seconds = {}
    for network in (small_network(), NETWORK):
        ingest, _ = _ingest(network)
        memory = ingest.push(frames(80)).memory
        assert memory.filled == memory.slots == 20
        seconds[network.spread] = len(set(memory.tick.tolist()))
    assert seconds[True] == 20 > seconds[False]


def test_steps_that_are_applied_again_give_the_same_memory():
    ingest, steps = _ingest(NETWORK)
    ingest.push(frames(42))
    version = empty_version(NETWORK)
    for step in steps:
        version = apply(version, step, NETWORK)
    for name in ALL:
        assert np.array_equal(getattr(version.memory, name), getattr(ingest.version.memory, name))
    assert any((step.clip_update.scores == REDUNDANT).any() for step in steps if step.clip_update)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused_as_ever(bad):
    """Also where the token that has such a score would have to go."""
    ingest, _ = _ingest(NETWORK, said=lambda score: np.where(np.arange(50) % 2, bad, score + 1))
    with pytest.raises(ValueError, match="finite"):
        ingest.push(frames(8))
