"""Provide a training with pictures and videos: of checkout worlds, or of a user's own data folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.photo_folders import list_product_photos
from engines.errors import LvmError
from engines.manifest import ActivityClass
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.records import Split
from export.data.token_cache import VideoCache
from export.training.data.product_photos import hash_folders, list_training_photos
from export.training.data.scenes import Scenes, draw_scenes
from export.training.data.world_pool import (
    WORLD_VERSION,
    WorldPool,
    encode_worlds,
    list_training_seeds,
    list_validation_seeds,
)
from export.training.recipe import BackboneRecipe, Data


class SceneSource(Protocol):
    """Labelled pictures for a backbone. It is used in another process, so it must be picklable."""

    def draw(self, rng: np.random.Generator) -> Scenes:
        """Draw a batch; the same generator state gives the same batch."""
        ...


class VideoDataset(Protocol):
    """The videos and pictures of a recipe's `data`."""

    classes: tuple[ActivityClass, ...]
    held_out: tuple[str, ...]
    """Held-out products of the recipe that no video shows."""

    def product_names(self) -> set[str]:
        """Return the names of the real products that training may see."""
        ...

    def count(self, split: Split) -> int:
        """Return the number of videos in a split."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of all files that training uses, "" without any; the recipe only names folders."""
        ...

    def make_scenes(self, stage: BackboneRecipe) -> SceneSource:
        """Return the pictures for the backbone."""
        ...

    def encode_videos(
        self, split: Split, backbone: Engine, cache: Path, digest: str, view: int = 0
    ) -> Iterator[VideoCache]:
        """Yield the tokens of a split's videos; `cache` stores them by `digest`, which names the backbone.

        `view` is the number of the view (`export/training/data/view_augmentation.py`), 0 as filmed.
        """
        ...

    def version(self) -> dict[str, Any]:
        """Return the manifest's record of the data."""
        ...


class WorldScenes:
    """Pictures of a pool of worlds."""

    def __init__(self, pool: WorldPool, stage: BackboneRecipe, network: NetworkConfig) -> None:
        self._pool, self._stage, self._network = pool, stage, network

    def draw(self, rng: np.random.Generator) -> Scenes:
        chosen = rng.choice(len(self._pool), self._stage.worlds_a_batch, replace=False)
        return draw_scenes(
            [self._pool[int(index)] for index in chosen],
            rng,
            frames_a_world=self._stage.frames_a_world,
            photos_a_world=self._stage.photos_a_world,
            inside_events=self._stage.inside_events,
            network=self._network,
        )


class WorldDataset:
    """Checkout worlds by their seeds."""

    def __init__(self, data: Data, network: NetworkConfig) -> None:
        if network.activities != len(ACTIVITIES):
            raise LvmError(
                f"network.activities must be {len(ACTIVITIES)} for the checkout world, "
                f"got {network.activities}"
            )
        self._data, self._network = data, network
        self.classes = tuple(ActivityClass(**activity._asdict()) for activity in ACTIVITIES)
        if data.products is not None:
            list_training_photos(data.products, data.held_out)  # raises LvmError for unknown names
        self.held_out = data.held_out

    def product_names(self) -> set[str]:
        folder = self._data.products
        return (
            set() if folder is None else set(list_product_photos(folder, min_photos=0)) - set(self.held_out)
        )

    def count(self, split: Split) -> int:
        return len(self._seeds(split))

    def fingerprint(self) -> str:
        return hash_folders(folder for folder in (self._data.products, self._data.backgrounds) if folder)

    def make_scenes(self, stage: BackboneRecipe) -> SceneSource:
        first = self._data.first_seed
        data = self._data.model_copy(update={"crowded": stage.crowded})
        return WorldScenes(WorldPool(data, range(first, first + stage.worlds)), stage, self._network)

    def encode_videos(
        self, split: Split, backbone: Engine, cache: Path, digest: str, view: int = 0
    ) -> Iterator[VideoCache]:
        """As the protocol; validation worlds have perfect annotations, whatever the knobs."""
        data = self._data if split == "train" else self._data.for_validation()
        return encode_worlds(data, self._seeds(split), self._network, backbone, cache, digest, view=view)

    def version(self) -> dict[str, Any]:
        data = self._data
        record: dict[str, Any] = {
            "worlds": WORLD_VERSION,
            "levels": data.levels,
            "minutes": data.minutes,
            "first_seed": data.first_seed,
            "videos": [data.train_videos, data.validation_videos],
        }
        record |= {"knobs": data.knobs} if data.knobs else {}
        return record | ({"products": data.products.name} if data.products is not None else {})

    def _seeds(self, split: Split) -> Sequence[int]:
        return list_training_seeds(self._data) if split == "train" else list_validation_seeds(self._data)


def open_dataset(data: Data, network: NetworkConfig, cache: Path) -> VideoDataset:
    """Return the dataset of `data`; users' own videos are decoded once, into `cache`."""
    if data.folder is None:
        return WorldDataset(data, network)
    from export.training.data.user_videos import FolderDataset

    return FolderDataset(
        data.folder, network, cache, data.products, held_out=data.held_out, mirrored=data.mirrored
    )
