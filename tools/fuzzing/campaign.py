"""Supervise a target: run workers one after another until the cases are done, even if a worker dies.

A folder holds the corpus, the findings and the totals, so that a run can be stopped at any time and
continued.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import psutil

from tools.fuzzing.case_check import MEMORY_BYTES, ROOT, WALL_S
from tools.fuzzing.progress import Progress

CHUNK = 100_000
"""Cases of one worker: it limits the age of a process and how much is not yet in the totals on disk."""
POLL_S = 0.05
START_S = 1800.0
"""A worker runs a large corpus first: at a load of 15 that took more than five minutes."""
TOTAL_FIELDS = {"crash": "crashes", "hang": "hangs", "memory": "memory"}
MAX_DEATHS = 50
"""A target where this many cases kill the process is broken; the run ends."""


@dataclass
class Totals:
    """The totals of all runs in one folder."""

    target: str
    cases: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    exceptions: int = 0
    crashes: int = 0
    hangs: int = 0
    memory: int = 0
    corpus: int = 0
    slowest_s: float = 0.0
    peak_mb: float = 0.0

    @property
    def clean(self) -> bool:
        return not (self.exceptions or self.crashes or self.hangs or self.memory)


class Campaign:
    """Runs one target in `folder`, and calls `report` with the totals now and then."""

    def __init__(self, target: str, folder: Path, seed: int, report: Callable[[Totals], None]) -> None:
        self._folder, self._seed, self._report = folder, seed, report
        for name in ("corpus", "findings"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._file = folder / "totals.json"
        self.totals = Totals(target)
        if self._file.exists():
            self.totals = Totals(**json.loads(self._file.read_text()))

    def run(self, cases: int, seconds: float = float("inf")) -> Totals:
        """Run `cases` more cases, or as many as `seconds` allow."""
        began, done, deaths = time.monotonic(), 0, 0
        while done < cases and time.monotonic() - began < seconds and deaths < MAX_DEATHS:
            left = began + seconds - time.monotonic()
            ran, died = self._worker(min(CHUNK, cases - done), left)
            done, deaths = done + ran, deaths + died
            self._save()
        return self.totals

    def _worker(self, cases: int, seconds: float) -> tuple[int, int]:
        """Run one process; return how many cases it ran, and whether one of them ended it."""
        folder, totals = self._folder, self.totals
        (folder / "progress").unlink(missing_ok=True)
        progress = Progress(folder / "progress", read_max_bytes(totals.target))
        seed = (self._seed * 1_000_003 + totals.cases + totals.crashes + totals.hangs) % (2**31 - 1)
        command = [sys.executable, "-m", "tools.fuzzing.worker", totals.target]
        command += [str(folder), str(cases), str(seed)]
        began, cpu, ending = time.monotonic(), _read_workers_cpu_s(), None
        with (folder / "log").open("wb") as log:
            environment = os.environ | {
                "PYTHONPATH": str(ROOT),
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            }
            worker = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                while worker.poll() is None:
                    time.sleep(POLL_S)
                    progress.read()
                    ending = self._find_end_reason(worker, progress, began, seconds)
                    if ending is not None:
                        break
            finally:
                worker.kill()
                status = worker.wait()
        progress.read()
        totals.cases += progress.cases
        totals.seconds += time.monotonic() - began
        totals.cpu_s += _read_workers_cpu_s() - cpu
        totals.exceptions += progress.findings
        totals.slowest_s = max(totals.slowest_s, progress.slowest / 1e9)
        if not progress.ready_at:
            raise RuntimeError(
                f"the worker did not start: {(folder / 'log').read_text(errors='replace')[-2000:]}"
            )
        if ending is None and status == 0 or ending == "time":
            return max(progress.cases, 1), 0
        kind = ending or "crash"
        setattr(totals, TOTAL_FIELDS[kind], getattr(totals, TOTAL_FIELDS[kind]) + 1)
        self._save_finding(kind, status, progress.case())
        return progress.cases + 1, 1

    def _find_end_reason(
        self, worker: subprocess.Popen[bytes], progress: Progress, began: float, seconds: float
    ) -> str | None:
        """Return why this worker has to end now; None while it may go on."""
        now = time.monotonic()
        try:
            resident = psutil.Process(worker.pid).memory_info().rss
        except psutil.Error:
            resident = 0
        self.totals.peak_mb = max(self.totals.peak_mb, resident / 2**20)
        if progress.too_much or resident > MEMORY_BYTES:
            return "memory"
        if progress.began and now - progress.began / 1e9 > WALL_S:
            return "hang"
        if not progress.ready_at and now - began > START_S:
            raise RuntimeError(f"the worker of {self.totals.target} did not start within {START_S:g} s")
        return "time" if now - began > seconds else None

    def _save_finding(self, kind: str, status: int, case: bytes) -> None:
        name = signal.Signals(-status).name if status < 0 and kind == "crash" else kind
        stem = self._folder / "findings" / f"{kind}-{sha256(case).hexdigest()[:12]}"
        stem.with_suffix(".bin").write_bytes(case)
        log = (self._folder / "log").read_text(errors="replace")[-4000:]
        stem.with_suffix(".txt").write_text(f"{name} (exit status {status})\n\n{log}")

    def _save(self) -> None:
        self.totals.corpus = sum(1 for _ in (self._folder / "corpus").iterdir())
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self.totals)))
        os.replace(fresh, self._file)
        self._report(self.totals)


def _read_workers_cpu_s() -> float:
    """Return the processor seconds of all ended workers: the cost of the cases on a busy machine too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_max_bytes(name: str) -> int:
    """Return the largest number of bytes of a case of this target."""
    return int(importlib.import_module(f"tools.fuzzing.targets.{name}").Target.max_bytes)
