"""The most memory that this process has held."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_above(limit: int) -> bool:
    """Whether it has ever held more than `limit` bytes. Cheap as long as it has not."""
    # ru_maxrss begins with the peak of the process that started this one, so it can only acquit.
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 <= limit:
        return False
    return _status("VmHWM") > limit


def resident() -> int:
    """Return the bytes that this process holds now."""
    return _status("VmRSS")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024
