"""Watches a soak from a thread of its own, and objects: bounds, answers, a camera that waits."""

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

from tools.reliability.memory_growth import growth
from tools.reliability.soaking.process import Edge
from tools.reliability.soaking.questions import Questions
from tools.reliability.soaking.record import Record, Row
from tools.reliability.soaking.schedule import Bounds

EVERY_S = 1.0
WARM_S = 240.0
"""Of each life. Without any fault memory grew by 23 MB from the 30th to the 100th second and by 0.4 MB in the
next 100. Under faults every buffer has its size later: in the first soak on a quiet machine it rose by 5 MB
from the 120th to the 240th second of a life, and by 0.1 MB in the 110 s after."""
WARM_FRAMES = 16_000
"""Of the demo in each life, too: its world remembers the schedule of its last 512 events, of which there is
one in 30 s (`tools/reliability/memory_growth.py` waits for the same). Before this was asked for, lives of 850
s at 20 times real speed rose by 2.6 and 1.8 MB after their 240 s, which are 1.3 hours of the demo's."""
LONG_S = 900.0
"""A soak that lasts longer must have had a life whose memory can be judged."""
MB = 1e6
WHAT_GROWS = {
    "resident": ("resident memory", "MB", 1e6),
    "heap": ("what malloc gave out", "MB", 1e6),
    "blocks": ("the number of Python's blocks", "thousand", 1e3),
}
"""Each judged alike. `lives` has of each [mean, growth over the life, its standard error], in its unit."""


class Oracle:
    """Samples until the end of the `with` block. `excused` says whether the engines fail on purpose."""

    def __init__(
        self,
        edge: Edge,
        questions: Questions,
        record: Record,
        bounds: Bounds,
        now: Callable[[], float],
        excused: Callable[[], bool],
        slowdown: Callable[[float], float],
    ) -> None:
        """`slowdown(since)`: how many times slower than idle the machine was from then on (monotonic s)."""
        self._edge, self._questions, self._record = edge, questions, record
        self._bounds, self._now, self._excused = bounds, now, excused
        self._slowdown, self._looked = slowdown, time.monotonic()
        self._stop = threading.Event()
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="oracle", daemon=True)
        self._waits: dict[str, tuple[int, float]] = {}
        self._said: set[tuple[int, str]] = set()

    def __enter__(self) -> Oracle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.check()

    def check(self) -> None:
        """Raises what ended the oracle before its time: a soak that nobody watched shows nothing."""
        if self._broken is not None:
            raise self._broken

    def object(self, what: str, about: str | None = None) -> None:
        """Note an objection; one about the same thing once in a life of the process."""
        key = (self._edge.lives, about or what)
        if key not in self._said:
            self._said.add(key)
            self._record.note("objections", {"t": self._now(), "what": what})

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self._broken = error

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            life, faulty = self._edge.lives, self._excused()
            if self._edge.meant_to_end:
                self._waits.clear()
                continue
            try:
                self._look(life, faulty)
            except (OSError, http.client.HTTPException, psutil.NoSuchProcess) as error:
                # It was ended meanwhile; whether that was meant, the main thread judges.
                if self._same(life) and self._edge.running:
                    self.object(f"its status could not be had: {error or type(error).__name__}", "status")

    def _same(self, life: int) -> bool:
        return self._edge.lives == life and not self._edge.meant_to_end

    def _look(self, life: int, faulty: bool) -> None:
        slowdown, self._looked = self._slowdown(self._looked), time.monotonic()
        asked = self._questions.ask(self._edge, faulty or self._excused())
        measured = self._edge.measured()
        cameras = self._edge.cameras()
        if not self._same(life):
            return
        row: Row = {"t": round(self._now(), 2), "life": life, **measured, "load": os.getloadavg()[0]}
        row["slowdown"] = round(slowdown, 3)
        row["cameras"] = {name: _brief(one) for name, one in cameras.items()}
        row["ask"] = {"kind": asked.kind, "camera": asked.camera, "ms": round(asked.seconds * 1e3, 2)}
        self._record.note("samples", row)
        if asked.wrong is not None and not faulty and not self._excused():
            self.object(f"{asked.kind} of {asked.camera}: {asked.wrong}")
        self._within(measured)
        self._waiting("steady", cameras["steady"]["frames"])
        for name, one in cameras.items():
            if one["error"] is not None:
                self.object(f"{name} failed: {one['error']}")

    def _within(self, measured: dict[str, int]) -> None:
        most = {
            "resident": self._bounds.resident_mb * MB, "state": self._bounds.state_mb * MB,
            "log": self._bounds.log_mb * MB, "threads": self._bounds.threads,
            "descriptors": self._bounds.descriptors,
        }  # fmt: skip
        for what, allowed in most.items():
            if measured[what] > allowed:
                self.object(f"{what} is {measured[what]:,}, allowed are {allowed:,.0f}", what)

    def _waiting(self, name: str, frames: int) -> None:
        """From the first to the last look at the same number of frames: a look that comes late is no wait."""
        now = time.monotonic()
        if self._excused() or name not in self._waits or self._waits[name][0] != frames:
            self._waits[name] = frames, now
        else:
            since = self._waits[name][1]
            slowdown = self._slowdown(since)
            if now - since > self._bounds.quiet_s * slowdown:
                self.object(
                    f"{name}, which has no fault, got no frame for {now - since:.1f} s; allowed are "
                    f"{self._bounds.quiet_s:g} s times {slowdown:.2f}, the machine's slowdown"
                )
                self._waits[name] = frames, now


def _brief(one: dict[str, Any]) -> dict[str, Any]:
    source = one["source_status"]
    return {
        "frames": one["frames"], "dropped": one["dropped"], "condition": one["condition"],
        "state": None if source is None else source["state"], "state_bytes": one["state_bytes"],
    }  # fmt: skip


def in_the_end(
    samples: Sequence[Row], bounds: Bounds, events: Sequence[Row] = ()
) -> tuple[dict[str, Any], list[str]]:
    """What only the whole run shows: growth of each life, and answers early and late. With objections.

    A life is judged from where each of its faults has happened once (the first full disk or slow link takes
    a buffer that stays, the second must not take another) and the demo's world has its size. It is judged up
    to an engine fault: engines loaded again lie elsewhere (onnxruntime's: 14 MB more, and no more after ten
    times).
    """
    lives = []
    objections: list[str] = []
    for life in sorted({row["life"] for row in samples}):
        rows = [row for row in samples if row["life"] == life]
        begin = rows[0]["t"]
        since = max(begin + WARM_S, _all_happened(events, begin, rows[-1]["t"]), _demo_is_warm(rows))
        faults = [one["began"] for one in events if one["fault"] == "engine-fault"]
        until = min((began for began in faults if began >= rows[0]["t"]), default=math.inf)
        warm = [row for row in rows if since <= row["t"] < until]
        if len(warm) < 60:
            continue  # too short to say anything
        told: dict[str, Any] = {"life": life}
        for name, (what, unit, size) in WHAT_GROWS.items():
            found = growth([row["t"] for row in warm], [row[name] * 1e6 / size for row in warm])
            told["seconds"] = round(found.span)
            told[name] = [round(one, 2) for one in (found.resident_mb, found.grown_mb, found.error_mb)]
            if found.grows:
                objections.append(f"{what} grew by {found.grown_mb:.1f} {unit} in {found.span:.0f} s")
        lives.append(told)
    if not lives and samples and samples[-1]["t"] - samples[0]["t"] > LONG_S:
        objections.append(
            "no life was long enough to judge its memory: give it more hours or a quieter machine"
        )
    asked, late = _answers(samples, bounds)
    return {"lives": lives, "answers": asked}, objections + late


def _demo_is_warm(rows: Sequence[Row]) -> float:
    """When the demo of this life had shown enough frames; infinity where it never had."""
    begin = rows[0]["cameras"]["demo"]["frames"]
    seen = (row["t"] for row in rows if row["cameras"]["demo"]["frames"] - begin >= WARM_FRAMES)
    return next(seen, math.inf)


def _all_happened(events: Sequence[Row], begin: float, end: float) -> float:
    """When the last kind of fault of this life was over for the first time; `begin` where there was none."""
    first: dict[str, float] = {}
    for row in events:
        if begin < row["began"] and row["t"] < end and row["fault"] != "engine-fault":
            first.setdefault(row["fault"], row["t"])
    return max(first.values(), default=begin)


def _answers(samples: Sequence[Row], bounds: Bounds) -> tuple[dict[str, Any], list[str]]:
    """How long answers took early and late, as they were and as an idle machine would have given them.

    Each is divided by the slowdown of its second. Where the others on the machine came and went, only that
    says whether it is we who became slower.
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
        for p, most in ((50, bounds.answer_p50_grows), (99, bounds.answer_p99_grows)):
            early, late = asked["first"][f"p{p}_idle_ms"], asked["last"][f"p{p}_idle_ms"]
            if late > most * early:
                objections.append(
                    f"answers' p{p} went from {early:.1f} to {late:.1f} ms, the machine's slowdown taken out"
                )
    return asked, objections
