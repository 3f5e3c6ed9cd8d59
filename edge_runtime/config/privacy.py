"""The `privacy:` sections of the configuration, and `state.encryption`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from edge_runtime.imaging.polygon import MAX_ZONES, Polygon, check_polygon
from edge_runtime.system.validation import StrictModel


class ThumbnailSettings(StrictModel):
    """Small pictures of remembered moments. Off by default."""

    enabled: bool = Field(default=False, description="keep thumbnails")
    most: int = Field(default=200, ge=1, le=10_000, description="maximum number of pictures")
    most_mb: float = Field(
        default=20.0, gt=0, le=10_000, description="maximum size of all pictures together, in MB"
    )
    days: float = Field(default=7.0, gt=0, le=3650, description="age at which a picture is removed")
    side_px: int = Field(default=320, ge=32, le=1280, description="longer side of a picture")


class PrivacySettings(StrictModel):
    """`zones` by name, each a list of points [x, y] in 0..1 of the picture."""

    zones: dict[str, Annotated[Polygon, AfterValidator(check_polygon)]] = Field(
        default_factory=dict, max_length=MAX_ZONES, description="polygons that are blacked out, by name"
    )
    paused: bool = Field(default=False, description="true: start paused; false: as before the restart")
    thumbnails: ThumbnailSettings = ThumbnailSettings()


def merge_privacy(defaults: PrivacySettings | None, own: PrivacySettings | None) -> PrivacySettings:
    """Merge a camera's own settings into the defaults; its zones and its pause add to theirs."""
    defaults, own = defaults or PrivacySettings(), own or PrivacySettings()
    return PrivacySettings(
        zones={**defaults.zones, **own.zones},
        paused=defaults.paused or own.paused,
        thumbnails=(own if "thumbnails" in own.model_fields_set else defaults).thumbnails,
    )


class EncryptionSettings(StrictModel):
    """Where the key is. Without `key_file`, the environment's LVM_EDGE_KEY_FILE or LVM_EDGE_KEY is used."""

    key_file: Path | None = Field(default=None, description="file of the key; lvm-edge key new makes one")
