"""Toys for the tests of training: videos of two minutes made of colours, and a small network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.network_config import NetworkConfig
from export.data.token_cache import VideoCache, encode_video
from export.data.video_labels import VideoTruth
from export.training.loop.distributed import ProcessGroup
from export.training.lvm.inputs import MemoryBank
from export.training.lvm.task import LvmTask
from export.training.recipe import LvmRecipe, Optimiser
from tests.support.fakes import fake_backbone, small_network

torch.set_num_threads(1)  # toys are too small for two threads, which would wait for each other

SECONDS = 120
ACTIVITIES = 4
PRODUCTS = 6
CPU = torch.device("cpu")


def toy_config(**changes: Any) -> NetworkConfig:
    """Twelve clips of ten frames in two minutes, and a memory of a hundredth of what they show."""
    values = dict(
        memory_tokens=60, clip_frames=10, clip_candidates=50, recency_tokens=12, query_steps=12,
        activities=ACTIVITIES,
    )  # fmt: skip
    return small_network(**{**values, **changes})


def toy_recipe(**changes: Any) -> LvmRecipe:
    values: dict[str, Any] = {
        "optimiser": Optimiser(steps=40, learning_rate=1e-3),
        "batch": 2,
        "curriculum_minutes": (SECONDS / 60,),
    }
    return LvmRecipe(**{**values, **changes})


def toy_task(config: NetworkConfig | None = None, seed: int = 0, **changes: Any) -> LvmTask:
    """The third stage on the toy videos."""
    return LvmTask(config or toy_config(), toy_recipe(**changes), toy_caches(), seed, ProcessGroup(), CPU)


@lru_cache(maxsize=1)
def toy_caches() -> tuple[VideoCache, ...]:
    """Return four videos as tokens of a fake backbone; made once for all tests."""
    return tuple(toy_cache(seed) for seed in range(4))


def toy_cache(
    seed: int,
    config: NetworkConfig | None = None,
    seconds: int = SECONDS,
    truth: VideoTruth | None = None,
) -> VideoCache:
    """Make a video of a grey room in which every ten seconds something is done with a coloured product."""
    config = config or toy_config()
    truth = toy_truth(seed, seconds) if truth is None else truth
    photos = [[_patch(product, view) for view in range(2)] for product in range(PRODUCTS)]
    frames = toy_frames(truth, seed, seconds)
    return encode_video(f"toy-{seed}", frames, photos, truth, config, fake_backbone(config))


def bank_checksum(bank: MemoryBank) -> float:
    """Equal banks have equal sums."""
    weights = torch.arange(1, bank.tick.numel() + 1, dtype=torch.float64)
    stamps = (bank.tick * 49 + bank.cell).flatten() * bank.valid.flatten()
    return float((stamps * weights.remainder(977)).sum() + bank.features.double().sum())


def toy_truth(seed: int, seconds: int = SECONDS) -> VideoTruth:
    rng = np.random.default_rng([seed, 0])
    events = []
    for start in range(2, seconds - 6, 10):
        length = int(rng.integers(20, 31))  # ticks
        done, product = int(rng.integers(ACTIVITIES)), int(rng.integers(PRODUCTS))
        events.append((done, product, 5 * start, 5 * start + length))
    corners = rng.uniform(0, 0.7, (len(events), 2))
    return make_truth(*events, boxes=[(x, y, x + 0.25, y + 0.25) for x, y in corners])


def toy_frames(truth: VideoTruth, seed: int, seconds: int) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield one (32, 32, 3) picture a second."""
    rng = np.random.default_rng([seed, 1])
    for second in range(seconds):
        image = rng.integers(115, 125, (32, 32, 3), np.uint8)
        for row in np.flatnonzero(truth.box_tick == 5 * second):
            x1, y1, x2, y2 = (truth.box[row] * 32).astype(int)
            image[y1:y2, x1:x2] = _colour(int(truth.instance[truth.box_event[row]]))
        yield float(second), image


def make_truth(*events: tuple[int, int, int, int], boxes: Any = None) -> VideoTruth:
    """Make labels from (activity, instance, start, end) in ticks; each product stays in its box, xyxy."""
    table = np.array(events, np.int64).reshape(-1, 4)
    boxes = boxes or [(0.0, 0.0, 0.2, 0.2)] * len(events)
    lengths = table[:, 3] - table[:, 2]
    return VideoTruth(
        *(np.ascontiguousarray(column) for column in table.T),
        np.repeat(np.arange(len(events)), lengths),
        np.concatenate([np.zeros(0, np.int64), *(np.arange(start, end) for _, _, start, end in events)]),
        np.repeat(np.array(boxes, np.float32).reshape(-1, 4), lengths, axis=0),
    )


def _colour(product: int) -> NDArray[np.uint8]:
    return np.array([(product * 90) % 256, (product * 50 + 30) % 256, 255 - product * 40], np.uint8)


def _patch(product: int, view: int) -> NDArray[np.uint8]:
    """Make a photo: the product's colour with a border that differs between views."""
    image = np.full((32, 32, 3), 100 + 40 * view, np.uint8)
    image[4:28, 4:28] = _colour(product)
    return image
