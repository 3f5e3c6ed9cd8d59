"""Measure how much slower this machine is than an idle one: a control for everything that is timed.

    python -m tools.reliability.machine_load --seconds 10

A control process of the same priority sleeps 20 ms and works 5 ms of processor time, again and again, as a
program does that mostly waits; on an idle machine a round takes 25 ms. Twice a second it works 50 ms at a
stretch, as a start or an orderly stop does, which a busy machine slows down far more. How much longer each
takes is the cost of the other programs on the machine. A bound in seconds is multiplied by it, so nothing is
loosened on an idle machine, and a run on a busy one reports how busy it was. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from tools.console import finish

SLEEP_S, WORK_S = 0.02, 0.005
IDLE_S = SLEEP_S + WORK_S
BURST_S, BURST_EVERY_S = 0.05, 0.5
OVERHEAD = 1.1
"""Sleeping and the clocks cost so much on an idle machine; it does not count as slowdown."""
ROOT = Path(__file__).resolve().parents[2]


class ControlRounds:
    """How long each round of the control took; on an idle machine `idle_s` seconds. Thread-safe."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._ends: list[float] = []
        self._took: list[float] = [0.0]
        """Cumulated: `_took[k]` seconds for the first k rounds."""
        self._change = threading.Condition()

    def add(self, end: float, took: float) -> None:
        """Add a round that ended at `end` (monotonic s) and took `took` seconds."""
        with self._change:
            self._ends.append(end)
            self._took.append(self._took[-1] + took)
            self._change.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds` for the first round."""
        with self._change:
            self._change.wait_for(lambda: bool(self._ends), seconds)

    def slowdown(self, begin: float, end: float | None = None) -> float:
        """Return how many times slower than idle the rounds from `begin` to `end` were.

        Both are monotonic seconds; `end` is now by default. The result is at least 1. A round that was under
        way at either end counts whole.
        """
        end = time.monotonic() if end is None else end
        with self._change:
            if not self._ends:
                return 1.0
            first = min(bisect.bisect_left(self._ends, begin), len(self._ends) - 1)
            last = min(bisect.bisect_left(self._ends, end) + 1, len(self._ends))
            took = self._took[last] - self._took[first]
        return max(took / (last - first) / (self._idle_s * OVERHEAD), 1.0)


class LoadControl:
    """Runs the control process until the end of the `with` block."""

    def __init__(self) -> None:
        self._rounds, self._bursts = ControlRounds(IDLE_S), ControlRounds(BURST_S)

    def slowdown(self, begin: float, end: float | None = None) -> float:
        """Return how many times slower than idle a program ran that mostly waits; see `ControlRounds`."""
        return self._rounds.slowdown(begin, end)

    def slowdown_at_work(self, begin: float, end: float | None = None) -> float:
        """Return how many times slower than idle a program ran that works at a stretch."""
        return self._bursts.slowdown(begin, end)

    def __enter__(self) -> LoadControl:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.reliability.machine_load", "--rounds", str(os.getpid())],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._listen, name="slowdown", daemon=True)
        self._thread.start()
        self._rounds.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, end, took = line.split()
            (self._bursts if kind == "burst" else self._rounds).add(float(end), float(took))


def _run_control(parent: int) -> None:
    """Run as the control process, which ends with its parent."""
    next_burst = time.monotonic()
    while os.getppid() == parent:
        began = time.monotonic()
        time.sleep(SLEEP_S)
        _work(WORK_S)
        _report("round", began)
        if time.monotonic() >= next_burst:
            began = time.monotonic()
            next_burst = began + BURST_EVERY_S
            _work(BURST_S)
            _report("burst", began)


def _work(seconds: float) -> None:
    """Spend so many seconds of processor time."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        sum(itertools.repeat(1, 1000))


def _report(kind: str, began: float) -> None:
    end = time.monotonic()
    print(f"{kind} {end:.6f} {end - began:.6f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, metavar="PARENT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rounds is not None:
        _run_control(given.rounds)
        return 0
    began = time.monotonic()
    with LoadControl() as control:
        time.sleep(given.seconds)
        slowdowns = {"slowdown": control.slowdown(began), "at_work": control.slowdown_at_work(began)}
        finish({"seconds": given.seconds, **slowdowns, "load": os.getloadavg()[0]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
