"""Tune glibc's malloc and Python's garbage collector for a process that runs for months."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_ARENAS = 2
LARGE_BYTES = 1 << 19
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h."""
TRIM_EVERY_S = 60.0


def tune_malloc() -> bool:
    """Let all threads share two heaps (arenas) without large blocks; return whether that worked.

    glibc gives threads heaps of their own, up to eight a core. Memory that one thread freed cannot be used by
    another, so each heap grows to its own maximum: four cameras that failed now and then, on a machine with
    forty times too much load, had 144 MB in sixteen heaps after ten minutes and 100 MB in two; on a machine
    with little load the difference is 2 MB. Pictures and tensors come from the kernel or from the backends'
    own pools, so sharing costs no measurable time (4.2 ms of processor time a frame with and without).

    Blocks from 128 KB on come from the kernel, until one is freed: then glibc raises that bound to its size,
    up to 32 MB. Later blocks lie in the heaps, which cannot shrink while a small block lies on top. Memory
    rose in steps of 4 to 8 MB: onnxruntime engines that were loaded ten times took 118, then 176 MB; with a
    bound of 512 KB 118, then 133 (131 to 133 from the third on). Frames a second were the same (342 and 383
    against 372 and 372, interleaved), resident memory of a bench 9 MB less.

    Elsewhere (musl, macOS) there is no such call and nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    bounds = ((_M_ARENA_MAX, MAX_ARENAS), (_M_MMAP_THRESHOLD, LARGE_BYTES), (_M_TRIM_THRESHOLD, LARGE_BYTES))
    return all([mallopt(name, value) for name, value in bounds])


def freeze_loaded_objects() -> None:
    """Exclude all present objects (modules, settings, engines) from Python's search for cyclic garbage.

    Call it once, when the program has started. Python searches all its objects for cycles only when the
    objects that survived a while have become a quarter of all older ones. 300,000 objects of modules make
    that rare and slow: garbage of requests and reconnects grew for minutes (resident memory of four faulty
    cameras by 4 MB in its fifth minute), and then one search stopped everything (616 ms against 6 ms with
    this, one run of each side by side, on two cores at a load of 15). Engines are closed explicitly and do
    not depend on it.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # the quarter is of a number that only a search counts again


def trim_malloc() -> bool:
    """Return memory that malloc holds and nobody uses to the system; return whether that worked.

    Memory freed at the end of a heap is returned without this, a hole in its middle never is, and over months
    holes grow although the used memory does not.
    """
    trim = _find_malloc_trim()
    if trim is None:
        return False
    trim(0)
    return True


class MallocUse(NamedTuple):
    """Bytes of malloc: `used` are allocated, `free` lie between them, resident or returned to the system."""

    used: int
    free: int


def read_malloc_use() -> MallocUse | None:
    """Return the use of all heaps and large blocks from the kernel; None without glibc 2.33. Takes 0.04 ms.

    If resident memory grows and `used` does not, used blocks lie scattered among holes.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    mallinfo.restype = _MallInfo
    info = mallinfo()
    return MallocUse(info.uordblks + info.hblkhd, info.fordblks)


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
def trim_malloc_regularly(every_s: float = TRIM_EVERY_S) -> Iterator[None]:
    """Call `trim_malloc` every `every_s` seconds while inside, from a thread of its own."""
    if _find_malloc_trim() is None:
        yield
        return
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(every_s):
            trim_malloc()

    thread = threading.Thread(target=work, name="trim malloc", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _find_malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's malloc_trim, None elsewhere (musl, macOS). A call does not hold Python's lock."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim
