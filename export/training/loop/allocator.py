"""Keep memory that a training step frees for the next step instead of returning it to the kernel.

glibc maps every large block anew and unmaps it when it is freed, so the kernel zeroes each tensor of each
step page by page: nearly half of the processor time of a training on CPU.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_NEVER = 2**31 - 1
_TOP_PAD_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory, for the whole process. Return False with another C library."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all([mallopt(name, value) == 1 for name, value in settings])
