"""Files that are kept for a while, on a machine whose clock may be wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

AHEAD_S = 3600.0
"""What was written later than this from now was written by a clock that ran ahead."""
BEGINNING = 1_793_491_200.0
"""2026-11-01: what is older than this program was written by a clock that had not been set (1970)."""


def misdated(written: float, now: float) -> bool:
    """Whether seconds since 1970 can be no time at which this program wrote; never while the clock of `now`
    is wrong itself."""
    return now >= BEGINNING and not BEGINNING <= written <= now + AHEAD_S


def too_old(path: Path, seconds: float) -> bool:
    """Whether it was changed so long ago; False where there is none.

    One that is `misdated` counts as changed now from here on: of the future it would never age, of 1970 it
    would be too old at once. Raises OSError.
    """
    now = time.time()
    try:
        changed = path.stat().st_mtime
    except FileNotFoundError:
        return False
    if misdated(changed, now):
        os.utime(path)
        return False
    return changed < now - seconds
