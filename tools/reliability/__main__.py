"""Write docs/lab/reliability.md: every fault, how often it was injected, what it cost.

    python -m tools.reliability --folder runs/reliability

Runs the parts below, each a command of its own, and writes the page from their output. The output of a part
is in the folder as NAME.out. A part whose file is there is not run again, so that long ones run once and a
run that was stopped continues. `--only` runs some parts and writes the page from all that are there.

    sources   every camera fault, again and again          tools/reliability/source_faults.py
    kills     kill -9 of the real process                  tools/reliability/kill.py
    cuts      power cuts and flipped bits at every place   tools/reliability/power_cuts.py
    disk      full and read-only disks, foreign states     tests of power_cut, kill and state
    slope     resident memory over many frames             tools/reliability/memory_growth.py
    soak      all of it at once for --hours of stream      tools/reliability/soak.py

Exit status 3 where a part failed or is missing; the page says which. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tools.console import finish
from tools.reliability.page import render_page

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "lab" / "reliability.md"
DISK_TESTS = (
    "tests/persistence/test_power_cut.py::test_a_full_disk_costs_nothing_but_what_a_kill_meanwhile_would",
    "tests/persistence/test_power_cut.py::test_a_snapshot_that_does_not_fit_leaves_no_crumbs",
    "tests/tools/test_kill.py::test_a_run_whose_files_may_not_grow_remembers_in_ram_and_says_so_in_the_end",
    "tests/persistence/test_state.py",
)


@dataclass(frozen=True)
class PartResult:
    """A part's command, day, exit status, and the JSON of its last line (or the line and pytest's counts)."""

    name: str
    command: str
    day: str
    status: int
    result: dict[str, Any]


def commands(
    folder: Path, times: int, kills: int, frames: int, hours: float, speed: float
) -> dict[str, list[str]]:
    """Return each part's command, without the interpreter."""
    soak = ["tools.reliability.soak", "--hours", f"{hours:g}", "--speed", f"{speed:g}"]
    soak += ["--folder", str(folder / "soak")]
    return {
        "sources": ["tools.reliability.source_faults", "--times", str(times)],
        "kills": ["tools.reliability.kill", "--kills", str(kills), "--folder", str(folder / "kills")],
        "cuts": ["tools.reliability.power_cuts"],
        "disk": ["pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", *DISK_TESTS],
        "slope": ["tools.reliability.memory_growth", "--frames", str(frames)],
        "soak": soak,
    }


def run_part(name: str, command: Sequence[str], folder: Path) -> None:
    """Run a part and write its output to a file, with its command first and its exit status last."""
    printed = " ".join(["python -m", *command]).replace(str(folder), "FOLDER")
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    partial = folder / f"{name}.partial"
    partial.write_text(f"$ {printed}\n{done.stdout.rstrip()}\n= {done.returncode}\n")
    partial.replace(folder / f"{name}.out")


def read_part(name: str, file: Path) -> PartResult:
    """Read a part's file. Raises ValueError if it is not such a file."""
    lines = file.read_text().splitlines()
    if len(lines) < 3 or not lines[0].startswith("$ ") or not lines[-1].startswith("= "):
        raise ValueError(f"{file} must begin with its command and end with its exit status; remove it")
    day = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).strftime("%Y-%m-%d")
    last = lines[-2]
    result = json.loads(last) if last.startswith("{") else _parse_counts(last)
    status = int(lines[-1][2:]) or (3 if result.get("ok") is False else 0)
    return PartResult(name, lines[0][2:], day, status, result)


def _parse_counts(line: str) -> dict[str, int]:
    """Return the counts in pytest's last line, such as `12 passed, 1 failed`."""
    return {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|error)", line)}


def describe_machine() -> str:
    """Return cores, vector units and operating system, without a model name."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    units = [name for flag, name in (("avx512f", "AVX-512"), ("amx_tile", "AMX")) if f" {flag}" in info]
    return f"{os.cpu_count()} {os.uname().machine} cores, {', '.join(units) or 'no AVX-512'}, {sys.platform}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("reliability"), help="folder of the results")
    parser.add_argument("--times", type=int, default=5, help="injections of each camera fault")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--frames", type=int, default=60_000, help="of the slope, 24,000 of them to warm up")
    parser.add_argument("--hours", type=float, default=4.0, help="of the soak's stream")
    parser.add_argument("--speed", type=float, default=40.0)
    parser.add_argument("--only", nargs="*", help="parts to run; none to write the page only")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(argv)
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts_to_run = commands(folder, given.times, given.kills, given.frames, given.hours, given.speed)
    unknown = set(given.only or ()) - set(parts_to_run)
    if unknown:
        parser.error(f"parts are {', '.join(parts_to_run)}, got {', '.join(sorted(unknown))}")
    for name, command in parts_to_run.items():
        if not (folder / f"{name}.out").exists() and (given.only is None or name in given.only):
            print(f"{name}: python -m {' '.join(command)}", file=sys.stderr, flush=True)
            run_part(name, command, folder)
    parts = {n: read_part(n, folder / f"{n}.out") for n in parts_to_run if (folder / f"{n}.out").exists()}
    missing = [name for name in parts_to_run if name not in parts]
    failed = [name for name, part in parts.items() if part.status]
    events = folder / "soak" / "events.jsonl"
    injected = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    given.page.write_text(render_page(parts, injected, describe_machine(), missing), encoding="utf-8")
    finish({"page": str(given.page), "parts": list(parts), "missing": missing, "failed": failed,
            "ok": not missing and not failed})  # fmt: skip
    return 3 if missing or failed else 0


if __name__ == "__main__":
    sys.exit(main())
