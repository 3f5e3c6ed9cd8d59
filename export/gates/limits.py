"""Limits of the gates: how far an export may differ from its network, by precision, and how long it is
watched.

    gates:
      frames: 4000
      sources: [demo, tills/monday.mp4]
      limits:
        int8: {answers: 0.97}

docs/gates.md says what each quantity is, docs/lab/gates.md how the defaults were found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from edge_runtime.config.schema import read_settings
from engines.manifest import Precision
from engines.network_config import Strict
from export.data.records import Split

Share = Annotated[float, Field(ge=0, le=1)]
FINEST_FIRST: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "w8", "int8")
"""From the finest precision to the coarsest."""
_MAX_CHANCE = 1e-3


class Limits(Strict):
    """What passes. Shares are minimum values; `angle_deg`, `error` and `recall_drop` maximum values."""

    answers: Share = Field(description="questions after the last frame whose answers agree")
    contents: Share = Field(description="the same, whether or not either abstained")
    tokens: Share = Field(description="remembered tokens in common, at every checkpoint")
    angle_deg: float = Field(ge=0, le=90, description="between the two SVD bases, at every checkpoint")
    box_iou: Share = Field(description="mean over object questions after the last frame")
    span_iou: Share = Field(description="mean over time questions after the last frame")
    error: float = Field(gt=0, description="of each output of each graph alone, relative")
    kept: Share = Field(description="tokens in common after one clip with one graph exchanged")
    recall_drop: Share = Field(description="of each kind of question on a labelled set")


class GateLimits(Strict):
    """Limits of each precision. Values that a file leaves out keep their defaults."""

    fp32: Limits = Limits(
        answers=0.999, contents=0.998, tokens=0.99, angle_deg=1.0, box_iou=0.99, span_iou=0.99,
        error=1e-3, kept=0.99, recall_drop=0.005,
    )  # fmt: skip
    fp16: Limits = Limits(
        answers=0.99, contents=0.98, tokens=0.95, angle_deg=5.0, box_iou=0.97, span_iou=0.97,
        error=2e-2, kept=0.98, recall_drop=0.01,
    )  # fmt: skip
    bf16: Limits = Limits(
        answers=0.99, contents=0.97, tokens=0.90, angle_deg=15.0, box_iou=0.95, span_iou=0.95,
        error=5e-2, kept=0.95, recall_drop=0.01,
    )  # fmt: skip
    w8: Limits = Limits(
        answers=0.98, contents=0.95, tokens=0.90, angle_deg=15.0, box_iou=0.90, span_iou=0.90,
        error=5e-2, kept=0.95, recall_drop=0.02,
    )  # fmt: skip
    int8: Limits = Limits(
        answers=0.98, contents=0.95, tokens=0.80, angle_deg=30.0, box_iou=0.90, span_iou=0.90,
        error=2e-1, kept=0.90, recall_drop=0.02,
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: Any) -> Any:
        """Fill in defaults: a file may name only some quantities of a precision."""
        if not isinstance(values, dict):
            return values
        out = dict(values)
        for name, field in cls.model_fields.items():
            if isinstance(values.get(name), dict):
                out[name] = {**field.default.model_dump(), **values[name]}
        return out

    def for_precisions(self, precisions: Iterable[Precision]) -> Limits:
        """Return the limits of a bundle whose graphs have these precisions: those of the coarsest."""
        limits: Limits = getattr(self, max(precisions, key=FINEST_FIRST.index))
        return limits


class GateSettings(Strict):
    """How a bundle is watched, and the limits that it must meet."""

    frames: int = Field(default=2000, ge=1, description="sampled frames of each source")
    every: int = Field(default=200, ge=1, description="frames between two checkpoints")
    asked: int = Field(default=90, ge=3, description="questions at a checkpoint")
    questions: int = Field(default=1000, ge=3, description="questions after the last frame")
    seed: int = Field(default=0, ge=0)
    sources: tuple[str, ...] = Field(default=("demo",), min_length=1)
    photos: tuple[Path, ...] = Field(default=(), description="pictures of objects to ask real video about")
    data: Path | None = Field(default=None, description="labelled data folder for the accuracy gate")
    split: Split = "test"
    limits: GateLimits = GateLimits()


class _SettingsFile(Strict):
    gates: GateSettings = GateSettings()


def load_settings(path: Path) -> GateSettings:
    """Load the `gates:` of a YAML file. Raises LvmError with file, line and the first problem."""
    return read_settings(path, _SettingsFile).gates


def allowed_differences(count: int, share: float) -> int:
    """Return how many of `count` answers may differ at a checkpoint where `share` must agree in the long run.

    A few questions say little: the result is the smallest number that chance exceeds less than once in a
    thousand times, by the binomial distribution.
    """
    p = 1 - share
    if p in (0, 1):
        return round(p * count)
    below = 0.0
    for k in range(count):
        ways = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        below += math.exp(ways + k * math.log(p) + (count - k) * math.log(share))
        if 1 - below < _MAX_CHANCE:
            return k
    return count
