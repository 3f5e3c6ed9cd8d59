"""Every hostile file of the folder of real media through both doors, each in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.media import real_media

LIMIT_SECONDS = 10
LIMIT_MB = 1000

OPEN = """
with open_source(path, sample_fps=1.0) as source:
    count = sum(1 for frame in source)
print(json.dumps({"frames": count, "seen": source.seen, "errors": source.errors}))
"""
READ = """
print(json.dumps({"shape": read_image(path).shape}))
"""
PROGRAM = """
import json, sys
from edge_runtime.imaging.decode import read_image
from edge_runtime.sources import open_source
from engines.errors import LvmError
path = sys.argv[1]
try:
    {call}
except LvmError as error:
    print(json.dumps({{"error": str(error)}}))
"""


def cap_address_space() -> None:
    # Threads and libraries reserve far more than they use; what is used is measured below.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def outcome(call: str, path: Path) -> dict[str, object]:
    program = PROGRAM.format(call=call.strip().replace("\n", "\n    "))
    # Not ru_maxrss: it begins with the peak of this process.
    program += "print(next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))\n"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        preexec_fn=cap_address_space,
    )
    assert done.returncode == 0, f"{path.name}: {done.returncode} {done.stderr[-500:]}"
    assert "Traceback" not in done.stderr, done.stderr
    line, peak_kb = done.stdout.splitlines()[-2:]
    seconds = time.monotonic() - began
    return {
        "file": path.name,
        "s": seconds,
        "mb": int(peak_kb) / 1024,
        "err": done.stderr,
        **json.loads(line),
    }


@pytest.mark.media
@pytest.mark.parametrize("call", [OPEN, READ], ids=["open_source", "read_image"])
def test_no_hostile_file_crashes_hangs_or_eats_memory(call):
    paths = sorted((real_media() / "odd").iterdir())
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda path: outcome(call, path), paths))
    for each in outcomes:
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in each.items()})
    kinds = Counter(
        "LvmError" if "error" in each else "partial" if each.get("errors") else "clean" for each in outcomes
    )
    slowest, largest = max(outcomes, key=lambda o: o["s"]), max(outcomes, key=lambda o: o["mb"])
    print(dict(kinds), "slowest", slowest["file"], slowest["s"], "largest", largest["file"], largest["mb"])
    assert len(outcomes) >= 82
    assert all("\n" not in each.get("error", "") for each in outcomes)
    assert largest["mb"] < LIMIT_MB, largest
