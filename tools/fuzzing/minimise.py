"""Reproduce a finding and make it as small as possible. Each try runs in a forked child that may die."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from tools.fuzzing.case_check import MEMORY_BYTES, WALL_S, find_problem, peak_above, resident
from tools.fuzzing.targets import Target, open_target

BUDGET_S = 60.0
"""Time for minimising one finding."""


def find_finding(target: str, data: bytes) -> str | None:
    """Return None if the case is handled; else the signature of what happened."""
    with tempfile.TemporaryDirectory() as scratch:
        return _find_in_child(open_target(target, Path(scratch)), data)


def minimise_finding(target: str, data: bytes) -> tuple[bytes, str | None]:
    """Return the smallest input found with the same finding as `data`, and the finding."""
    with tempfile.TemporaryDirectory() as scratch:
        opened = open_target(target, Path(scratch))
        finding = _find_in_child(opened, data)
        if finding is None:
            return data, None
        return shrink(data, lambda shorter: _find_in_child(opened, shorter) == finding), finding


def shrink(data: bytes, reproduces: Callable[[bytes], bool], budget_s: float = BUDGET_S) -> bytes:
    """Leave out parts, large ones first, then set bytes to "0", while the rest `reproduces` the finding."""
    end = time.monotonic() + budget_s
    size = max(1, len(data) // 2)
    while size and time.monotonic() < end:
        at = 0
        while at < len(data) and time.monotonic() < end:
            shorter = data[:at] + data[at + size :]
            if reproduces(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    for at in range(len(data)):
        if time.monotonic() > end:
            break
        shorter = data[:at] + b"0" + data[at + 1 :]
        if data[at : at + 1] != b"0" and reproduces(shorter):
            data = shorter
    return data


def _find_in_child(target: Target, data: bytes) -> str | None:
    """Run the case in a forked child, which is killed after the time limit, and return its finding."""
    before = resident()  # a fork begins with what its parent holds
    reading, writing = os.pipe()
    before = resident()  # a fork begins with what its parent holds
    child = os.fork()
    if child == 0:
        os.close(reading)
        warnings.simplefilter("ignore")  # of numpy, as in the worker
        problem = find_problem(target.run, data)
        finding = problem[0] if problem else ""
        if peak_above(before + MEMORY_BYTES):
            finding = "memory"
        os.write(writing, finding.encode(errors="replace")[:2000] + b"\n")
        os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], WALL_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
        finding = os.read(reading, 4096).decode()
    finally:
        os.close(reading)
        _, status = os.waitpid(child, 0)
    if not ready:
        return "hang"
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    if not finding:
        return f"exit status {os.WEXITSTATUS(status)}"
    return finding.rstrip("\n") or None
