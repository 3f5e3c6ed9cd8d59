"""What a person may say about privacy in the YAML, for each camera and for the state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from edge_runtime.imaging.polygon import MAX_ZONES, Polygon, checked_polygon
from edge_runtime.system.validation import StrictModel


class ThumbnailSettings(StrictModel):
    """Small pictures of remembered moments. Off unless a person switches them on."""

    enabled: bool = Field(default=False, description="keep them")
    most: int = Field(default=200, ge=1, le=10_000, description="pictures kept")
    most_mb: float = Field(default=20.0, gt=0, le=10_000, description="their size together, in MB")
    days: float = Field(default=7.0, gt=0, le=3650, description="age at which a picture is removed")
    side_px: int = Field(default=320, ge=32, le=1280, description="longer side of a picture")


class PrivacySettings(StrictModel):
    """`zones` by name, each a list of points [x, y] in 0..1 of the picture."""

    zones: dict[str, Annotated[Polygon, AfterValidator(checked_polygon)]] = Field(
        default_factory=dict, max_length=MAX_ZONES, description="polygons that are never seen, by name"
    )
    paused: bool = Field(default=False, description="true: start paused; false: as it was left")
    thumbnails: ThumbnailSettings = ThumbnailSettings()


def together(defaults: PrivacySettings | None, own: PrivacySettings | None) -> PrivacySettings:
    """A camera's own settings on top of those of all: no zone and no pause is lost by naming another."""
    defaults, own = defaults or PrivacySettings(), own or PrivacySettings()
    said = own if "thumbnails" in own.model_fields_set else defaults
    return PrivacySettings(
        zones={**defaults.zones, **own.zones},
        paused=defaults.paused or own.paused,
        thumbnails=said.thumbnails,
    )


class EncryptionSettings(StrictModel):
    """Where the key is. Without a file, LVM_EDGE_KEY_FILE or LVM_EDGE_KEY of the environment count."""

    key_file: Path | None = Field(default=None, description="see lvm-edge key new")
