"""Samplers without a network: what each keeps in the long run."""

import numpy as np
import pytest

from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.token_memory import TokenMemory, Tokens
from engines.errors import LvmError
from tests.support.fakes import fake_sampler, small_network


def _stream(name, clips=60, frames=4, slots=196):
    network = small_network(memory_tokens=slots)
    sampler = make_sampler(name, fake_sampler(network))
    memory = TokenMemory.empty(slots, 1)
    for clip in range(clips):
        tick = np.repeat(np.arange(clip * frames, (clip + 1) * frames, dtype=np.int64) * 5, 49)
        cell = np.tile(np.arange(49, dtype=np.int32), frames)
        tokens = Tokens(np.zeros((len(tick), 1), np.float32), tick, cell)
        novelty = np.zeros(slots + len(tokens), np.float32)
        memory = memory.update(tokens, sampler.score(memory, tokens, novelty), oldest_tick=-1)
    return memory, clips * frames


def test_the_reservoir_keeps_every_moment_with_equal_probability():
    memory, total = _stream("random")
    thirds = np.histogram(memory.tick / 5, bins=3, range=(0, total))[0]
    # 196 tokens: three standard deviations of a third are about 20.
    assert memory.filled == 196
    assert (np.abs(thirds - 196 / 3) < 20).all(), thirds


def test_fifo_keeps_the_newest():
    memory, total = _stream("fifo")
    assert memory.tick.min() == (total - 4) * 5


def test_svd_novelty_keeps_the_most_novel():
    sampler = make_sampler("svd-novelty", fake_sampler(small_network()))
    memory = TokenMemory.empty(1, 1)
    clip = Tokens(np.zeros((3, 1), np.float32), np.arange(3), np.zeros(3, np.int32))
    novelty = np.array([0, 0.1, 0.9, 0.2], np.float32)
    assert memory.update(clip, sampler.score(memory, clip, novelty), oldest_tick=0).tick.tolist() == [1]


def test_the_network_gets_memory_then_clip_padded_to_its_size():
    network = small_network()
    engine = fake_sampler(network)
    seen = []
    engine._function = lambda feeds: seen.append(feeds) or {"score": feeds["features"][:, :, 0]}
    memory = TokenMemory.empty(20, 16)
    clip = Tokens(np.ones((5, 16), np.float32), np.arange(5), np.arange(5, dtype=np.int32))
    scores = make_sampler("neural", engine).score(memory, clip, np.full(25, 0.5, np.float32))
    assert scores.tolist() == [0] * 20 + [1] * 5
    assert seen[0]["valid"].sum() == 5 and seen[0]["features"].shape == (1, 50, 16)


def test_an_unknown_sampler_is_named_with_the_known_ones():
    with pytest.raises(LvmError, match="neural, svd-novelty, random, fifo.*'s6'"):
        make_sampler("s6", fake_sampler(small_network()))
