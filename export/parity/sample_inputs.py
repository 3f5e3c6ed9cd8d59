"""Draw feeds that look like a device's: for parity, and for benchmarks without a trained bundle.

B batch, S image side, N sampler tokens, n reader memory tokens, d_b backbone width, P tokens in the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from engines.network_config import NetworkConfig
from engines.spec import Array

MAX_TICK = 180_000
"""Ten hours of ticks: the oldest that a memory holds."""


@dataclass(frozen=True)
class QueryShape:
    """Which inputs one query of a batch has, and how full its memory is (0 to 1)."""

    object: bool
    activity: bool
    filled: float = 0.8


ACTIVITY = QueryShape(object=True, activity=False)
OBJECT = QueryShape(object=False, activity=True)
TIME = QueryShape(object=True, activity=True)
EMPTY = QueryShape(object=True, activity=True, filled=0.0)
FULL = QueryShape(object=True, activity=False, filled=1.0)


def draw_scenes(count: int, size: int, rng: np.random.Generator) -> Array:
    """Draw pictures (B, S, S, 3) uint8: lit background, boxes with edges and stripes, sensor noise."""
    return np.stack([_draw_scene(size, rng) for _ in range(count)])


def draw_sampler_feeds(
    config: NetworkConfig, pool: Array, batch: int, rng: np.random.Generator
) -> dict[str, Array]:
    """Draw candidates from `pool` (P, d_b); the memory's part is four fifths full."""
    tokens = config.sampler_tokens
    valid = np.ones((batch, tokens), np.bool_)
    valid[:, : config.memory_tokens] = rng.random((batch, config.memory_tokens)) < 0.8
    feeds: dict[str, Array] = {"features": _draw_tokens(pool, (batch, tokens), rng), "valid": valid}
    if config.sampler_cell_code:
        feeds["cell"] = rng.integers(0, config.cells, (batch, tokens), dtype=np.int32)
    if config.sampler_novelty:
        feeds["novelty"] = np.tanh(rng.normal(size=(batch, tokens))).astype(np.float32)
    if config.queues or config.appearance:
        longest = round(config.clip_frames / config.sample_fps * TICKS_PER_SECOND)
        feeds["clip_tick"] = rng.integers(0, longest, (batch, config.clip_candidates), dtype=np.int32)
    if config.sampler == "s5":
        # As large as what minutes of a stream leave behind: moving means of inputs that are normalised.
        state = 0.3 * rng.normal(size=(batch, *config.sampler_state))
        feeds["sampler_state"] = state.astype(np.float32)
    return feeds


def draw_reader_feeds(
    config: NetworkConfig, pool: Array, queries: Sequence[QueryShape], rng: np.random.Generator
) -> dict[str, Array]:
    """Draw one query for each of `queries`, over memories of tokens from `pool` (P, d_b) up to ten
    hours old."""
    batch, n = len(queries), config.reader_tokens
    filled = np.array([query.filled for query in queries])[:, None]
    with_object = np.array([query.object for query in queries])
    with_activity = np.array([query.activity for query in queries])
    classes = rng.integers(0, config.activities, batch)
    query_tick, query_valid = _draw_windows(batch, config.query_steps, rng)
    feeds: dict[str, Array] = {
        "memory_features": _draw_tokens(pool, (batch, n), rng),
        "memory_tick": np.sort(rng.integers(0, MAX_TICK, (batch, n), dtype=np.int32), axis=1),
        "memory_cell": rng.integers(0, config.cells, (batch, n), dtype=np.int32),
        "memory_valid": rng.random((batch, n)) < filled,
        "object_tokens": _draw_tokens(pool, (batch, config.cells), rng)
        * with_object[:, None, None].astype(np.float32),
        "object_valid": with_object,
        "activity": np.eye(config.activities, dtype=np.float32)[classes] * with_activity[:, None],
        "activity_valid": with_activity,
        "query_tick": query_tick,
        "query_valid": query_valid,
    }
    feeds["activity"] = feeds["activity"].astype(np.float32)
    return feeds | _draw_svd(config, batch, rng) | _draw_queue(config, pool, filled, rng)


def _draw_scene(size: int, rng: np.random.Generator) -> Array:
    """Draw a picture (S, S, 3) uint8."""
    y, x = np.mgrid[0:size, 0:size] / size
    light = 0.6 + 0.4 * np.cos(2 * np.pi * (x * rng.random() + y * rng.random()))
    picture = light[..., None] * rng.uniform(60, 200, 3)  # (S, S, 3)
    for _ in range(6):
        height, width = rng.integers(size // 12, size // 3, 2)
        top, left = rng.integers(0, size - height), rng.integers(0, size - width)
        stripes = np.where(np.arange(width) // 4 % 2, 1.0, rng.uniform(0.5, 1))[None, :, None]
        picture[top : top + height, left : left + width] = rng.uniform(0, 255, 3) * stripes
    noisy = picture + rng.normal(0, 4, picture.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def _draw_tokens(pool: Array, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Draw tokens of `pool` (P, d_b) in random order, each a little different: (*shape, d_b)."""
    tokens = pool[rng.integers(0, len(pool), shape)]
    return np.asarray(tokens + 0.05 * rng.normal(size=tokens.shape), np.float32)


def _draw_windows(batch: int, steps: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw windows of many lengths: ticks (B, L) and valid flags (B, L), at least one step each."""
    start = rng.integers(0, MAX_TICK // 2, (batch, 1))
    stride = rng.integers(1, max(2, MAX_TICK // 2 // steps), (batch, 1))
    length = rng.integers(1, steps + 1, (batch, 1))
    step = np.arange(steps)[None]
    return (start + stride * step).astype(np.int32), step < length


def _draw_svd(config: NetworkConfig, batch: int, rng: np.random.Generator) -> dict[str, Array]:
    """Draw an orthonormal basis whose last row is absent; nothing where the rank is 0."""
    rank = config.summary_rank
    if not rank:
        return {}
    basis = np.linalg.qr(rng.normal(size=(batch, config.d_backbone, rank)))[0].transpose(0, 2, 1)
    strength = np.log1p(np.sort(rng.uniform(0, 10, (batch, rank)))[:, ::-1])
    strength[:, -1] = 0
    basis[:, -1] = 0
    return {
        "svd_basis": np.ascontiguousarray(basis, np.float32),
        "svd_strength": np.ascontiguousarray(strength, np.float32),
    }


def _draw_queue(
    config: NetworkConfig, pool: Array, filled: Array, rng: np.random.Generator
) -> dict[str, Array]:
    """Draw clip entries that are present as often as memory tokens are, `filled` (B, 1)."""
    if not config.queues:
        return {}
    batch, queue = len(filled), config.queue
    feeds: dict[str, Array] = {
        "queue_tick": np.sort(rng.integers(0, MAX_TICK, (batch, queue.length), dtype=np.int32))[
            :, ::-1
        ].copy(),
        "queue_valid": rng.random((batch, queue.length)) < filled,
    }
    if "text" in config.context:
        shape = (batch, queue.length, queue.text_slots)
        feeds["queue_text"] = rng.integers(0, config.activities, shape, dtype=np.int32)
    if "region" in config.context:
        tokens = _draw_tokens(pool, (batch, queue.length * queue.regions), rng)
        feeds["queue_region"] = tokens.reshape(batch, queue.length, queue.regions, -1)
    return feeds
