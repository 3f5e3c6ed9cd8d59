"""Count what a power cut costs: the state on a disk that breaks at every operation.

    python -m tools.reliability.power_cuts

It runs the machinery of tests/persistence/test_power_cut.py, which asserts the same and more; here each cut
is counted, with the frames lost and the time to load the state again. The last line is one JSON object; exit
status 3 where a loaded state differs from an uninterrupted run's, or more than the frame being saved is lost.
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

import edge_runtime.persistence.store as store_module
from edge_runtime.memory.version import Step
from edge_runtime.persistence import FILE
from edge_runtime.persistence.journal import PREFIX
from tools.console import finish, show
from tools.reliability.kill import digest_of

JOURNAL_PER_SNAPSHOT = 0.6
"""So small that a run of 30 frames rotates its journal several times."""
SNAPSHOT_STEP, JOURNAL_STEP = 211, 61


@dataclass
class Row:
    """One kind of fault: for each cut the ingested frames that are lost and the seconds to load."""

    fault: str
    lost: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "fault": self.fault, "injected": len(self.lost), "lost_most": max(self.lost), "wrong": self.wrong,
            "median_s": statistics.median(self.seconds), "worst_s": max(self.seconds),
        }  # fmt: skip


class Cuts:
    """30 frames saved on a disk in memory, again and again."""

    def __init__(self) -> None:
        test = importlib.import_module("tests.persistence.test_power_cut")
        self._disk, self._test = test.BreakingDisk, test
        store_module.JOURNAL_PER_SNAPSHOT = JOURNAL_PER_SNAPSHOT
        ingest = test._ingest(test.empty_version(test.NETWORK))
        versions = [ingest.version]
        steps: list[Step] = []
        ingest.on_step = steps.append
        for frame in test.frames(test.FRAMES):
            versions.append(ingest.push([frame]))
        ingest.close()
        self._life = test.Life(versions, steps, [digest_of(version) for version in versions])
        whole = self._disk()
        test._run(whole, self._life)
        self.operations: list[str] = whole.operations
        self._files = whole.files()

    def rows(self) -> Iterator[Row]:
        yield self._cut("power cut before an operation", lambda operation: True, torn=False)
        yield self._cut(
            "power cut in the middle of a write", lambda operation: operation == "write", torn=True
        )
        yield self._flip_bits("a bit of the snapshot flips", FILE, SNAPSHOT_STEP)
        journals = sorted(name for name in self._files if name.startswith(PREFIX))
        row = Row("a bit of a journal flips")
        for name in journals:
            part = self._flip_bits("", name, JOURNAL_STEP)
            row.lost += part.lost
            row.seconds += part.seconds
            row.wrong += part.wrong
        yield row

    def _cut(self, fault: str, is_cut: Callable[[str], bool], *, torn: bool) -> Row:
        row, rng = Row(fault), random.Random(0)
        for n, operation in enumerate(self.operations, start=1):
            if not is_cut(operation):
                continue
            disk = self._disk()
            disk.cut_at, disk.torn = n, torn
            saved = self._test._run(disk, self._life)
            for survives in self._test.SURVIVES:
                self._load(row, disk.after_cut(survives, rng), saved + 1)  # the frame being saved counts
        return row

    def _flip_bits(self, fault: str, name: str, step: int) -> Row:
        row = Row(fault)
        for at in range(0, len(self._files[name]), step):
            damaged = bytearray(self._files[name])
            damaged[at] ^= 1 << at % 8
            self._load(row, self._disk({**self._files, name: bytes(damaged)}), self._test.FRAMES)
        return row

    def _load(self, row: Row, disk: Any, frames: int) -> None:
        start = time.perf_counter()
        snapshot = self._test._loaded(disk)
        row.seconds.append(time.perf_counter() - start)
        loaded = snapshot.version.frames if snapshot else 0
        row.lost.append(frames - min(loaded, frames))
        row.wrong += snapshot is not None and digest_of(snapshot.version) != self._life.digests[loaded]


def main() -> int:
    logging.disable(logging.WARNING)  # each damaged file is logged, thousands of times
    cuts = Cuts()
    rows = [row.as_json() for row in cuts.rows()]
    show(
        f"{len(cuts.operations)} operations of 30 frames",
        list(rows[0]),
        [list(row.values()) for row in rows],
    )
    # A damaged record ends its journal: the frames after it are lost, and the log says so.
    ok = not any(row["wrong"] for row in rows) and all(row["lost_most"] <= 1 for row in rows[:3])
    finish({"operations": len(cuts.operations), "faults": rows, "ok": ok})
    return 0 if ok else 3


if __name__ == "__main__":
    sys.exit(main())
