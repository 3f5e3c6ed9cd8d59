"""Recognises what the cameras of a service see while they watch, and keeps the log of each.

One thread of its own for all cameras, which reads their immutable versions: no frame waits for it, and it
works at most a tenth of the time. Where it falls behind, a look covers more of the stream at once; what even
that does not reach is skipped, counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from edge_runtime.activity.log import ActivityLog
from edge_runtime.activity.occurrences import Change, Occurrences
from edge_runtime.activity.recognizer import Recogniser
from edge_runtime.activity.row import Row
from edge_runtime.activity.sqlite_store import Wanted
from edge_runtime.config.activities import ActivitySettings
from edge_runtime.memory.version import Version
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.events import Event
from edge_runtime.service.runtime import Service
from engines.errors import LvmError

log = logging.getLogger(__name__)

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


POLL_S = 0.25
SHARE = 0.1
"""Of the time, at most, that is spent on looking."""
FINISH_S = 1.0
"""For the last looks of all cameras together, when the run ends."""

HANGS_S = 1.5
"""Of one look, when the run ends."""
TIDY_EVERY_S = 60.0
"""Rows that are too old go, and those that wait for a disk are tried again, also where nothing is watched."""


class Recorder:
    """`with` starts and ends it. Looks and edits exclude one another, so that nothing is logged of what was
    forgotten while it was being looked at."""

    def __init__(self, service: Service, settings: ActivitySettings) -> None:
        engines = service.engines
        self._service, self._settings = service, settings
        self._recogniser = Recogniser(engines.bundle.manifest, engines.reader)
        self._watched: dict[str, Watched] = {}
        self._looking = threading.RLock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="activities", daemon=True)

    def __enter__(self) -> Recorder:
        self._adopt()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(HANGS_S)
        if self._thread.is_alive():  # it holds what is needed to say more
            log.warning("recognising hangs in an engine call and is left behind")
            return
        latest = time.monotonic() + FINISH_S
        with self._looking:
            for one in self._watched.values():
                self._finish(one, latest)
            self._watched.clear()

    def find(self, camera: str, wanted: Wanted) -> tuple[list[Row], bool]:
        """Rows of a camera, newest first, and whether there are more.

        Raises QueryError where there is no such camera.
        """
        name = self._service.camera(camera).name
        one = self._watched.get(name)
        return ([], False) if one is None else one.log.find(wanted)

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        tidied = time.monotonic()
        while not self._stopped.is_set():
            spent = 0.0
            try:
                self._adopt()
                tidy = time.monotonic() - tidied >= TIDY_EVERY_S
                tidied = time.monotonic() if tidy else tidied
                for one in list(self._watched.values()):
                    if tidy:
                        one.log.put(())
                    if not self._stopped.is_set() and one.due():
                        spent += self._look(one)
            except Exception:  # whatever it is: a run must not lose its log for one bad look
                log.exception("activities cannot be recognised; trying again")
            self._stopped.wait(max(POLL_S, spent * (1 / SHARE - 1)))

    def _adopt(self) -> None:
        """Take up cameras that were added, and leave those that were removed."""
        cameras = self._service.cameras
        for name, one in list(self._watched.items()):
            if cameras.get(name) is not one.camera:
                with self._looking:
                    self._finish(one, time.monotonic())
                    del self._watched[name]
        for name, camera in cameras.items():
            if name not in self._watched:
                self._watched[name] = self._begun(camera)

    def _begun(self, camera: CameraRun) -> Watched:
        kept = ActivityLog(camera.folder.folder, self._settings, camera.folder.key)
        made = Occurrences(self._recogniser.names, self._recogniser.doing, lambda a, b: one.new_row(a, b))
        one = Watched(camera, kept, made, self._recogniser.gap)
        camera.guard.activities = _Kept(self, one)
        return one

    def _look(self, one: Watched, *, last: bool = False) -> float:
        """One look at what came since the one before. Returns its seconds."""
        started = time.monotonic()
        with self._looking:
            version, windows = one.windows()
            changes: list[Change] = []
            try:
                for start, end in windows:
                    found = self._recogniser.look(
                        version, start, end, least=self._settings.min_confidence, period=one.period
                    )
                    changes += one.occurrences.join(found, end, one.gap)
                    one.looks += 1
                if windows:  # nothing to look at says nothing about the engine
                    one.fault = None
            except LvmError as error:  # an engine that fails: what it was asked about is lost, told
                one.fault = f"activities are not recognised: {error}"
                one.skipped_s += sum(end - start for start, end in windows)
            finally:
                self._recogniser.forget()
            if last or one.stands_still:
                changes += one.occurrences.close()
            self._tell(one, changes)
        seconds = time.monotonic() - started
        one.seconds += seconds
        return seconds

    def _tell(self, one: Watched, changes: list[Change]) -> None:
        one.log.put(change.after for change in changes)
        for change in changes:
            before = None if change.before is None else change.before.as_json()
            self._service.events.publish(
                Event("activity", change.type, one.camera.name, before, change.after.as_json())
            )

    def _finish(self, one: Watched, latest: float) -> None:
        if time.monotonic() < latest:
            self._look(one, last=True)
        else:
            one.skip()
            self._tell(one, one.occurrences.close())
        one.camera.guard.activities = None
        one.log.close()

    def forget(self, one: Watched, start: float, end: float) -> int:
        """Remove the rows that share time with [start, end) of a camera's stream."""
        with self._looking:
            self._recogniser.forget()
            one.occurrences.forget(start, end)
            return one.log.forget(start, end)


class _Kept:
    """What a camera's guard and status see of it."""

    def __init__(self, recorder: Recorder, one: Watched) -> None:
        self._recorder, self._one = recorder, one

    def forget(self, start: float, end: float) -> int:
        return self._recorder.forget(self._one, start, end)

    def latest(self) -> str:
        return self._one.latest()

    def as_json(self) -> dict[str, object]:
        return self._one.as_json()
