"""How memory is kept by glibc's malloc and by Python's garbage collector, as the process runs for months."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

HEAPS = 2
LARGE_BYTES = 1 << 19
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h."""
TRIM_EVERY_S = 60.0


def steady_heaps() -> bool:
    """Let all threads of this process share two heaps without large blocks; whether that could be done.

    glibc gives threads heaps of their own, up to eight a core. What one thread freed another cannot use, so
    each heap grows to what its busiest moment took: four cameras that failed now and then, on a machine forty
    times overbooked, had 144 MB in sixteen heaps after ten minutes and 100 MB in two; on a calm one it makes
    2 MB. Pictures and tensors come from the kernel or from the backends' own pools, so sharing costs no time
    that was measured (4.2 ms of processor time a frame with and without).

    Blocks from 128 KB on come from the kernel, until one is freed: then glibc raises that bound to its
    size, up to 32 MB, and the next ones lie in the heaps, which a small block on top keeps from shrinking.
    Memory rose in steps of 4 to 8 MB for no reason of ours: engines of onnxruntime that were loaded again
    ten times took 118, then 176 MB, with a bound of 512 KB that stays 118, then 133 (131 to 133 from the
    third on). Frames a second were the same (342 and 383 against 372 and 372, interleaved), resident memory
    of a bench 9 MB less.

    Elsewhere (musl, macOS) there is no such call and nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    bounds = ((_M_ARENA_MAX, HEAPS), (_M_MMAP_THRESHOLD, LARGE_BYTES), (_M_TRIM_THRESHOLD, LARGE_BYTES))
    return all([mallopt(name, value) for name, value in bounds])


def leave_loaded_alone() -> None:
    """Keep what exists by now (modules, settings, engines) out of Python's search for cyclic garbage.

    For the end of a program's start, once. Python looks through all its objects for cycles only when those
    that survived a while have become a quarter of all older ones. 300,000 objects of modules make that rare
    and long: what requests and reconnects left behind grew for minutes (resident memory of four faulty
    cameras by 4 MB in its fifth minute), and then one search held everything up (616 ms against 6 ms with
    this, one run of each side by side, on two cores at a load of 15). Engines are closed by hand and do not
    depend on it.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # a quarter of what: counted anew only by a search


def trimmed() -> bool:
    """Give the system back what malloc holds and nobody uses; whether that could be done.

    Pages between blocks that are used stay with the process otherwise: what is freed at the end of a heap
    goes back by itself, a hole in its middle never does, and over months holes grow although what is used
    does not.
    """
    trim = _malloc_trim()
    if trim is None:
        return False
    trim(0)
    return True


class HeapUse(NamedTuple):
    """Bytes of malloc: `used` are given out, `free` lie between them, be they resident or given back."""

    used: int
    free: int


def heap_use() -> HeapUse | None:
    """Of all heaps, and of large blocks from the kernel; None without glibc 2.33 or later. 0.04 ms.

    Resident memory says what the system lacks; this says who has it: where it grows and `used` does not, used
    blocks lie scattered among holes.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    mallinfo.restype = _MallInfo
    found = mallinfo()
    return HeapUse(found.uordblks + found.hblkhd, found.fordblks)


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    ]  # fmt: skip


@contextlib.contextmanager
def heaps_trimmed(every_s: float = TRIM_EVERY_S) -> Iterator[None]:
    """Meanwhile, `trimmed` again and again from a thread of its own."""
    if _malloc_trim() is None:
        yield
        return
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(every_s):
            trimmed()

    thread = threading.Thread(target=work, name="heaps", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's; elsewhere (musl, macOS) there is none. The lock of Python is not held meanwhile."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim
