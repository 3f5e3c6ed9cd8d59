"""Run the real `lvm-edge run` for hours under a schedule of faults, with an oracle that checks it throughout.

    python -m tools.reliability.soak --hours 10 --speed 40 --faults tools/reliability/soak.yaml --folder
    /tmp/soak

Four cameras: a demo of which --hours of stream are read at --speed (so 15 minutes for 10 hours at 40), an
RTSP and an HTTP camera on loopback that get the faults, and an RTSP camera that gets none and must not be
affected. Sampled once a second: resident memory, threads, descriptors, bytes of state and log, frames of each
camera, the machine's slowdown (tools/reliability/machine_load.py), and one of nine fixed questions over HTTP.
After each fault the tool checks what came back and when, after each kill what is on disk. At the end the
demo's states on disk are compared with an uninterrupted run's, bit for bit, up to --compare frames.

Everything is recorded in the folder. A soak that was killed or stopped continues when it is started with the
same folder. report.html there has the plots. The last line is one JSON object. Exit status 3 where the oracle
objects.

The engine fault is a replaced call inside the real process (tools/reliability/soaking/edge.py), the full disk
a limit on its files' size; the process meets the same errors as with the real fault. No power is cut: see
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
from tools.reliability.kill import UninterruptedRun
from tools.reliability.machine_load import LoadControl
from tools.reliability.soaking.cameras import SoakCameras
from tools.reliability.soaking.faults import FaultInjector, FaultOutcome
from tools.reliability.soaking.oracle import Oracle, evaluate_samples
from tools.reliability.soaking.process import EdgeProcess, Questions
from tools.reliability.soaking.record import SoakRecord
from tools.reliability.soaking.report import write_report
from tools.reliability.soaking.schedule import PlannedFault, Schedule, load_schedule

SLICE_S = 0.1
END_S = 3.0
"""A soak with less than this left is finished, because its last samples are older than its end."""


class _Stopped(Exception):
    """The soak is to end early."""


class Soak:
    """One soak in one folder; `run` continues where the last run stopped."""

    def __init__(self, folder: Path, schedule: Schedule, hours: float, speed: float) -> None:
        self.schedule, self.seconds = schedule, hours * 3600 / speed
        self.record = SoakRecord(folder)
        self._before, self._began = self.record.until, time.monotonic()
        ports = folder / "ports.json"
        known = json.loads(ports.read_text()) if ports.exists() else (0, 0, 0)
        self._cameras = SoakCameras(speed, known)
        ports.write_text(json.dumps(self._cameras.ports))
        self.sources = self._cameras.sources
        self._edge = EdgeProcess(folder, self.sources)
        self._edge.lives = max((row["life"] for row in self.record.rows("samples")), default=0)
        self._control = LoadControl()
        self._faults = FaultInjector(self._edge, self._cameras, schedule.bounds, self._wait, self._control)
        self._questions = Questions(["demo", "rtsp", "steady"], self.sources["demo"])
        self._oracle = Oracle(
            self._edge, self._questions, self.record, schedule.bounds, self.now,
            lambda: self._faults.engines_fail, self._control.slowdown,
        )  # fmt: skip
        self._stop_requested = False

    def now(self) -> float:
        """Return the seconds of soak so far, those of earlier runs included."""
        return self._before + time.monotonic() - self._began

    @property
    def finished(self) -> bool:
        return self.record.until >= self.seconds - END_S

    def stop(self, *_: object) -> None:
        """End soon; a later run continues."""
        self._stop_requested = True

    def run(self) -> None:
        """Run until the soak's time is over; do nothing if it was finished before."""
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
                    self._edge.stop(signal.SIGTERM)

    def _inject_all(self) -> None:
        self._wait_until(min(self.now() + self.schedule.warm_s, self.seconds))
        done = len(self.record.rows("events"))
        reserve = sum(fault.lasts_s + 2 * self.schedule.peace_s for fault in self.schedule.last)
        for planned in islice(cycle(self.schedule.cycle), done, None):
            if self.now() + planned.lasts_s > self.seconds - reserve:
                break
            self._inject(planned)
        self._wait_until(self.seconds - reserve)
        for planned in self.schedule.last:
            self._inject(planned)
        self._wait_until(self.seconds)

    def _inject(self, planned: PlannedFault) -> None:
        began = self.now()
        try:
            outcome = self._faults.inject(planned)
        except (OSError, RuntimeError) as error:
            outcome = FaultOutcome(planned.fault, objections=[f"it could not be injected: {error}"])
        row = {"t": round(self.now(), 2), "began": round(began, 2), **asdict(outcome)}
        self.record.append("events", row)
        for what in outcome.objections:
            self._oracle.note_objection(f"{planned.fault}: {what}")
        print(f"{self.now():7.0f} s  {planned.fault}  {_describe(outcome)}", file=sys.stderr, flush=True)
        self._wait_until(self.now() + self.schedule.peace_s)

    def _wait_until(self, t: float) -> None:
        while self.now() < t:
            self._wait(min(SLICE_S, max(t - self.now(), 0.0)))

    def _wait(self, seconds: float) -> None:
        """Let time pass; object and start the process again if it has ended."""
        until = time.monotonic() + seconds
        while True:
            if self._stop_requested:
                raise _Stopped
            self._oracle.check()
            if not self._edge.running:
                last = " ".join(list(self._edge.output)[-5:])
                self._oracle.note_objection(f"the process ended unexpectedly: {last}")
                self._edge.start()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, SLICE_S))


def _describe(outcome: FaultOutcome) -> str:
    took = "" if outcome.recover_s is None else f"{outcome.recover_s:.2f} s"
    return f"{took}  {'; '.join(outcome.objections) or outcome.detail}"


def compare_states(record: SoakRecord, source: str, max_frames: int) -> dict[str, Any]:
    """Compare the demo's states on disk at kills and restarts with those of an uninterrupted run."""
    known = {int(n): digest for row in _before_engine_faults(record) for n, digest in row["digests"].items()}
    frame_counts = sorted(n for n in known if n <= max_frames)
    if not frame_counts:
        return {"compared": 0, "wrong": []}
    engines = Engines.load(Bundle.open(default_bundle()), "onnxruntime")
    run = UninterruptedRun(canonicalise(source), engines)
    try:
        wrong = [n for n in frame_counts if run.digest(n) != known[n]]
    finally:
        run.close()
        engines.close()
    return {"compared": len(frame_counts), "wrong": wrong}


def _before_engine_faults(record: SoakRecord) -> Iterator[dict[str, Any]]:
    """Yield the events before the first engine fault: it leaves a gap, and equality ends there."""
    for row in record.rows("events"):
        if row["fault"] == "engine-fault":
            return
        yield row


def evaluate(soak: Soak, folder: Path, max_frames: int) -> dict[str, Any]:
    """Return all figures and objections, and write the report."""
    record = soak.record
    samples, events = record.rows("samples"), record.rows("events")
    whole, late = evaluate_samples(samples, soak.schedule.bounds, events)
    states = compare_states(record, soak.sources["demo"], max_frames)
    objections = [f"{row['t']:.0f} s: {row['what']}" for row in record.rows("objections")] + late
    if states["wrong"]:
        objections.append(f"states differ from an uninterrupted run's after {states['wrong']} frames")
    if not samples:
        objections.append("there are no samples of it")
    last = samples[-1]["cameras"] if samples else {}
    result = {
        "seconds": round(record.until),
        "stream_hours": round(last.get("demo", {}).get("frames", 0) / 3600, 2),
        "frames": {name: camera["frames"] for name, camera in last.items()},
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
    parser.add_argument("--speed", type=float, default=40.0, help="of the demo, times real time")
    parser.add_argument("--faults", type=Path, default=Path(__file__).with_name("soak.yaml"))
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="folder of the record and report")
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
    result = evaluate(soak, given.folder, frames)
    rows = [[key, json.dumps(value)] for key, value in result.items() if key != "objections"]
    show(f"soak in {given.folder}", ("what", "is"), rows)
    for what in result["objections"]:
        print(f"objection: {what}")
    finish(result)
    return 0 if result["ok"] else 3


if __name__ == "__main__":
    run_tool(main)
