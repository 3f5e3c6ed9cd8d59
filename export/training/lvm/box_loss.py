"""What teaches outlines: single tokens of all videos, whatever is asked and remembered.

S tokens, d_b backbone width. The tokens of a batch's memories show the same few rooms for a hundred steps;
taught by those, outlines were hardly better than at first after 150 steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.data.token_cache import VideoCache
from export.networks.box_head import BoxHead
from export.networks.positions import encode_cells
from export.training.lvm import losses

_COUNT = 512
"""Tokens a step."""


class ShownTokens:
    """The candidates of `caches` that show the product of an event, with where that is."""

    def __init__(self, caches: Sequence[VideoCache]) -> None:
        width = caches[0].features.shape[-1] if caches else 0
        features, cell = [np.zeros((0, width), np.float16)], [np.zeros(0, np.int64)]
        place = [np.zeros((0, 4), np.float32)]
        for cache in caches:
            shows = cache.event >= 0  # (n, K)
            features.append(cache.features[shows])
            cell.append(cache.cell[shows].astype(np.int64))
            place.append(cache.truth.boxes_of(cache.event[shows], cache.tick[shows]))
        self._features, self._cell = np.concatenate(features), np.concatenate(cell)
        self._place = np.concatenate(place)

    def draw(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Some of them: `outline_features` (S, d_b), `outline_cell` (S,), `outline_place` (S, 4) cxcywh; none
        where no video has boxes."""
        count = len(self._cell)
        rows = rng.integers(count, size=_COUNT) if count else np.zeros(0, np.int64)
        return {
            "outline_features": self._features[rows].astype(np.float32),
            "outline_cell": self._cell[rows],
            "outline_place": self._place[rows],
        }


def outline_loss(places: BoxHead, batch: Mapping[str, Tensor]) -> Tensor:
    """Of the tokens in `batch`; 0 where there are none."""
    told = places.predict_product_boxes(
        batch["outline_features"], encode_cells(batch["outline_cell"])
    )  # (S, 4)
    target = batch["outline_place"]
    return losses.boxes(told, target, torch.ones_like(target[:, 0], dtype=torch.bool))
