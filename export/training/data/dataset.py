"""Where a training gets its pictures and videos from: checkout worlds, or a person's own data folder.

Letters: S picture side, I products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.photo_folders import list_product_photos
from engines.errors import LvmError
from engines.manifest import ActivityClass
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.token_cache import VideoCache
from export.training.data.product_photos import folders_digest, photos_to_learn_from
from export.training.data.scenes import Scenes, draw_scenes
from export.training.data.world_pool import WORLDS, WorldPool
from export.training.data.world_videos import training_seeds, validation_seeds, world_caches
from export.training.recipe import BackboneRecipe, Data

Split = Literal["train", "val"]


class SceneSource(Protocol):
    """Labelled pictures for a backbone. Used in another process, so it can be pickled."""

    def draw(self, rng: np.random.Generator) -> Scenes:
        """One batch; the same generator state gives the same batch."""
        ...


class Footage(Protocol):
    """What a recipe's `data` stands for."""

    classes: tuple[ActivityClass, ...]
    held_out: tuple[str, ...]
    """Products that no training sees: of those that the recipe holds out, the ones that no video shows."""

    def products(self) -> set[str]:
        """Names of the real products that training may see."""
        ...

    def count(self, split: Split) -> int:
        """How many videos a split has."""
        ...

    def fingerprint(self) -> str:
        """Changes with the files that training takes anything from, "" where there are none; the recipe names
        but their folders."""
        ...

    def scenes(self, stage: BackboneRecipe) -> SceneSource: ...

    def videos(
        self,
        split: Split,
        backbone: Engine,
        cache: Path,
        digest: str,
        done: Callable[[int, int], None],
        showing: int = 0,
    ) -> list[VideoCache]:
        """Tokens of the videos of one split; what lies in `cache`, of this backbone, is taken from it.

        `done` is called with the number of videos that are ready, and of all. `showing` is the number of the
        look (`export/training/data/view_augmentation.py`), 0 as filmed.
        """
        ...

    def version(self) -> dict[str, Any]:
        """What the manifest says of the data."""
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
            size=self._network.image_size,
            activities=self._network.activities,
        )


class WorldFootage:
    """Checkout worlds by their seeds."""

    def __init__(self, data: Data, network: NetworkConfig) -> None:
        if network.activities != len(ACTIVITIES):
            raise LvmError(
                f"network.activities must be {len(ACTIVITIES)} for the checkout world, "
                f"got {network.activities}"
            )
        self._data, self._network = data, network
        self.classes = tuple(ActivityClass(name=name, doing=doing) for name, doing in ACTIVITIES)
        if data.products is not None:
            photos_to_learn_from(data.products, data.held_out)  # a slip would train on the test
        self.held_out = data.held_out

    def products(self) -> set[str]:
        folder = self._data.products
        return (
            set() if folder is None else set(list_product_photos(folder, min_photos=0)) - set(self.held_out)
        )

    def count(self, split: Split) -> int:
        return len(self._seeds(split))

    def fingerprint(self) -> str:
        return folders_digest(one for one in (self._data.products, self._data.backgrounds) if one is not None)

    def scenes(self, stage: BackboneRecipe) -> SceneSource:
        first = self._data.first_seed
        data = self._data.model_copy(update={"crowded": stage.crowded})
        return WorldScenes(WorldPool(data, range(first, first + stage.worlds)), stage, self._network)

    def videos(
        self,
        split: Split,
        backbone: Engine,
        cache: Path,
        digest: str,
        done: Callable[[int, int], None],
        showing: int = 0,
    ) -> list[VideoCache]:
        """As the protocol says; what validation worlds are judged by is right, whatever the knobs make of
        annotations."""
        seeds = self._seeds(split)
        return world_caches(
            self._data if split == "train" else self._data.judged(),
            seeds,
            self._network,
            backbone,
            cache,
            digest,
            showing=showing,
            done=lambda number: done(number, len(seeds)),
        )

    def version(self) -> dict[str, Any]:
        data = self._data
        said: dict[str, Any] = {
            "worlds": WORLDS,
            "levels": data.levels,
            "minutes": data.minutes,
            "first_seed": data.first_seed,
            "videos": [data.train_videos, data.validation_videos],
        }
        said |= {"knobs": data.knobs} if data.knobs else {}
        return said | ({"products": data.products.name} if data.products is not None else {})

    def _seeds(self, split: Split) -> Sequence[int]:
        return training_seeds(self._data) if split == "train" else validation_seeds(self._data)


def footage_of(data: Data, network: NetworkConfig, cache: Path) -> Footage:
    """What `data` names; a person's own videos are decoded once, into `cache`."""
    if data.folder is None:
        return WorldFootage(data, network)
    from export.training.data.user_videos import FolderFootage

    return FolderFootage(
        data.folder, network, cache, data.products, held_out=data.held_out, mirrored=data.mirrored
    )
