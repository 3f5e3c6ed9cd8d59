"""The knobs of checkout worlds as a person turns them: `--knob` of a data folder, a recipe's `data.knobs`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from edge_runtime.simulation.config import LEVELS, WorldConfig
from engines.errors import LvmError
from export.support.validation_errors import first_complaint

KNOBS = tuple(name for name in WorldConfig.model_fields if name != "seed")


def turned(level: str, knobs: Mapping[str, object], seed: int = 0) -> WorldConfig:
    """The world of `seed` and `level`, but for its `knobs`. Raises LvmError that names the wrong one."""
    if level not in LEVELS:
        raise LvmError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    if unknown := [name for name in knobs if name not in KNOBS]:
        raise LvmError(f"a world has no knob {unknown[0]}; its knobs are {', '.join(KNOBS)}")
    try:
        return WorldConfig.model_validate({**LEVELS[level], **knobs, "seed": seed})
    except ValidationError as error:
        raise LvmError(first_complaint(error)) from error
