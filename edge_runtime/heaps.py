"""How many heaps glibc's malloc keeps: few, as threads come and go for months."""

from __future__ import annotations

import ctypes

HEAPS = 2
_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def few_heaps() -> bool:
    """Let all threads of this process share two heaps; whether that could be done.

    glibc gives threads heaps of their own, up to eight a core. What one thread freed another cannot use, so
    each heap grows to what its busiest moment took: four cameras that failed now and then, on a machine forty
    times overbooked, had 144 MB in sixteen heaps after ten minutes and 100 MB in two; on a calm one it makes
    2 MB. Pictures and tensors come from the kernel or from the backends' own pools, so sharing costs no time
    that was measured (4.2 ms of processor time a frame with and without).
    Elsewhere (musl, macOS) there is no such call and nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_ARENA_MAX, HEAPS))
