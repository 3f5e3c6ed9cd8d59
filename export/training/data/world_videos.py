"""Encode the worlds of the second and third stage: rendered once, cached as tokens of the frozen backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.query.photo_mosaic import make_mosaic
from edge_runtime.simulation.world import World
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.token_cache import VideoCache, encode_video, load_or_encode
from export.data.video_labels import VideoTruth
from export.training.data.view_augmentation import ORIGINAL_VIEW, ViewAugmentation, describe_view, make_view
from export.training.data.world_pool import describe_world_sources, make_training_world
from export.training.recipe import Data

PHOTOS_PER_PRODUCT = 3
"""Query photos of each product."""
VALIDATION_OFFSET = 100_000
"""Distance between the first seed and the seeds of validation worlds."""


def list_training_seeds(data: Data) -> list[int]:
    """Return the seeds of training videos."""
    return [data.first_seed + 10_000 + number for number in range(data.train_videos)]


def list_validation_seeds(data: Data) -> list[int]:
    """Return the seeds of validation videos."""
    return [data.first_seed + VALIDATION_OFFSET + number for number in range(data.validation_videos)]


def encode_worlds(
    data: Data,
    seeds: Sequence[int],
    network: NetworkConfig,
    backbone: Engine,
    folder: Path,
    digest: str,
    *,
    view: int = 0,
) -> Iterator[VideoCache]:
    """Yield tokens and annotations of the worlds of `seeds`, cached in `folder`.

    `digest` names the backbone, `view` is the number of the view (0 as filmed).
    """
    recipe = data.model_dump_json(exclude={"train_videos", "validation_videos", "showings", "mirrored"})
    sources = describe_world_sources(data.products, data.backgrounds)
    # "world_with" is the former name of make_training_world, and part of the keys of existing caches.
    key = f"{recipe}{digest}world_with{sources}{describe_view(view, data.mirrored)}"
    for seed in seeds:

        def encode(seed: int = seed) -> VideoCache:
            world, seconds = make_training_world(data, seed), data.minutes * 60
            truth = VideoTruth.from_world(world, seconds, annotated=True)
            augmentation = make_view(f"world-{seed}", view, data.mirrored)
            return encode_world(world, f"world-{seed}", seconds, network, backbone, truth, augmentation)

        yield load_or_encode(folder, f"world-{seed}", key, network, encode)


def encode_world(
    world: World,
    name: str,
    duration_s: float,
    network: NetworkConfig,
    backbone: Engine,
    truth: VideoTruth,
    view: ViewAugmentation = ORIGINAL_VIEW,
) -> VideoCache:
    """Return tokens and truth of the first `duration_s` seconds of a checkout world, in the view `view`."""
    photos = [make_query_photos(world, instance, network) for instance in range(world.config.instances)]
    frames = view.augment_frames(_render_frames(world, duration_s, network))
    return encode_video(
        name, frames, view.augment_photos(photos), view.augment_truth(truth), network, backbone
    )


def make_query_photos(world: World, instance: int, network: NetworkConfig) -> list[NDArray[np.uint8]]:
    """Return the query photos (S, S, 3) of a product, the same number for each."""
    free = world.query_views(instance)
    views = [free[number % len(free)] for number in range(PHOTOS_PER_PRODUCT)]
    size = (network.image_size, network.image_size)
    return [make_mosaic(world.instance_image(instance, size, view=view), network) for view in views]


def _render_frames(
    world: World, duration_s: float, network: NetworkConfig
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    for number in range(int(duration_s * network.sample_fps)):
        t = number / network.sample_fps
        yield t, world.frame(t, (network.image_size, network.image_size))
