"""Hours of the real `lvm-edge run` under a schedule of faults, with an oracle that watches throughout.

    python -m tools.reliability.soak --hours 10 --speed 40 --faults tools/reliability/soak.yaml --folder
    /tmp/soak

Four cameras: a demo of which --hours of stream are watched at --speed (so 15 minutes for 10 hours at 40), an
RTSP and an HTTP camera on loopback that get the faults, and an RTSP camera that gets none and must not
notice. Sampled once a second: resident memory, threads, descriptors, bytes of state and log, frames of each
camera, how much slower than an idle one the machine is (tools/reliability/machine_load.py), and one of nine
fixed questions over HTTP. After each fault the oracle looks at what came back and when, after each kill at
what is on disk. At the end the demo's states on disk are compared with an uninterrupted run's, bit for bit,
as far as --compare frames.

All is noted in the folder; killed or stopped and started again with the same folder, a soak goes on.
report.html there has the plots. The last line is one JSON object. Exit status 3 where the oracle objects.

The engine fault is a replaced call inside the real process (tools/reliability/soaking/edge.py), the full disk
a limit on its files' size; both are as the process sees the real thing. No power is cut: see
tests/persistence/test_power_cut.py.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from edge_runtime.config.paths import default_bundle
from edge_runtime.service.engine_pool import Engines
from edge_runtime.sources import canonicalise
from engines.bundle import Bundle
from engines.errors import LvmError
from tools.console import finish, run_tool, show
from tools.reliability.kill import Uninterrupted
from tools.reliability.machine_load import Control
from tools.reliability.soaking.cameras import Cameras
from tools.reliability.soaking.faults import Faults, Outcome
from tools.reliability.soaking.oracle import Oracle, in_the_end
from tools.reliability.soaking.process import Edge
from tools.reliability.soaking.questions import Questions
from tools.reliability.soaking.record import Record
from tools.reliability.soaking.report import write_report
from tools.reliability.soaking.schedule import Planned, Schedule, load_schedule

SLICE_S = 0.1
END_S = 3.0
"""With less than this left a soak is finished: the last samples are older than its end."""


class _Stopped(Exception):
    """Somebody wants it to end early."""


class Soak:
    """One soak in one folder; `run` goes on where the last one was."""

    def __init__(self, folder: Path, schedule: Schedule, hours: float, speed: float) -> None:
        self.schedule, self.seconds = schedule, hours * 3600 / speed
        self.record = Record(folder)
        self._before, self._began = self.record.until, time.monotonic()
        ports = folder / "ports.json"
        known = json.loads(ports.read_text()) if ports.exists() else (0, 0, 0)
        self._cameras = Cameras(speed, known)
        ports.write_text(json.dumps(self._cameras.ports))
        self.sources = self._cameras.sources
        self._edge = Edge(folder, self.sources)
        self._edge.lives = max((row["life"] for row in self.record.rows("samples")), default=0)
        self._control = Control()
        self._faults = Faults(self._edge, self._cameras, schedule.bounds, self._wait, self._control)
        self._questions = Questions(["demo", "rtsp", "steady"], self.sources["demo"])
        self._oracle = Oracle(
            self._edge, self._questions, self.record, schedule.bounds, self.now,
            lambda: self._faults.engines_fail, self._control.since,
        )  # fmt: skip
        self._told_to_stop = False

    def now(self) -> float:
        """Seconds of soak so far, those of earlier runs included."""
        return self._before + time.monotonic() - self._began

    @property
    def finished(self) -> bool:
        return self.record.until >= self.seconds - END_S

    def stop(self, *_: object) -> None:
        """End soon, and go on another time."""
        self._told_to_stop = True

    def run(self) -> None:
        """Until its time is over; one that was finished before stays as it is."""
        if self.finished:
            self._cameras.__exit__(None, None, None)
            return
        with self._cameras, self._control:
            try:
                self._edge.start()
                self._began = time.monotonic()  # a busy machine may take long to start it
                with self._oracle:
                    self._inject_all()
            except _Stopped:
                pass
            finally:
                if self._edge.running:
                    self._edge.end(signal.SIGTERM)

    def _inject_all(self) -> None:
        self._until(min(self.now() + self.schedule.warm_s, self.seconds))
        done = len(self.record.rows("events"))
        reserve = sum(one.lasts_s + 2 * self.schedule.peace_s for one in self.schedule.last)
        for planned in islice(cycle(self.schedule.cycle), done, None):
            if self.now() + planned.lasts_s > self.seconds - reserve:
                break
            self._inject(planned)
        self._until(self.seconds - reserve)
        for planned in self.schedule.last:
            self._inject(planned)
        self._until(self.seconds)

    def _inject(self, planned: Planned) -> None:
        began = self.now()
        try:
            outcome = self._faults.inject(planned)
        except (OSError, RuntimeError) as error:
            outcome = Outcome(planned.fault, objections=[f"it came to nothing: {error}"])
        row = {"t": round(self.now(), 2), "began": round(began, 2), **asdict(outcome)}
        self.record.note("events", row)
        for what in outcome.objections:
            self._oracle.object(f"{planned.fault}: {what}")
        print(f"{self.now():7.0f} s  {planned.fault}  {_took(outcome)}", file=sys.stderr, flush=True)
        self._until(self.now() + self.schedule.peace_s)

    def _until(self, t: float) -> None:
        while self.now() < t:
            self._wait(min(SLICE_S, max(t - self.now(), 0.0)))

    def _wait(self, seconds: float) -> None:
        """Let time pass; nobody ended the process unless it was meant."""
        until = time.monotonic() + seconds
        while True:
            if self._told_to_stop:
                raise _Stopped
            self._oracle.check()
            if not self._edge.running:
                last = " ".join(list(self._edge.said)[-5:])
                self._oracle.object(f"it ended and nobody had wanted it: {last}")
                self._edge.start()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, SLICE_S))


def _took(outcome: Outcome) -> str:
    took = "" if outcome.recover_s is None else f"{outcome.recover_s:.2f} s"
    return f"{took}  {'; '.join(outcome.objections) or outcome.detail}"


def compared(record: Record, source: str, most: int) -> dict[str, Any]:
    """States of the demo on disk at kills and restarts, against those of a run that nobody disturbed."""
    known = {int(n): digest for row in _before_engine_faults(record) for n, digest in row["digests"].items()}
    wanted = sorted(n for n in known if n <= most)
    if not wanted:
        return {"compared": 0, "wrong": []}
    engines = Engines.load(Bundle.open(default_bundle()), "onnxruntime")
    run = Uninterrupted(canonicalise(source), engines)
    try:
        wrong = [n for n in wanted if run.digest(n) != known[n]]
    finally:
        run.close()
        engines.close()
    return {"compared": len(wanted), "wrong": wrong}


def _before_engine_faults(record: Record) -> Iterator[dict[str, Any]]:
    """What the engines failed at is a gap, and equality ends there."""
    for row in record.rows("events"):
        if row["fault"] == "engine-fault":
            return
        yield row


def judged(soak: Soak, folder: Path, most: int) -> dict[str, Any]:
    """Everything that was seen, and what the oracle says to it."""
    record = soak.record
    samples, events = record.rows("samples"), record.rows("events")
    whole, late = in_the_end(samples, soak.schedule.bounds, events)
    states = compared(record, soak.sources["demo"], most)
    objections = [f"{row['t']:.0f} s: {row['what']}" for row in record.rows("objections")] + late
    if states["wrong"]:
        objections.append(f"states differ from an uninterrupted run's after {states['wrong']} frames")
    if not samples:
        objections.append("nothing was seen of it")
    last = samples[-1]["cameras"] if samples else {}
    result = {
        "seconds": round(record.until),
        "stream_hours": round(last.get("demo", {}).get("frames", 0) / 3600, 2),
        "frames": {name: one["frames"] for name, one in last.items()},
        "faults": len(events),
        "lives_lived": len({row["life"] for row in samples}),
        "most": {
            what: max((row.get(what, 1.0) for row in samples), default=0)
            for what in ("resident", "threads", "descriptors", "state", "log", "load", "slowdown")
        },
        **whole,
        "states": states,
        "objections": objections,
        "ok": not objections,
        "finished": soak.finished,
    }
    write_report(folder / "report.html", samples, events, record.rows("objections"), result)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=10.0, help="of the demo's stream")
    parser.add_argument("--speed", type=float, default=40.0, help="of the demo, times the clock's")
    parser.add_argument("--faults", type=Path, default=Path(__file__).with_name("soak.yaml"))
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="where all is noted")
    parser.add_argument("--compare", type=int, help="frames of the uninterrupted run, by default all")
    given = parser.parse_args()
    if not given.hours > 0 or not given.speed > 0:
        parser.error("--hours and --speed must be above 0")
    try:
        schedule = load_schedule(given.faults)
    except LvmError as error:
        parser.error(str(error))
    given.folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(given.folder.resolve(), schedule, given.hours, given.speed)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, soak.stop)
    soak.run()
    frames = round(given.hours * 3600) if given.compare is None else given.compare
    result = judged(soak, given.folder, frames)
    rows = [[key, json.dumps(value)] for key, value in result.items() if key != "objections"]
    show(f"soak in {given.folder}", ("what", "is"), rows)
    for what in result["objections"]:
        print(f"objection: {what}")
    finish(result)
    return 0 if result["ok"] else 3


if __name__ == "__main__":
    run_tool(main)
