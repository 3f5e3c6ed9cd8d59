"""Make the checkout worlds of a recipe: seeds, levels, products and backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from edge_runtime.simulation.photo_folders import list_product_photos, make_world
from edge_runtime.simulation.rng import Use, mix, unit
from edge_runtime.simulation.world import World
from export.data.world_set import make_world_config
from export.training.data.hue_augmentation import HueShiftedFaces
from export.training.data.product_photos import hash_folders
from export.training.recipe import Data

WORLD_VERSION = 3
"""Version of the worlds that seeds stand for. 3: real products in hues of their own."""
_OPEN = 192
"""Worlds kept open: each holds the faces of its products, about 8 MB."""


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
