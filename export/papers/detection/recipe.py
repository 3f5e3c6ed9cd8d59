"""The recipe of a detection head."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadRecipe:
    """How a head is trained. AdamW, cosine to zero after `warm_up` of the steps.

    `parts_learning_rate` is that of the memories' own layers (None: as of the rest). A linear classifier of
    frozen features wants steps several times as large and more of them; with those of attention it is
    far from trained after 8 epochs, and what a memory adds cannot be seen in that.
    """

    epochs: int = 16
    batch: int = 64
    learning_rate: float = 1e-2
    parts_learning_rate: float | None = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.05
    seed: int = 0
