"""The worlds that a recipe names: which seeds, how hard, whose products and backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from edge_runtime.simulation.photo_folders import list_product_photos, make_world
from edge_runtime.simulation.rng import Use, mix, unit
from edge_runtime.simulation.world import World
from export.data.world_overrides import turned
from export.training.data.hue_augmentation import TintedFaces
from export.training.data.product_photos import folders_digest
from export.training.recipe import Data

WORLDS = 3
"""Version of what a seed stands for. 3: real products in hues of their own."""
_OPEN = 192
"""Worlds kept open: each holds the faces of its products, about 8 MB."""


def drawn_from(*folders: str | Path | None) -> str:
    """What a world's pictures depend on beside its record: how worlds are drawn, and the photographs in
    `folders`."""
    return f"worlds {WORLDS} {folders_digest(Path(one) for one in folders if one is not None)}"


class WorldPool(Sequence[World]):
    """Worlds made when they are first asked for; the ones asked for last stay open."""

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
        return world_with(self._data, seed)


def world_with(data: Data, seed: int) -> World:
    """The world of `seed`: of one of the levels with its knobs turned, with real products or backgrounds in a
    share of seeds."""
    key = (seed, Use.LAYOUT, 77)
    level = data.levels[mix(*key, 0) % len(data.levels)]
    real = data.products is not None and unit(*key, 1) < data.product_worlds
    behind = data.backgrounds if unit(*key, 2) < data.background_worlds else None
    closeup = data.closeup if real else data.closeup / 3
    config = turned(level, {**data.knobs, "closeup": closeup}, seed)
    if unit(*key, 3) < data.crowded:
        config = config.model_copy(update={"concurrent": min(3, config.activities)})
    if not real or data.products is None:
        return make_world(config, backgrounds=behind)
    only = [name for name in list_product_photos(data.products) if name not in data.held_out]
    return make_world(config, data.products, behind, only, lambda faces: TintedFaces(faces, seed))
