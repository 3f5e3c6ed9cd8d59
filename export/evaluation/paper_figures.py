"""Figures reported in the paper (LVM-Net, ReST-ADL, one A100), for comparison with ours.

They are of other data, so only ratios and orders compare. Recall in per cent, time in minutes for one video's
queries of one kind.
"""

from __future__ import annotations

from typing import NamedTuple

from export.data.records import Duration, QueryType

Cell = tuple[QueryType, Duration]


class Minutes(NamedTuple):
    tubedetr: float
    lvm_net: float


class Recalls(NamedTuple):
    """Recall@1x, in per cent."""

    rest: float
    tubedetr: float
    lvm_net: float


class Ablation(NamedTuple):
    """Activity queries: Recall@1x and @3x with and without, in per cent."""

    recall_1x: float
    recall_3x: float
    without_1x: float
    without_3x: float


TABLE_1: dict[Cell, Minutes] = {
    ("activity", "short"): Minutes(264, 14),
    ("object", "short"): Minutes(99, 6),
    ("time", "short"): Minutes(11, 7),
    ("activity", "medium"): Minutes(180, 16),
    ("object", "medium"): Minutes(663, 15),
    ("time", "medium"): Minutes(31, 14),
    ("activity", "long"): Minutes(174, 15),
    ("object", "long"): Minutes(756, 10),
    ("time", "long"): Minutes(19, 10),
}

TABLE_2: dict[Cell, Recalls] = {
    ("activity", "short"): Recalls(48.1, 45.3, 32.4),
    ("object", "short"): Recalls(9.6, 27.5, 26.4),
    ("time", "short"): Recalls(31.3, 35.0, 22.9),
    ("activity", "medium"): Recalls(50.7, 31.6, 26.1),
    ("object", "medium"): Recalls(10.0, 25.4, 11.9),
    ("time", "medium"): Recalls(31.8, 6.7, 11.9),
    ("activity", "long"): Recalls(46.3, 29.9, 22.8),
    ("object", "long"): Recalls(10.0, 24.6, 21.3),
    ("time", "long"): Recalls(30.0, 12.8, 8.6),
}

TABLE_3: dict[Duration, Ablation] = {
    "short": Ablation(32.38, 56.78, 21.42, 43.20),
    "medium": Ablation(26.12, 44.80, 18.23, 40.57),
    "long": Ablation(22.81, 45.39, 18.42, 38.45),
}
"""The learned sampler against a random memory."""

TABLE_4: dict[Duration, Ablation] = {
    "short": Ablation(32.38, 56.78, 26.39, 47.31),
    "medium": Ablation(26.12, 44.80, 24.81, 44.63),
    "long": Ablation(22.81, 45.39, 18.28, 44.54),
}
"""Online continual learning against none."""
