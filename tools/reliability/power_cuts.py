"""Count what a power cut costs: the state on a disk that breaks at every operation.

    python -m tools.reliability.power_cuts

Uses the helpers of tests/persistence/test_power_cut.py, which asserts the same and more; here each cut is
counted, with the frames lost and the time until the state is loaded again. The last line is one JSON object.
Exit status 3 where a loaded state differs from an uninterrupted run's, or more than the frame that was being
saved is lost.
"""

from __future__ import annotations

import importlib
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.memory.version import Step
from edge_runtime.persistence import FILE, store
from edge_runtime.persistence.journal import PREFIX
from tools.console import finish, show
from tools.reliability.kill import digest_of

JOURNAL_PER_SNAPSHOT = 0.6
"""Small, so that a run of 30 frames rotates its journal several times."""
SNAPSHOT_STEP, JOURNAL_STEP = 211, 61


@dataclass
class FaultCosts:
    """One kind of fault, by injection: ingested frames that are lost, and the seconds to load the state."""

    fault: str
    lost: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "fault": self.fault, "injected": len(self.lost), "lost_most": max(self.lost), "wrong": self.wrong,
            "median_s": statistics.median(self.seconds), "worst_s": max(self.seconds),
        }  # fmt: skip


class PowerCuts:
    """Saves 30 frames on a disk in memory, again and again, with a fault each time."""

    def __init__(self) -> None:
        tests = importlib.import_module("tests.persistence.test_power_cut")
        self._disk, self._tests = tests.BreakingDisk, tests
        store.JOURNAL_PER_SNAPSHOT = JOURNAL_PER_SNAPSHOT  # type: ignore[assignment]
        ingest = tests._ingest(tests.empty_version(tests.NETWORK))
        versions = [ingest.version]
        steps: list[Step] = []
        ingest.on_step = steps.append
        for frame in tests.frames(tests.FRAMES):
            versions.append(ingest.push([frame]))
        ingest.close()
        self._life = tests.Life(versions, steps, [digest_of(version) for version in versions])
        whole = self._disk()
        tests._run(whole, self._life)
        self.operations: list[str] = whole.operations
        self._files = whole.files()

    def run(self) -> Iterator[FaultCosts]:
        yield self._cut_power("power cut before an operation", lambda what: True, torn=False)
        yield self._cut_power("power cut in the middle of a write", lambda what: what == "write", torn=True)
        yield self._flip_bits(FaultCosts("a bit of the snapshot flips"), FILE, SNAPSHOT_STEP)
        journals = sorted(name for name in self._files if name.startswith(PREFIX))
        costs = FaultCosts("a bit of a journal flips")
        for name in journals:
            self._flip_bits(costs, name, JOURNAL_STEP)
        yield costs

    def _cut_power(self, fault: str, chosen: Callable[[str], bool], *, torn: bool) -> FaultCosts:
        costs, rng = FaultCosts(fault), random.Random(0)
        for n, what in enumerate(self.operations, start=1):
            if not chosen(what):
                continue
            disk = self._disk()
            disk.cut_at, disk.torn = n, torn
            saved = self._tests._run(disk, self._life)
            for survives in self._tests.SURVIVES:
                self._load(costs, disk.after_cut(survives, rng), saved + 1)  # the frame being saved counts
        return costs

    def _flip_bits(self, costs: FaultCosts, name: str, step: int) -> FaultCosts:
        for at in range(0, len(self._files[name]), step):
            damaged = bytearray(self._files[name])
            damaged[at] ^= 1 << at % 8
            self._load(costs, self._disk({**self._files, name: bytes(damaged)}), self._tests.FRAMES)
        return costs

    def _load(self, costs: FaultCosts, disk: Any, frames: int) -> None:
        began = time.perf_counter()
        snapshot = self._tests._loaded(disk)
        costs.seconds.append(time.perf_counter() - began)
        loaded = snapshot.version.frames if snapshot else 0
        costs.lost.append(frames - min(loaded, frames))
        costs.wrong += snapshot is not None and digest_of(snapshot.version) != self._life.digests[loaded]


def main() -> int:
    logging.disable(logging.WARNING)  # each damaged file is logged, thousands of times
    cuts = PowerCuts()
    rows = [costs.as_json() for costs in cuts.run()]
    columns = list(rows[0])
    show(f"{len(cuts.operations)} operations of 30 frames", columns, [list(row.values()) for row in rows])
    # A damaged record ends the journal: what came after it is lost too, and the log says so.
    ok = not any(row["wrong"] for row in rows) and all(row["lost_most"] <= 1 for row in rows[:3])
    finish({"operations": len(cuts.operations), "faults": rows, "ok": ok})
    return 0 if ok else 3


if __name__ == "__main__":
    sys.exit(main())
