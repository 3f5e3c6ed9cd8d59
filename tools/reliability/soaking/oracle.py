"""Sample a soak in a thread of its own, and object to exceeded bounds, wrong answers and waiting cameras."""

from __future__ import annotations

import http.client
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil

from tools.reliability.memory_growth import fit_growth
from tools.reliability.soaking.process import EdgeProcess, Questions
from tools.reliability.soaking.record import Row, SoakRecord
from tools.reliability.soaking.schedule import SoakBounds

EVERY_S = 1.0
WARM_S = 240.0
"""Seconds of each life that are not evaluated. Without any fault memory grew by 23 MB from the 30th to the
100th second and by 0.4 MB in the next 100. Under faults the buffers reach their size later: in the first soak
on a quiet machine it rose by 5 MB from the 120th to the 240th second of a life, and by 0.1 MB in the 110 s
after."""
WARM_FRAMES = 16_000
"""Frames of the demo in each life that are not evaluated either: its world caches the schedule of its last
512 events, one in 30 s (`tools/reliability/memory_growth.py` waits for the same). Without this rule, lives of
850 s at 20 times real speed rose by 2.6 and 1.8 MB after their 240 s, 1.3 hours of the demo's stream."""
LONG_S = 900.0
"""A soak that lasts longer must have a life whose memory can be evaluated."""
MB = 1e6
GROWTH_FIGURES = {
    "resident": ("resident memory", "MB", 1e6),
    "heap": ("what malloc gave out", "MB", 1e6),
    "blocks": ("the number of Python's blocks", "thousand", 1e3),
}
"""Name, unit and size of each; `lives` has [mean, growth over the life, its standard error] of each."""


class Oracle:
    """Samples until the end of the `with` block."""

    def __init__(
        self,
        edge: EdgeProcess,
        questions: Questions,
        record: SoakRecord,
        bounds: SoakBounds,
        now: Callable[[], float],
        faults_injected: Callable[[], bool],
        slowdown: Callable[[float], float],
    ) -> None:
        """Take functions for what the oracle cannot know itself.

        `now` returns the seconds of soak, `faults_injected` whether the engines fail on purpose, and
        `slowdown(since)` how many times slower than idle the machine was from then on (monotonic s).
        """
        self._edge, self._questions, self._record = edge, questions, record
        self._bounds, self._now, self._expects_errors = bounds, now, faults_injected
        self._slowdown, self._last_sample_at = slowdown, time.monotonic()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="oracle", daemon=True)
        self._waits: dict[str, tuple[int, float]] = {}
        self._noted: set[tuple[int, str]] = set()

    def __enter__(self) -> Oracle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise the error that ended the oracle early, if any: a soak without samples shows nothing."""
        if self._failure is not None:
            raise self._failure

    def note_objection(self, what: str, about: str | None = None) -> None:
        """Record an objection, once for each topic in a life of the process."""
        key = (self._edge.lives, about or what)
        if key not in self._noted:
            self._noted.add(key)
            self._record.append("objections", {"t": self._now(), "what": what})

    def _run(self) -> None:
        try:
            self._run_samples()
        except Exception as error:
            self._failure = error

    def _run_samples(self) -> None:
        while not self._stop.wait(EVERY_S):
            life, engines_fail = self._edge.lives, self._expects_errors()
            if self._edge.stopping:
                self._waits.clear()
                continue
            try:
                self._sample(life, engines_fail)
            except (OSError, http.client.HTTPException, psutil.NoSuchProcess) as error:
                # If the process has ended meanwhile, the main thread decides whether it was meant to.
                if self._is_same_life(life) and self._edge.running:
                    reason = error or type(error).__name__
                    self.note_objection(f"its status could not be read: {reason}", "status")

    def _is_same_life(self, life: int) -> bool:
        return self._edge.lives == life and not self._edge.stopping

    def _sample(self, life: int, engines_fail: bool) -> None:
        slowdown, self._last_sample_at = self._slowdown(self._last_sample_at), time.monotonic()
        asked = self._questions.ask_next(self._edge, engines_fail or self._expects_errors())
        measured = self._edge.measure()
        cameras = self._edge.cameras()
        if not self._is_same_life(life):
            return
        row: Row = {"t": round(self._now(), 2), "life": life, **measured, "load": os.getloadavg()[0]}
        row["slowdown"] = round(slowdown, 3)
        row["cameras"] = {name: _summarise_camera(camera) for name, camera in cameras.items()}
        row["ask"] = {"kind": asked.kind, "camera": asked.camera, "ms": round(asked.seconds * 1e3, 2)}
        self._record.append("samples", row)
        if asked.problem is not None and not engines_fail and not self._expects_errors():
            self.note_objection(f"{asked.kind} of {asked.camera}: {asked.problem}")
        limits = {
            "resident": self._bounds.resident_mb * MB, "state": self._bounds.state_mb * MB,
            "log": self._bounds.log_mb * MB, "threads": self._bounds.threads,
            "descriptors": self._bounds.descriptors,
        }  # fmt: skip
        for what, allowed in limits.items():
            if measured[what] > allowed:
                self.note_objection(f"{what} is {measured[what]:,}, allowed are {allowed:,.0f}", what)
        self._check_wait("steady", cameras["steady"]["frames"])
        for name, camera in cameras.items():
            if camera["error"] is not None:
                self.note_objection(f"{name} failed: {camera['error']}")

    def _check_wait(self, name: str, frames: int) -> None:
        """Object if the number of frames stays the same for too long.

        The wait counts from the first to the last sample with that number, so that a late sample is no wait.
        """
        now = time.monotonic()
        if self._expects_errors() or name not in self._waits or self._waits[name][0] != frames:
            self._waits[name] = frames, now
        else:
            since = self._waits[name][1]
            slowdown = self._slowdown(since)
            if now - since > self._bounds.quiet_s * slowdown:
                self.note_objection(
                    f"{name}, which has no fault, got no frame for {now - since:.1f} s; allowed are "
                    f"{self._bounds.quiet_s:g} s times {slowdown:.2f}, the machine's slowdown"
                )
                self._waits[name] = frames, now


def _summarise_camera(camera: dict[str, Any]) -> dict[str, Any]:
    source = camera["source_status"]
    return {
        "frames": camera["frames"], "dropped": camera["dropped"], "condition": camera["condition"],
        "state": None if source is None else source["state"], "state_bytes": camera["state_bytes"],
    }  # fmt: skip


def evaluate_samples(
    samples: Sequence[Row], bounds: SoakBounds, events: Sequence[Row] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return the growth of each life and the latency of answers early and late, with objections.

    A life is evaluated from where each of its faults has happened once (the first full disk or slow link
    takes a buffer that stays, the second must not take another) and the demo's world has its size. It is
    evaluated up to an engine fault: engines loaded again lie elsewhere in memory (onnxruntime's: 14 MB more,
    and no more after ten times).
    """
    lives = []
    objections: list[str] = []
    for life in sorted({row["life"] for row in samples}):
        rows = [row for row in samples if row["life"] == life]
        begin = rows[0]["t"]
        since = max(
            begin + WARM_S, _find_last_first_fault(events, begin, rows[-1]["t"]), _find_warm_time(rows)
        )
        faults = [event["began"] for event in events if event["fault"] == "engine-fault"]
        until = min((began for began in faults if began >= rows[0]["t"]), default=math.inf)
        warm = [row for row in rows if since <= row["t"] < until]
        if len(warm) < 60:
            continue  # too short to evaluate
        summary: dict[str, Any] = {"life": life}
        for name, (what, unit, size) in GROWTH_FIGURES.items():
            growth = fit_growth([row["t"] for row in warm], [row[name] * 1e6 / size for row in warm])
            summary["seconds"] = round(growth.span)
            figures = growth.resident_mb, growth.grown_mb, growth.error_mb
            summary[name] = [round(figure, 2) for figure in figures]
            if growth.grows:
                objections.append(f"{what} grew by {growth.grown_mb:.1f} {unit} in {growth.span:.0f} s")
        lives.append(summary)
    if not lives and samples and samples[-1]["t"] - samples[0]["t"] > LONG_S:
        objections.append(
            "no life was long enough to evaluate its memory: give it more hours or a quieter machine"
        )
    asked, late = _evaluate_answers(samples, bounds)
    return {"lives": lives, "answers": asked}, objections + late


def _find_warm_time(rows: Sequence[Row]) -> float:
    """Return when this life's demo had WARM_FRAMES frames; infinity if it never had."""
    begin = rows[0]["cameras"]["demo"]["frames"]
    seen = (row["t"] for row in rows if row["cameras"]["demo"]["frames"] - begin >= WARM_FRAMES)
    return next(seen, math.inf)


def _find_last_first_fault(events: Sequence[Row], begin: float, end: float) -> float:
    """Return when each kind of fault of this life had ended once; `begin` if there was none."""
    first: dict[str, float] = {}
    for row in events:
        if begin < row["began"] and row["t"] < end and row["fault"] != "engine-fault":
            first.setdefault(row["fault"], row["t"])
    return max(first.values(), default=begin)


def _evaluate_answers(samples: Sequence[Row], bounds: SoakBounds) -> tuple[dict[str, Any], list[str]]:
    """Return how long answers took early and late, as measured and as on an idle machine, with objections.

    For the latter each is divided by the slowdown of its second. Where other programs came and went, only
    that shows whether the process itself became slower.
    """
    third = len(samples) // 3
    parts = {"first": samples[:third], "last": samples[-third:]} if third else {}
    asked: dict[str, Any] = {}
    for name, rows in parts.items():
        took = np.array([row["ask"]["ms"] for row in rows])
        slowdown = np.array([row.get("slowdown", 1.0) for row in rows])
        asked[name] = {"asked": len(rows), "slowdown": round(float(slowdown.mean()), 2)}
        for p in (50, 99):
            asked[name][f"p{p}_ms"] = round(float(np.percentile(took, p)), 1)
            asked[name][f"p{p}_idle_ms"] = round(float(np.percentile(took / slowdown, p)), 1)
    objections: list[str] = []
    if parts:
        if asked["last"]["p99_idle_ms"] > bounds.answer_s * 1e3:
            objections.append(f"answers took {asked['last']['p99_idle_ms']:.0f} ms at p99 in the last third")
        for p, max_ratio in ((50, bounds.answer_p50_grows), (99, bounds.answer_p99_grows)):
            early, late = asked["first"][f"p{p}_idle_ms"], asked["last"][f"p{p}_idle_ms"]
            if late > max_ratio * early:
                objections.append(
                    f"answers' p{p} went from {early:.1f} to {late:.1f} ms, the machine's slowdown taken out"
                )
    return asked, objections
