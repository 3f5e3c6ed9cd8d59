"""Many threads share few heaps of malloc, large blocks stay out of them, and garbage is found soon."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading

import pytest

from edge_runtime.system import malloc

PROGRAM = """
import ctypes, sys, threading
from edge_runtime.system.malloc import tune_malloc
if sys.argv[1] == "few":
    assert tune_malloc()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
gate = threading.Barrier(9)
def work():
    libc.malloc(1000)
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
gate.wait()
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose.argtypes = [ctypes.c_void_p]
libc.fclose(file)
"""


def heaps_of(kind: str, file) -> int:
    subprocess.run([sys.executable, "-c", PROGRAM, kind, str(file)], check=True)
    return file.read_text().count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has heaps by thread")
def test_threads_share_two_heaps(tmp_path):
    assert heaps_of("many", tmp_path / "many") >= 6
    assert heaps_of("few", tmp_path / "few") <= 2


LARGE = """
import ctypes, sys
from edge_runtime.system.malloc import tune_malloc
if sys.argv[1] == "steady":
    assert tune_malloc()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc.mallinfo2.restype = Info
libc.free(libc.malloc(16 << 20))
before = libc.mallinfo2().hblkhd
libc.malloc(4 << 20)
print(libc.mallinfo2().hblkhd - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc moves its bound")
@pytest.mark.parametrize("kind, from_the_kernel", [("plain", False), ("steady", True)])
def test_large_blocks_come_from_the_kernel_also_after_a_larger_one(kind, from_the_kernel):
    result = subprocess.run([sys.executable, "-c", LARGE, kind], check=True, capture_output=True, text=True)
    assert (int(result.stdout) >= 4 << 20) == from_the_kernel


HOLES = """
import sys
import psutil
from edge_runtime.system.malloc import tune_malloc, trim_malloc
tune_malloc()
blocks = [bytearray(20_000) for _ in range(10_000)]
for number in range(10_000):
    if number % 10:
        blocks[number] = None  # the last stays: what is above the holes keeps the heap
resident = psutil.Process().memory_info().rss
assert trim_malloc()
print(resident - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has malloc_trim")
def test_holes_between_what_is_used_are_given_back():
    result = subprocess.run([sys.executable, "-c", HOLES], check=True, capture_output=True, text=True)
    assert int(result.stdout) > 100_000_000


USED = """
import threading
from edge_runtime.system.malloc import read_malloc_use
objects = []
before = read_malloc_use()
worker = threading.Thread(target=lambda: objects.extend(bytearray(3_000) for _ in range(10_000)))
worker.start()
worker.join()
large = bytearray(50_000_000)
after = read_malloc_use()
del objects[::2], large
then = read_malloc_use()
print(after.used - before.used, after.used - then.used, then.free - after.free)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc tells")
def test_what_all_threads_were_given_is_reported_and_the_holes_between():
    result = subprocess.run([sys.executable, "-c", USED], check=True, capture_output=True, text=True)
    given, back, holes = map(int, result.stdout.split())
    assert 80e6 < given < 90e6 and 65e6 < back < 75e6 and 15e6 < holes < 20e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has malloc_trim")
def test_they_are_given_back_again_and_again(monkeypatch):
    given = threading.Semaphore(0)
    monkeypatch.setattr(malloc, "trim_malloc", lambda: given.release() or True)
    with malloc.trim_malloc_regularly(0.001):
        assert given.acquire(timeout=60) and given.acquire(timeout=60)
    assert "trim malloc" not in [thread.name for thread in threading.enumerate()]


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda _: object())
    assert not malloc.trim_malloc() and malloc.read_malloc_use() is None
    with malloc.trim_malloc_regularly(0.001):
        assert "trim malloc" not in [thread.name for thread in threading.enumerate()]


LOADED = """
import collections, gc, sys
from edge_runtime.system.malloc import freeze_loaded_objects

class Request:
    there = 0
    def __init__(self):
        Request.there += 1
        self.itself = self
    def __del__(self):
        Request.there -= 1

loaded = [[] for _ in range(1_000_000)]
gc.collect()
if sys.argv[1] == "alone":
    freeze_loaded_objects()
peak, being_answered = 0, collections.deque(maxlen=10_000)  # so long that they are no young garbage
for _ in range(200_000):
    being_answered.append(Request())
    peak = max(peak, Request.there)
print(peak)
"""


@pytest.mark.parametrize("kind, lowest, highest", [("plain", 190_000, 200_000), ("alone", 10_000, 120_000)])
def test_cycles_are_found_sooner_where_what_is_loaded_is_left_alone(kind, lowest, highest):
    result = subprocess.run([sys.executable, "-c", LOADED, kind], check=True, capture_output=True, text=True)
    assert lowest <= int(result.stdout) <= highest
