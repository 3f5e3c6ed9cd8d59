"""Make the checkout worlds of a recipe: seeds, levels, products and backgrounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.query.photo_mosaic import make_mosaic
from edge_runtime.simulation.photo_folders import list_product_photos, make_world
from edge_runtime.simulation.product_images import PhotographedFaces
from edge_runtime.simulation.rng import Use, mix, unit
from edge_runtime.simulation.world import World
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.token_cache import VideoCache, encode_video, load_or_encode
from export.data.video_labels import VideoTruth
from export.data.world_set import make_world_config
from export.training.data.product_photos import hash_folders
from export.training.data.view_augmentation import ORIGINAL_VIEW, ViewAugmentation, describe_view, make_view
from export.training.recipe import Data

WORLD_VERSION = 3
"""Version of the worlds that seeds stand for. 3: real products in hues of their own."""
_OPEN = 192
"""Worlds kept open: each holds the faces of its products, about 8 MB."""
HUES = 12
"""Hues in equal steps, the photo's own first: so far apart that light does not turn one into another."""
UNCHANGED_SHARE = 0.25
"""Share of products that keep their hue: real products have some colours more often than others."""
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
PHOTOS_PER_PRODUCT = 3
"""Query photos of each product."""
VALIDATION_OFFSET = 100_000
"""Distance between the first seed and the seeds of validation worlds."""


def describe_world_sources(*folders: str | Path | None) -> str:
    """Return the version of worlds and a digest of the photos in `folders`, for cache keys."""
    return f"worlds {WORLD_VERSION} {hash_folders(Path(folder) for folder in folders if folder is not None)}"


class WorldPool(Sequence[World]):
    """Worlds that are made when they are first used; the last `keep` used ones stay open."""

    def __init__(self, data: Data, seeds: Sequence[int], *, keep: int = _OPEN) -> None:
        self._data, self._seeds, self._keep = data, tuple(seeds), keep
        self._open = lru_cache(maxsize=keep)(self._make)

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, index: int) -> World:  # type: ignore[override]
        return self._open(self._seeds[index])

    def __getstate__(self) -> dict[str, object]:
        return {"data": self._data, "seeds": self._seeds, "keep": self._keep}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["data"], state["seeds"], keep=state["keep"])  # type: ignore[misc]

    def _make(self, seed: int) -> World:
        return make_training_world(self._data, seed)


def make_training_world(data: Data, seed: int) -> World:
    """Return the world of `seed`: its level, knobs, and whether it has real products or backgrounds."""
    key = (seed, Use.LAYOUT, 77)
    level = data.levels[mix(*key, 0) % len(data.levels)]
    real = data.products is not None and unit(*key, 1) < data.product_worlds
    behind = data.backgrounds if unit(*key, 2) < data.background_worlds else None
    closeup = data.closeup if real else data.closeup / 3
    drawn = {
        name: values[mix(*key, 4, number) % len(values)]
        for number, (name, values) in enumerate(sorted(data.varied.items()))
    }
    config = make_world_config(level, {**data.knobs, **drawn, "closeup": closeup}, seed)
    if unit(*key, 3) < data.crowded:
        config = config.model_copy(update={"concurrent": min(3, config.activities)})
    if not real or data.products is None:
        return make_world(config, backgrounds=behind)
    only = [name for name in list_product_photos(data.products) if name not in data.held_out]
    return make_world(config, data.products, behind, only, lambda faces: HueShiftedFaces(faces, seed))


class HueShiftedFaces:
    """Faces of products, each product in a hue that `seed` chooses, equal on all its photos.

    A folder of photos has some dozen products, and a backbone can memorise those. It should learn in what way
    two photos of the same product are alike, also for products that it has never seen. So every world sells
    the same shapes and prints in its own hues: few products become many.
    """

    def __init__(self, faces: PhotographedFaces, seed: int) -> None:
        self._faces = faces
        self._seed = seed

    def hue(self, instance: int) -> int:
        """Return the hue of product `instance`, 0..HUES - 1."""
        key = (self._seed, Use.FACE, instance, 88)
        return 0 if unit(*key, 0) < UNCHANGED_SHARE else 1 + mix(*key, 1) % (HUES - 1)

    def product(self, instance: int) -> str:
        """Return name and hue: another hue is another product."""
        return f"{self._faces.product(instance)}, hue {self.hue(instance)} of {HUES}"

    def views(self, instance: int) -> int:
        return self._faces.views(instance)

    def query_views(self, instance: int) -> range:
        return self._faces.query_views(instance)

    def photo(self, instance: int, view: int) -> NDArray[np.uint8]:
        """Return the RGB photo number `view` in the product's hue, (H, W, 3)."""
        return shift_hue(self._faces.photo(instance, view), self.hue(instance))

    def face(self, instance: int, view: int = 0) -> NDArray[np.uint8]:
        """Return the RGBA face number `view` in the product's hue, (S, S, 4)."""
        face = self._faces.face(instance, view)
        return np.dstack([shift_hue(face[:, :, :3], self.hue(instance)), face[:, :, 3]])


def shift_hue(rgb: NDArray[np.uint8], hue: int) -> NDArray[np.uint8]:
    """Rotate the hue of `rgb` (H, W, 3) by `hue` of HUES steps; brightness (Y of YIQ) stays."""
    if hue % HUES == 0:
        return rgb
    angle = 2 * math.pi * hue / HUES
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ
    return np.asarray(cv2.transform(np.ascontiguousarray(rgb), matrix.astype(np.float32)), np.uint8)


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
