"""`privacy.json` in the state folder: what of privacy survives a restart.

Whether the camera is paused, and the zones, so that a box in an old picture of a recording is cut from what
the zones left of it also when no process runs. It holds nothing of any picture.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_runtime.imaging.polygon import Polygon
from edge_runtime.persistence.private_files import write_private
from edge_runtime.privacy.zones import Zones
from engines.errors import LvmError

log = logging.getLogger(__name__)

FILE = "privacy.json"
_MAX_BYTES = 1 << 20


class Memo(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    paused: bool = False
    zones: dict[str, Polygon] = {}


def load_memo(folder: Path) -> Memo:
    """What was noted in `folder`, the defaults where nothing was.

    Raises LvmError where it cannot be read: watching on as if nobody had paused would be the wrong guess.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            return Memo.model_validate_json(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return Memo()
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not understood"
        raise LvmError(
            f"{path} cannot be used: {why}; whether the camera was paused is unknown, remove it to go on"
        ) from None


def save_memo(folder: Path, memo: Memo) -> None:
    """Note it for the next start. Raises LvmError where that cannot be done."""
    try:
        write_private(folder / FILE, memo.model_dump_json().encode())
    except OSError as error:
        raise LvmError(f"{folder / FILE} cannot be written: {error.strerror}") from error


def zones_of(folder: Path) -> Zones:
    """The zones of a saved state. Raises LvmError where they cannot be read."""
    return Zones(load_memo(folder).zones)


def start_memo(folder: Path, zones: Mapping[str, Polygon], *, paused: bool) -> Memo:
    """The memo of a run that begins: a pause stays, the zones are those of now."""
    before = load_memo(folder)
    if gone := sorted(before.zones.keys() - zones.keys()):
        log.warning("%s: privacy zones %s were on before and are off now", folder, ", ".join(gone))
    memo = Memo(paused=paused or before.paused, zones=dict(zones))
    if memo != before:
        save_memo(folder, memo)
    return memo
