"""Load and save `privacy.json` in the state folder: the privacy settings that survive a restart.

It holds whether the camera is paused, and the zones, so that `lvm-edge ask` masks a frame of a recording also
when no run is active. It holds no image data.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edge_runtime.imaging.polygon import Polygon
from edge_runtime.persistence.filesystem import write_private
from edge_runtime.privacy.zones import Zones
from edge_runtime.system.validation import StrictModel
from engines.errors import LvmError

log = logging.getLogger(__name__)

FILE = "privacy.json"
_MAX_BYTES = 1 << 20


class SavedSettings(StrictModel):
    format_version: Literal[1] = 1
    paused: bool = False
    zones: dict[str, Polygon] = {}


def load_saved_settings(folder: Path) -> SavedSettings:
    """Return the settings saved in `folder`, or the defaults if there are none.

    Raises LvmError if they cannot be read: to go on recording could break a privacy pause.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            return SavedSettings.model_validate_json(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return SavedSettings()
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not understood"
        raise LvmError(
            f"{path} cannot be used: {reason}; whether the camera was paused is unknown, remove it to go on"
        ) from None


def save_settings(folder: Path, settings: SavedSettings) -> None:
    """Save the settings for the next start. Raises LvmError if they cannot be written."""
    try:
        write_private(folder / FILE, settings.model_dump_json().encode())
    except OSError as error:
        raise LvmError(f"{folder / FILE} cannot be written: {error.strerror}") from error


def load_zones(folder: Path) -> Zones:
    """Return the zones of a saved state. Raises LvmError if they cannot be read."""
    return Zones(load_saved_settings(folder).zones)


def update_saved_settings(folder: Path, zones: Mapping[str, Polygon], *, paused: bool) -> SavedSettings:
    """Save the settings of a run that begins: a saved pause stays, `zones` replace the saved ones."""
    before = load_saved_settings(folder)
    if removed := sorted(before.zones.keys() - zones.keys()):
        log.warning("%s: privacy zones %s were on before and are off now", folder, ", ".join(removed))
    settings = SavedSettings(paused=paused or before.paused, zones=dict(zones))
    if settings != before:
        save_settings(folder, settings)
    return settings
