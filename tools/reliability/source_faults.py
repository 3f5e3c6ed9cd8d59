"""What is lost when a camera fails: every fault, injected again and again into a live source.

For each fault a camera of its own on loopback (`tools/fakes/faulty_cameras.py`), all at once in one process,
read with the settings that ship. Frames count as lost if they are missing at a time when the camera was
there: the outage itself is nobody's fault, finding the camera again late is ours. A recovery has to come
within 2 s (12 s where the driver hangs, which the watchdog waits for), times the machine's slowdown meanwhile
(`tools/reliability/machine_load.py`). Exit status 3 where one did not. The last line is one JSON object.

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
from tools.fakes.faulty_cameras import FAULTS, FaultyCamera, faulty
from tools.fakes.source_watcher import Seen, Watch
from tools.reliability.machine_load import Control

SAMPLE_FPS = 5.0
GIVE_UP_S = 20.0
TARGET_S = 2.0
HANGING_S = 12.0
"""Of a driver that hangs: it is left after 10 s without a picture."""


@dataclass
class Record:
    """What one fault did. Seconds."""

    fault: str
    outages: list[tuple[float, float]] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    bound_s: float = TARGET_S
    late: list[str] = field(default_factory=list)
    """Recoveries beyond the bound, in words."""
    slowdown: float = 1.0
    """The most that the machine was slowed down by during a recovery."""
    not_recovered: int = 0
    lost: int = 0
    reconnects: int = 0
    drops: dict[str, int] = field(default_factory=dict)

    def recovered(self, took_s: float, slowdown: float) -> None:
        """Note a recovery, and whether an idle machine's bound times the slowdown was kept."""
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


def lost_frames(seen: Sequence[Seen], outages: Sequence[tuple[float, float]], fps: float) -> int:
    """Sampled frames that are missing although the camera was there: not in `outages` (monotonic s)."""
    lost = 0
    for before, after in zip(seen, seen[1:], strict=False):
        missing = round((after.t - before.t) * fps) - 1
        if missing <= 0:
            continue
        # What waited in the network comes in a burst at the end of an outage: that is still the outage's gap.
        around = [o for o in outages if before.at - 1 / fps <= o[1] and o[0] <= after.at]
        if around:
            idle = max(0.0, around[0][0] - before.at), max(0.0, after.at - around[-1][1])
            lost += sum(int(seconds * fps) for seconds in idle)
        else:
            lost += missing
    return lost


def inject(
    kind: type[FaultyCamera], times: int, seed: int, stop: threading.Event, control: Control
) -> Record:
    """`times` faults of this kind, a second or two of peace between them."""
    rng = random.Random(f"{kind.__name__} {seed}")
    record = Record(inspect.getdoc(kind) or kind.__name__)
    record.bound_s = HANGING_S if kind is FAULTS[-1] else TARGET_S
    with faulty(kind) as camera, Watch(camera.source(SAMPLE_FPS)) as watch:
        watch.wait_frames(5, GIVE_UP_S)
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
            # Whatever was under way at a fault without a duration still arrives.
            after = returned + (0.0 if camera.lasts[1] else 1.5 / SAMPLE_FPS)
            try:
                watch.wait(lambda after=after: watch.first_after(after), GIVE_UP_S)
            except TimeoutError:
                record.not_recovered += 1
                continue
            first = watch.first_after(after)
            assert first is not None
            gap = _gap_around(watch.seen, returned)
            took = first.at - returned if camera.lasts[1] else gap
            record.recovered(took, control.since(returned, first.at))
        status = watch.source.status
        record.reconnects, record.drops = status.reconnects, dict(status.drops)
    record.lost = lost_frames(watch.seen, record.outages, SAMPLE_FPS)
    return record


def _gap_around(seen: Sequence[Seen], at: float) -> float:
    """Longest wait for a frame after `at` (monotonic s)."""
    after = [each.at for each in seen if each.at > at]
    waits = [late - max(early, at) for early, late in zip([at, *after], after, strict=False)]
    return max(waits, default=0.0)


def markdown(records: Sequence[Record]) -> str:
    rows = [
        "| fault | injected | frames lost beyond the outage | to recover, median | worst |",
        "|---|---|---|---|---|",
    ]
    for record in records:
        shown = record.as_json()
        seconds = ["–" if shown[key] is None else f"{shown[key]:.2f} s" for key in ("median_s", "worst_s")]
        rows.append(f"| {record.fault} | {shown['injected']} | {record.lost} | {' | '.join(seconds)} |")
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
    with Control() as control, ThreadPoolExecutor(len(kinds)) as pool:
        runs = [pool.submit(inject, kind, chosen.times, chosen.seed, stop, control) for kind in kinds]
        try:
            records = [run.result() for run in runs]
        except BaseException:
            stop.set()
            raise
    print(markdown(records))
    patient = [record for record in records if record.bound_s == TARGET_S]
    worst = max((max(record.recoveries, default=0.0) for record in patient), default=0.0)
    ok = all(record.ok for record in records)
    for record in records:
        for what in [*record.late, *(["never"] * record.not_recovered)]:
            print(f"not recovered in time: {record.fault}: {what}", file=sys.stderr)
    finish({"faults": [record.as_json() for record in records], "worst_s": worst, "ok": ok})
    return 0 if ok else 3


if __name__ == "__main__":
    sys.exit(main())
