"""Train the box head on single tokens of all videos, independent of questions and memories.

S tokens, d_b backbone width. The tokens of a batch's memories show the same few rooms for a hundred steps;
trained on those, boxes had hardly improved after 150 steps.
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
"""Tokens in each step."""


class LabelledTokens:
    """The candidates of `caches` that show the product of an event, with its box."""

    def __init__(self, caches: Sequence[VideoCache]) -> None:
        width = caches[0].features.shape[-1] if caches else 0
        features, cell = [np.zeros((0, width), np.float16)], [np.zeros(0, np.int64)]
        box = [np.zeros((0, 4), np.float32)]
        for cache in caches:
            shows = cache.event >= 0  # (n, K)
            features.append(cache.features[shows])
            cell.append(cache.cell[shows].astype(np.int64))
            box.append(cache.truth.boxes_at(cache.event[shows], cache.tick[shows]))
        self._features, self._cell = np.concatenate(features), np.concatenate(cell)
        self._box = np.concatenate(box)

    def draw(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Draw `single_features` (S, d_b), `single_cell` (S,), `single_box` (S, 4) cxcywh; S may be 0."""
        count = len(self._cell)
        rows = rng.integers(count, size=_COUNT) if count else np.zeros(0, np.int64)
        return {
            "single_features": self._features[rows].astype(np.float32),
            "single_cell": self._cell[rows],
            "single_box": self._box[rows],
        }


def box_regression_loss(box_head: BoxHead, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the loss of the single tokens in `batch`; 0 if there are none."""
    predicted = box_head.predict_product_boxes(
        batch["single_features"], encode_cells(batch["single_cell"])
    )  # (S, 4)
    target = batch["single_box"]
    return losses.box_loss(predicted, target, torch.ones_like(target[:, 0], dtype=torch.bool))
