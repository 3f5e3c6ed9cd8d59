"""Measure what is lost when a camera fails: every fault, injected again and again into a supervised source.

Each fault has a camera of its own on loopback (`tools/fakes/faulty_cameras.py`). All run at once in one
process and are read with the default settings. A frame counts as lost if it is missing at a time when the
camera was there: the outage itself does not count, a late reconnect does. A recovery has to come within 2 s
(12 s where the driver hangs, which the watchdog waits for), times the machine's slowdown meanwhile
(`tools/reliability/machine_load.py`). Exit status 3 where one is late. The last line is one JSON object.

    python tools/reliability/source_faults.py --times 10
"""

from __future__ import annotations

import argparse
import inspect
import logging
import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tools.console import finish
from tools.fakes.faulty_cameras import FAULTS, FaultyCamera, open_camera
from tools.fakes.source_watcher import ReceivedFrame, SourceReader
from tools.reliability.machine_load import LoadControl

SAMPLE_FPS = 5.0
TIMEOUT_S = 20.0
TARGET_S = 2.0
HANGING_TARGET_S = 12.0
"""For a driver that hangs: the source gives it up after 10 s without a picture."""


@dataclass
class FaultRecord:
    """What one kind of fault cost; times are in seconds."""

    fault: str
    outages: list[tuple[float, float]] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    bound_s: float = TARGET_S
    late: list[str] = field(default_factory=list)
    """A message for each recovery beyond the bound."""
    slowdown: float = 1.0
    """The machine's largest slowdown during a recovery."""
    not_recovered: int = 0
    lost: int = 0
    reconnects: int = 0
    drops: dict[str, int] = field(default_factory=dict)

    def add_recovery(self, took_s: float, slowdown: float) -> None:
        """Add a recovery, and note it as late if it took longer than the bound times the slowdown."""
        self.recoveries.append(took_s)
        self.slowdown = max(self.slowdown, slowdown)
        if took_s > self.bound_s * slowdown:
            self.late.append(f"{took_s:.2f} s, allowed were {self.bound_s:g} s times {slowdown:.2f}")

    @property
    def ok(self) -> bool:
        return not self.not_recovered and not self.late

    def as_json(self) -> dict[str, Any]:
        return {
            "fault": self.fault,
            "injected": len(self.outages),
            "not_recovered": self.not_recovered,
            "late": self.late,
            "slowdown": round(self.slowdown, 2),
            "lost": self.lost,
            "median_s": statistics.median(self.recoveries) if self.recoveries else None,
            "worst_s": max(self.recoveries, default=None),
            "reconnects": self.reconnects,
            "drops": self.drops,
        }


def count_lost_frames(
    frames: Sequence[ReceivedFrame], outages: Sequence[tuple[float, float]], fps: float
) -> int:
    """Count the sampled frames that are missing outside of `outages` (monotonic s)."""
    lost = 0
    for before, after in zip(frames, frames[1:], strict=False):
        missing = round((after.t - before.t) * fps) - 1
        if missing <= 0:
            continue
        # Frames that waited in the network come in a burst at the end of an outage: part of its gap.
        overlapping = [o for o in outages if before.at - 1 / fps <= o[1] and o[0] <= after.at]
        if overlapping:
            outside = max(0.0, overlapping[0][0] - before.at), max(0.0, after.at - overlapping[-1][1])
            lost += sum(int(seconds * fps) for seconds in outside)
        else:
            lost += missing
    return lost


def inject_faults(
    kind: type[FaultyCamera], times: int, seed: int, stop: threading.Event, control: LoadControl
) -> FaultRecord:
    """Inject `times` faults of this kind, with a pause of one or two seconds before each."""
    rng = random.Random(f"{kind.__name__} {seed}")
    record = FaultRecord(inspect.getdoc(kind) or kind.__name__)
    record.bound_s = HANGING_TARGET_S if kind is FAULTS[-1] else TARGET_S
    with open_camera(kind) as camera, SourceReader(camera.source(SAMPLE_FPS)) as reader:
        reader.wait_frames(5, TIMEOUT_S)
        for _ in range(times):
            if stop.wait(rng.uniform(1.0, 2.0)):
                break
            began = time.monotonic()
            camera.inject()
            if camera.lasts[1]:
                stop.wait(rng.uniform(*camera.lasts))
                camera.restore()
            returned = time.monotonic()
            record.outages.append((began, returned))
            # Frames that were under way at a fault without a duration still arrive.
            after = returned + (0.0 if camera.lasts[1] else 1.5 / SAMPLE_FPS)
            try:
                first = reader.wait_frame_after(after, TIMEOUT_S)
            except TimeoutError:
                record.not_recovered += 1
                continue
            took = first.at - returned if camera.lasts[1] else _longest_gap(reader.seen, returned)
            record.add_recovery(took, control.slowdown(returned, first.at))
        status = reader.source.status  # type: ignore[attr-defined]
        record.reconnects, record.drops = status.reconnects, dict(status.drops)
    record.lost = count_lost_frames(reader.seen, record.outages, SAMPLE_FPS)
    return record


def _longest_gap(frames: Sequence[ReceivedFrame], at: float) -> float:
    """Return the longest wait for a frame after `at` (monotonic s)."""
    after = [frame.at for frame in frames if frame.at > at]
    waits = [late - max(early, at) for early, late in zip([at, *after], after, strict=False)]
    return max(waits, default=0.0)


def render_table(records: Sequence[FaultRecord]) -> str:
    rows = [
        "| fault | injected | frames lost beyond the outage | to recover, median | worst |",
        "|---|---|---|---|---|",
    ]
    for record in records:
        row = record.as_json()
        seconds = ["–" if row[key] is None else f"{row[key]:.2f} s" for key in ("median_s", "worst_s")]
        rows.append(f"| {record.fault} | {row['injected']} | {record.lost} | {' | '.join(seconds)} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="injections of each fault")
    parser.add_argument("--only", nargs="*", choices=[kind.__name__ for kind in FAULTS])
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    kinds = [kind for kind in FAULTS if not chosen.only or kind.__name__ in chosen.only]
    stop = threading.Event()
    with LoadControl() as control, ThreadPoolExecutor(len(kinds)) as pool:
        runs = [pool.submit(inject_faults, kind, chosen.times, chosen.seed, stop, control) for kind in kinds]
        try:
            records = [run.result() for run in runs]
        except BaseException:
            stop.set()
            raise
    print(render_table(records))
    usual = [record for record in records if record.bound_s == TARGET_S]
    worst = max((max(record.recoveries, default=0.0) for record in usual), default=0.0)
    ok = all(record.ok for record in records)
    for record in records:
        for what in [*record.late, *(["never"] * record.not_recovered)]:
            print(f"not recovered in time: {record.fault}: {what}", file=sys.stderr)
    finish({"faults": [record.as_json() for record in records], "worst_s": worst, "ok": ok})
    return 0 if ok else 3


if __name__ == "__main__":
    sys.exit(main())
