"""Many threads share few heaps of malloc."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from edge_runtime.heaps import few_heaps
if sys.argv[1] == "few":
    assert few_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
gate = threading.Barrier(9)
def work():
    libc.malloc(1000)
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for one in threads:
    one.start()
gate.wait()
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose.argtypes = [ctypes.c_void_p]
libc.fclose(file)
"""


def heaps(kind: str, file) -> int:
    subprocess.run([sys.executable, "-c", PROGRAM, kind, str(file)], check=True)
    return file.read_text().count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has heaps by thread")
def test_threads_share_two_heaps(tmp_path):
    assert heaps("many", tmp_path / "many") >= 6
    assert heaps("few", tmp_path / "few") <= 2
