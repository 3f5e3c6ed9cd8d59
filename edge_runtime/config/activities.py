"""The `activities:` section of the configuration."""

from __future__ import annotations

from pydantic import Field

from edge_runtime.system.validation import StrictModel


class ActivitySettings(StrictModel):
    """Recognition of activities and the log of them, which lies in the state folder of each camera."""

    enabled: bool = True
    max_rows: int = Field(default=20_000, ge=1, le=1_000_000, description="maximum rows of a camera's log")
    keep_days: float = Field(default=90.0, gt=0, le=3650, description="age at which a row is removed")
    min_confidence: float = Field(default=0.9, ge=0, le=1, description="below it, an activity is not logged")
