"""Find files past their retention, on a machine whose clock may be wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

MAX_AHEAD_S = 3600.0
"""A time further in the future than this was written by a clock that ran ahead."""
RELEASED_AT = 1_793_491_200.0
"""2026-11-01: a time before this program existed was written by a clock that had not been set (1970)."""


def is_misdated(written: float, now: float) -> bool:
    """Return whether `written`, seconds since 1970, cannot be a time at which this program wrote.

    False while the clock of `now` is itself wrong.
    """
    return now >= RELEASED_AT and not RELEASED_AT <= written <= now + MAX_AHEAD_S


def is_expired(path: Path, seconds: float) -> bool:
    """Return whether `path` was changed more than `seconds` ago; False where there is no such file.

    A file with an impossible time (`is_misdated`) gets the time of now: with a time in the future it would
    never expire, with one of 1970 at once. Raises OSError.
    """
    now = time.time()
    try:
        changed = path.stat().st_mtime
    except FileNotFoundError:
        return False
    if is_misdated(changed, now):
        os.utime(path)
        return False
    return changed < now - seconds
