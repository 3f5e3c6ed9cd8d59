"""What a person may say about recognising activities and their log, in the YAML."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ActivitySettings(BaseModel):
    """`activities:` of the configuration. The log of each camera lies beside its state."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enabled: bool = True
    max_rows: int = Field(default=20_000, ge=1, le=1_000_000, description="rows kept of each camera")
    keep_days: float = Field(default=90.0, gt=0, le=3650, description="age at which a row is removed")
    min_confidence: float = Field(default=0.9, ge=0, le=1, description="of an activity that is logged")
