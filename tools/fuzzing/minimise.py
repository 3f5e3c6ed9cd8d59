"""A finding again, alone, and as small as it stays one. Each try runs in a forked child that may die."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from tools.fuzzing.judge import MEMORY_BYTES, WALL_S, judge
from tools.fuzzing.peak import peak_above, resident
from tools.fuzzing.targets import Target, open_target

BUDGET_S = 60.0
"""For making one finding small."""


def finding_of(target: str, data: bytes) -> str | None:
    """None where the case is taken well; else the signature of what happened."""
    with tempfile.TemporaryDirectory() as scratch:
        return _try(open_target(target, Path(scratch)), data)


def minimise_case(target: str, data: bytes) -> tuple[bytes, str | None]:
    """The smallest input found that does the same as `data`, and what that is."""
    with tempfile.TemporaryDirectory() as scratch:
        opened = open_target(target, Path(scratch))
        wanted = _try(opened, data)
        if wanted is None:
            return data, None
        return smaller(data, lambda less: _try(opened, less) == wanted), wanted


def smaller(data: bytes, same: Callable[[bytes], bool], budget_s: float = BUDGET_S) -> bytes:
    """Parts are left out, large ones first, then bytes become zero, while `same` holds."""
    end = time.monotonic() + budget_s
    size = max(1, len(data) // 2)
    while size and time.monotonic() < end:
        at = 0
        while at < len(data) and time.monotonic() < end:
            less = data[:at] + data[at + size :]
            if same(less):
                data = less
            else:
                at += size
        size //= 2
    for at in range(len(data)):
        if time.monotonic() > end:
            break
        less = data[:at] + b"0" + data[at + 1 :]
        if data[at : at + 1] != b"0" and same(less):
            data = less
    return data


def _try(target: Target, data: bytes) -> str | None:
    """Return the signature of a forked child, which is killed after the wall limit."""
    reading, writing = os.pipe()
    before = resident()  # a fork begins with what its parent holds
    child = os.fork()
    if child == 0:
        os.close(reading)
        warnings.simplefilter("ignore")  # of numpy, as in the worker
        found = judge(target.run, data)
        said = found[0] if found else ""
        if peak_above(before + MEMORY_BYTES):
            said = "memory"
        os.write(writing, said.encode(errors="replace")[:2000] + b"\n")
        os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], WALL_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
        said = os.read(reading, 4096).decode()
    finally:
        os.close(reading)
        _, status = os.waitpid(child, 0)
    if not ready:
        return "hang"
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    if not said:
        return f"exit status {os.WEXITSTATUS(status)}"
    return said.rstrip("\n") or None
