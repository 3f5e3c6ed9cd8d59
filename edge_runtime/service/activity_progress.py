"""One camera as the recorder sees it: how far it was looked at, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_runtime.activity.log import ActivityLog
from edge_runtime.activity.occurrences import Occurrences
from edge_runtime.activity.row import Row
from edge_runtime.activity.sqlite_store import Wanted
from edge_runtime.memory.version import Version
from edge_runtime.service.camera import CameraRun

LOOKS_A_CLIP = 3
"""A look comes after so many parts of a clip, and covers two of them: each moment is looked at twice."""
WINDOW_CLIPS = 10
"""The longest window of one look, where it has fallen behind: activities are told from 5 minutes nearly as
well as from 20 seconds."""
WINDOWS = 4
"""Of one look; what is older than all of them is skipped."""
STILL = ("paused", "ended", "stopped", "failed")
"""Conditions of a camera in which nothing goes on."""


class Watched:
    """For the recorder's thread; `as_json` from any."""

    def __init__(
        self,
        camera: CameraRun,
        log: ActivityLog,
        occurrences: Occurrences,
        gap_of: Callable[[float], float],
    ) -> None:
        """`gap_of` tells, for the time that a frame stands for, the `gap` that one occurrence may have."""
        self.camera, self.log, self.occurrences = camera, log, occurrences
        self.looks = 0
        self.seconds = 0.0
        """Spent looking."""
        self.skipped_s = 0.0
        """Of the stream, that was never looked at."""
        self.fault: str | None = None
        network = camera.ingest.network
        self.period = camera.ingest.period or 1 / network.sample_fps
        self._stride = max(1, network.clip_frames // LOOKS_A_CLIP) * self.period
        self._most = network.clip_frames * WINDOW_CLIPS * self.period
        self.gap = gap_of(self.period)
        self._until = self._looked_before(log, occurrences)

    def _looked_before(self, log: ActivityLog, occurrences: Occurrences) -> float | None:
        """How far the run before this one certainly looked: to its last row. A kill loses what came since."""
        resumed = self.camera.resumed
        if resumed is None or resumed.version.coverage.end is None:
            return None
        newest, _ = log.find(Wanted(limit=1))
        oldest = resumed.version.coverage.end - WINDOWS * self._most
        until = max(oldest, min(newest[0].end, resumed.version.coverage.end)) if newest else oldest
        recent, _ = log.find(Wanted(start=until - self._stride - self.gap))
        occurrences.remember(reversed(recent))
        return until

    @property
    def stands_still(self) -> bool:
        return self.camera.condition in STILL

    def due(self) -> bool:
        """Whether enough has come since the last look, or the camera has stopped with something left.

        Not in the first clip: until it has shown what is usual, everything is news.
        """
        version = self.camera.version
        coverage = version.coverage
        if coverage.start is None or coverage.end is None or not version.memory.filled:
            return False
        new = coverage.end - self._since(coverage.start)
        return new >= self._stride - 1e-6 or (
            self.stands_still and (new > 0 or bool(self.occurrences.ongoing))
        )

    def windows(self) -> tuple[Version, list[tuple[float, float]]]:
        """The newest version and what of it is to be looked at now, oldest first."""
        version = self.camera.version
        coverage = version.coverage
        if coverage.start is None or coverage.end is None or not version.memory.filled:
            return version, []
        since = self._since(coverage.start)
        self._until = coverage.end
        if coverage.end <= since:
            return version, []
        oldest = coverage.end - WINDOWS * self._most
        self.skipped_s += max(0.0, oldest - since)
        begin = max(coverage.start, oldest, since - self._stride)
        found = []
        while begin < coverage.end:
            found.append((begin, min(begin + self._most, coverage.end)))
            begin = found[-1][1]
        return version, found

    def skip(self) -> None:
        """Give up what has not been looked at."""
        coverage = self.camera.version.coverage
        if coverage.start is not None and coverage.end is not None:
            self.skipped_s += max(0.0, coverage.end - self._since(coverage.start))
            self._until = coverage.end

    def new_row(self, start: float, end: float) -> Row:
        """Of an occurrence that was just found; its name comes later."""
        epoch = self.camera.header.epoch if self.camera.live else None
        return Row(self.log.new_id(), self.camera.name, "", "", start, end, 0.0, epoch=epoch)

    def latest(self) -> str:
        """The newest row in a few words, or what is wrong."""
        rows, _ = self.log.find(Wanted(limit=1))
        problem = self.fault or self.log.problem
        if problem is not None or not rows:
            return problem or "none yet"
        also = f" or {', '.join(rows[0].alternatives)}" if rows[0].alternatives else ""
        end = "now" if rows[0].ongoing else f"{rows[0].end:.0f} s"
        return f"{rows[0].activity}{also}, {rows[0].start:.0f} s to {end}, {rows[0].confidence:.0%}"

    def as_json(self) -> dict[str, Any]:
        """How recognising fares, and the newest row."""
        latest, _ = self.log.find(Wanted(limit=1))
        return {
            "looks": self.looks,
            "look_ms": round(1000 * self.seconds / self.looks, 1) if self.looks else None,
            "skipped_s": round(self.skipped_s, 1),
            "rows": len(self.log),
            "lost": self.log.lost,
            "problem": self.fault or self.log.problem,
            "latest": latest[0].as_json() if latest else None,
        }

    def _since(self, start: float) -> float:
        return start if self._until is None else max(start, self._until)
