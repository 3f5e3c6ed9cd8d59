"""docs/lab/reliability.md by one command: every fault, how often it was injected, what it cost.

    python -m tools.reliability --folder runs/reliability

Runs the parts below, each a command of its own, and writes the page from what they said. What a part said
lies in the folder as NAME.out; a part whose file is there is not run again, so that long ones are run once
and a run that was broken off goes on. `--only` runs some and writes the page from those that there are.

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
from tools.reliability.page import page

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "lab" / "reliability.md"
DISK_TESTS = (
    "tests/persistence/test_power_cut.py::test_a_full_disk_costs_nothing_but_what_a_kill_meanwhile_would",
    "tests/persistence/test_power_cut.py::test_a_snapshot_that_does_not_fit_leaves_no_crumbs",
    "tests/tools/test_kill.py::test_a_run_whose_files_may_not_grow_remembers_in_ram_and_says_so_in_the_end",
    "tests/persistence/test_state.py",
)


@dataclass(frozen=True)
class Part:
    """What a part said: its command, the day, its last line, and the rest where there is no JSON in it."""

    name: str
    command: str
    day: str
    status: int
    result: dict[str, Any]


def commands(
    folder: Path, times: int, kills: int, frames: int, hours: float, speed: float
) -> dict[str, list[str]]:
    """Each part's command, without the interpreter."""
    soak = [
        "tools.reliability.soak",
        "--hours",
        f"{hours:g}",
        "--speed",
        f"{speed:g}",
        "--folder",
        str(folder / "soak"),
    ]
    return {
        "sources": ["tools.reliability.source_faults", "--times", str(times)],
        "kills": ["tools.reliability.kill", "--kills", str(kills), "--folder", str(folder / "kills")],
        "cuts": ["tools.reliability.power_cuts"],
        "disk": ["pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", *DISK_TESTS],
        "slope": ["tools.reliability.memory_growth", "--frames", str(frames)],
        "soak": soak,
    }


def run(name: str, command: Sequence[str], folder: Path) -> None:
    """Run a part and keep what it says, with its command first and its exit status last."""
    shown = " ".join(["python -m", *command]).replace(str(folder), "FOLDER")
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    partial = folder / f"{name}.partial"
    partial.write_text(f"$ {shown}\n{done.stdout.rstrip()}\n= {done.returncode}\n")
    partial.replace(folder / f"{name}.out")


def part(name: str, file: Path) -> Part:
    """What lies in a part's file. Raises ValueError where it is not such a file."""
    lines = file.read_text().splitlines()
    if len(lines) < 3 or not lines[0].startswith("$ ") or not lines[-1].startswith("= "):
        raise ValueError(f"{file} must begin with its command and end with its exit status; remove it")
    day = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).strftime("%Y-%m-%d")
    said = lines[-2]
    result = json.loads(said) if said.startswith("{") else {"said": said, **_counted(said)}
    status = int(lines[-1][2:]) or (3 if result.get("ok") is False else 0)
    return Part(name, lines[0][2:], day, status, result)


def _counted(said: str) -> dict[str, int]:
    """`12 passed, 1 failed` of pytest's last line."""
    return {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|error)", said)}


def machine() -> str:
    """Cores, vector units and operating system, without a name."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    units = [shown for flag, shown in (("avx512f", "AVX-512"), ("amx_tile", "AMX")) if f" {flag}" in info]
    return f"{os.cpu_count()} {os.uname().machine} cores, {', '.join(units) or 'no AVX-512'}, {sys.platform}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("reliability"), help="where results lie")
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
    wanted = commands(folder, given.times, given.kills, given.frames, given.hours, given.speed)
    unknown = set(given.only or ()) - set(wanted)
    if unknown:
        parser.error(f"parts are {', '.join(wanted)}, got {', '.join(sorted(unknown))}")
    for name, command in wanted.items():
        if not (folder / f"{name}.out").exists() and (given.only is None or name in given.only):
            print(f"{name}: python -m {' '.join(command)}", file=sys.stderr, flush=True)
            run(name, command, folder)
    parts = {n: part(n, folder / f"{n}.out") for n in wanted if (folder / f"{n}.out").exists()}
    missing = [name for name in wanted if name not in parts]
    failed = [name for name, one in parts.items() if one.status]
    events = folder / "soak" / "events.jsonl"
    injected = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    given.page.write_text(page(parts, injected, machine(), missing), encoding="utf-8")
    finish({"page": str(given.page), "parts": list(parts), "missing": missing, "failed": failed,
            "ok": not missing and not failed})  # fmt: skip
    return 3 if missing or failed else 0


if __name__ == "__main__":
    sys.exit(main())
