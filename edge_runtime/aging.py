"""Files that are kept for a while, on a machine whose clock may be wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

AHEAD_S = 3600.0
"""What was written later than this from now was written by a clock that ran ahead."""


def too_old(path: Path, seconds: float) -> bool:
    """Whether it was changed so long ago; False where there is none.

    One whose time lies in the future counts as changed now from here on, or it would never age. Raises
    OSError.
    """
    now = time.time()
    try:
        changed = path.stat().st_mtime
    except FileNotFoundError:
        return False
    if changed > now + AHEAD_S:
        os.utime(path)
    return changed < now - seconds
