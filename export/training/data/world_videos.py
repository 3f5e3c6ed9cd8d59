"""Videos of the second and third stage: rendered once, seen once by the frozen backbone, kept as tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.query.photo_mosaic import mosaic
from edge_runtime.simulation.world import World
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.token_cache import VideoCache, cached, seen_once
from export.data.video_labels import VideoTruth
from export.training.data.view_augmentation import AS_FILMED, Look, look_of, said_of
from export.training.data.world_pool import drawn_from, world_with
from export.training.recipe import Data

PHOTOS = 3
"""Photos of each product that questions are asked with."""
VALIDATION = 100_000
"""Seeds of validation worlds begin so much later."""


def training_seeds(data: Data) -> list[int]:
    return [data.first_seed + 10_000 + number for number in range(data.train_videos)]


def validation_seeds(data: Data) -> list[int]:
    return [data.first_seed + VALIDATION + number for number in range(data.validation_videos)]


def world_caches(
    data: Data,
    seeds: Sequence[int],
    network: NetworkConfig,
    backbone: Engine,
    folder: Path,
    digest: str,
    *,
    showing: int = 0,
    make: Callable[[Data, int], World] = world_with,
    done: Callable[[int], None] = lambda _: None,
) -> list[VideoCache]:
    """Caches of the worlds of `seeds`; what lies in `folder` already, of the same backbone, is taken.

    `digest` names the backbone, `showing` the number of the look (0 is as filmed); `done` is called with the
    number of videos that are ready. Their truth is what is annotated of them.
    """
    which = data.model_dump_json(exclude={"train_videos", "validation_videos", "showings", "mirrored"})
    shown = drawn_from(data.products, data.backgrounds)
    said = f"{which}{digest}{make.__qualname__}{shown}{said_of(showing, data.mirrored)}"
    out = []
    for number, seed in enumerate(seeds):
        name = f"world-{seed}"

        def see(seed: int = seed, name: str = name) -> VideoCache:
            look = look_of(name, showing, data.mirrored)
            world, seconds = make(data, seed), data.minutes * 60
            truth = VideoTruth.of_world(world, seconds, annotated=True)
            return of_world(world, name, seconds, network, backbone, truth, look)

        out.append(seen_once(folder, name, said, network, see))
        done(number + 1)
    return out


def of_world(
    world: World,
    name: str,
    duration_s: float,
    network: NetworkConfig,
    backbone: Engine,
    truth: VideoTruth,
    look: Look = AS_FILMED,
) -> VideoCache:
    """The first `duration_s` seconds of a checkout world as tokens, with what is known of it."""
    size = network.image_size
    photos = [photos_to_ask_with(world, instance, size) for instance in range(world.config.instances)]
    frames = look.frames(_frames(world, duration_s, network))
    return cached(name, frames, look.photos(photos), look.truth(truth), network, backbone)


def photos_to_ask_with(world: World, instance: int, size: int) -> list[NDArray[np.uint8]]:
    """Photos (S, S, 3) of a product as it is asked with, the same number for each."""
    free = world.query_views(instance)
    views = [free[number % len(free)] for number in range(PHOTOS)]
    return [mosaic(world.instance_image(instance, (size, size), view=view), size) for view in views]


def _frames(
    world: World, duration_s: float, network: NetworkConfig
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    for number in range(int(duration_s * network.sample_fps)):
        t = number / network.sample_fps
        yield t, world.frame(t, (network.image_size, network.image_size))
