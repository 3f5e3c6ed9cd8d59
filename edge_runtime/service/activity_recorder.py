"""Recognise activities in what the cameras of a service watch, and write the activity log of each.

One thread for all cameras reads their immutable versions: no frame waits for it, and it works at most a tenth
of the time. One pass recognises a few windows of a camera's newest stream. When the recorder falls behind,
the windows grow; what even the largest do not reach is skipped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from edge_runtime.activity.log import ActivityLog, find_times
from edge_runtime.activity.occurrences import Change, Occurrences
from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.activity.row import Row
from edge_runtime.activity.sqlite_store import LogFilter
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.memory.familiarity import WITHHELD, is_familiar
from edge_runtime.memory.version import Version
from edge_runtime.query.answers import format_percent
from edge_runtime.query.timestamps import format_instant, format_span
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.events import Event
from edge_runtime.service.runtime import Service
from engines.errors import LvmError

log = logging.getLogger(__name__)

PASSES_PER_CLIP = 3
"""Passes per clip. A pass covers two of these parts, so each moment is covered twice."""
WINDOW_CLIPS = 10
"""Clips of the longest window, when the recorder has fallen behind: activities are recognised from 5 minutes
nearly as well as from 20 seconds."""
MAX_WINDOWS = 4
"""Windows of one pass; what is older than all of them is skipped."""
STILL_CONDITIONS = ("paused", "ended", "stopped", "failed")
"""Conditions of a camera in which nothing new comes."""
POLL_S = 0.25
MAX_SHARE = 0.1
"""Share of the time that is spent on passes, at most."""
FINISH_S = 1.0
"""For the last passes of all cameras together, when the run ends."""
HANG_S = 1.5
"""How long a pass may take when the run ends."""
TIDY_EVERY_S = 60.0
"""Expired rows go, and rows that wait for a disk are written, also where nothing is watched."""


class CameraProgress:
    """How far one camera was recognised. For the recorder's thread; `as_json` from any."""

    def __init__(
        self,
        camera: CameraRun,
        log: ActivityLog,
        occurrences: Occurrences,
        max_gap: Callable[[float], float],
    ) -> None:
        """`max_gap` gives, for the time that a frame stands for, the longest `gap` within one occurrence."""
        self.camera, self.log, self.occurrences = camera, log, occurrences
        self.taught = Occurrences((), (), self.new_row)
        self.taught_names: tuple[str, ...] = ()
        self.taught_fault: str | None = None
        self.passes = 0
        self.seconds = 0.0
        """Time spent on passes."""
        self.skipped_s = 0.0
        """Seconds of the stream that were never recognised."""
        self.fault: str | None = None
        network = camera.ingest.network
        self._period = camera.ingest.period or 1 / network.sample_fps
        self._stride = max(1, network.clip_frames // PASSES_PER_CLIP) * self._period
        self._max_window = network.clip_frames * WINDOW_CLIPS * self._period
        self._max_gap = max_gap
        self._until = self._resume(log, occurrences)

    def _resume(self, log: ActivityLog, occurrences: Occurrences) -> float | None:
        """Return how far the run before this one got for certain: to its last row."""
        resumed = self.camera.resumed
        if resumed is None or resumed.version.coverage.end is None:
            return None
        newest, _ = log.find(LogFilter(limit=1))
        oldest = resumed.version.coverage.end - MAX_WINDOWS * self._max_window
        until = max(oldest, min(newest[0].end, resumed.version.coverage.end)) if newest else oldest
        recent, _ = log.find(LogFilter(start=until - self._stride - self.gap))
        occurrences.restore(reversed(recent))
        return until

    @property
    def period(self) -> float:
        """Seconds that a frame stands for now; more than a sampling period where the source is slower."""
        return max(self._period, self.camera.version.coverage.period or 0.0)

    @property
    def gap(self) -> float:
        """The longest time in seconds between two moments of one occurrence."""
        return self._max_gap(self.period)

    @property
    def stands_still(self) -> bool:
        return self.camera.condition in STILL_CONDITIONS

    @property
    def withheld(self) -> str | None:
        """Why activities of this camera are not told, None where they are."""
        return None if is_familiar(self.camera.version.recurrent_state) else WITHHELD

    def due(self) -> bool:
        """Whether enough has come since the last pass, or the camera has stopped with something left.

        Not in the first clip: before the background is known, everything is novel.
        """
        version = self.camera.version
        coverage = version.coverage
        if coverage.start is None or coverage.end is None or not version.memory.filled:
            return False
        new = coverage.end - self._since(coverage.start)
        return new >= self._stride - 1e-6 or (
            self.stands_still and (new > 0 or bool(self.occurrences.ongoing or self.taught.ongoing))
        )

    def take_windows(self) -> tuple[Version, list[tuple[float, float]]]:
        """Return the newest version and the windows to recognise in it now, oldest first."""
        version = self.camera.version
        coverage = version.coverage
        if coverage.start is None or coverage.end is None or not version.memory.filled:
            return version, []
        since = self._since(coverage.start)
        self._until = coverage.end
        if coverage.end <= since:
            return version, []
        oldest = coverage.end - MAX_WINDOWS * self._max_window
        self.skipped_s += max(0.0, oldest - since)
        begin = max(coverage.start, oldest, since - self._stride)
        windows = []
        while begin < coverage.end:
            windows.append((begin, min(begin + self._max_window, coverage.end)))
            begin = windows[-1][1]
        return version, windows

    def detect_taught(self, start: float, end: float, minima: dict[str, float]) -> list[Change]:
        """Recognise what the camera was taught in [start, end) seconds."""
        teacher, changes = self.camera.teacher, []
        try:
            classes = teacher.classes()
            self.taught_fault = None
        except LvmError as error:
            self.taught_fault = f"what was taught is not recognised: {error}"
            return self.taught.close()
        if classes.names != self.taught_names:
            # Numbers of classes have changed: what goes on is ended, what is recognised again is a row more.
            changes = self.taught.close()
            self.taught_names = classes.names
            self.taught = Occurrences(classes.names, classes.names, self.new_row)
        if classes.names:
            frames = teacher.recent.take(start - classes.longest)
            detections = [
                found
                for found in classes.detect(frames.within(start - classes.longest, end), minima)
                if found.end > start
            ]
            # Passes overlap by a window, so what goes on is recognised in both.
            changes += self.taught.join(detections, end, self.gap, pause=0.0)
        return changes

    def skip(self) -> None:
        """Give up what has not been recognised."""
        coverage = self.camera.version.coverage
        if coverage.start is not None and coverage.end is not None:
            self.skipped_s += max(0.0, coverage.end - self._since(coverage.start))
            self._until = coverage.end

    def new_row(self, start: float, end: float) -> Row:
        """Make the row of a new occurrence; its name comes later."""
        epoch = self.camera.header.clock
        return Row(self.log.new_id(), self.camera.name, "", "", start, end, 0.0, epoch=epoch)

    def latest(self) -> str:
        """Return the newest row in a few words, or what is wrong."""
        rows, _ = self.log.find(LogFilter(limit=1))
        problem = self.fault or self.log.problem or self.taught_fault
        if problem is not None or not rows:
            return problem or self.withheld or "none yet"
        also = f" or {', '.join(rows[0].alternatives)}" if rows[0].alternatives else ""
        start, end, epoch = rows[0].start, rows[0].end, rows[0].epoch
        since = f"since {format_instant(start, epoch)}"
        span = since if rows[0].ongoing else format_span(start, end, epoch)
        return f"{rows[0].activity}{also}, {span}, {format_percent(rows[0].confidence)}"

    def as_json(self) -> dict[str, Any]:
        """Return the state of the log and its newest row."""
        latest, _ = self.log.find(LogFilter(limit=1))
        return {
            "looks": self.passes,
            "look_ms": round(1000 * self.seconds / self.passes, 1) if self.passes else None,
            "skipped_s": round(self.skipped_s, 1),
            "rows": len(self.log),
            "lost": self.log.lost,
            "problem": self.fault or self.log.problem or self.taught_fault,
            "withheld": self.withheld,
            "latest": latest[0].as_json() if latest else None,
        }

    def _since(self, start: float) -> float:
        return start if self._until is None else max(start, self._until)


class ActivityRecorder:
    """Recognises and logs inside `with`. Passes and edits exclude one another, so that nothing is logged that
    was forgotten during the pass."""

    def __init__(self, service: Service, settings: ActivitySettings) -> None:
        engines = service.engines
        names = [activity.name for activity in engines.bundle.manifest.classes]
        if unknown := sorted(set(settings.class_confidence) - set(names)):
            log.warning(
                "activities.class_confidence names %s: it counts where a camera was taught that; the bundle "
                "has %s", ", ".join(map(repr, unknown)), ", ".join(names),
            )  # fmt: skip
        self._service, self._settings = service, settings
        self._recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
        self._cameras: dict[str, CameraProgress] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="activities", daemon=True)

    def __enter__(self) -> ActivityRecorder:
        self._sync_cameras()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(HANG_S)
        if self._thread.is_alive():  # it holds the lock that the last passes need
            log.warning("recognising hangs in an engine call and is left behind")
            return
        deadline = time.monotonic() + FINISH_S
        with self._lock:
            for camera in self._cameras.values():
                self._finish(camera, deadline)
            self._cameras.clear()

    def find(self, camera: str, log_filter: LogFilter) -> tuple[list[Row], bool]:
        """Return rows of a camera, newest first, and whether there are more.

        Raises QueryError where there is no such camera.
        """
        progress = self._cameras.get(self._service.camera(camera).name)
        return ([], False) if progress is None else progress.log.find(log_filter)

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        tidied = time.monotonic()
        while not self._stopped.is_set():
            spent = 0.0
            try:
                self._sync_cameras()
                tidy = time.monotonic() - tidied >= TIDY_EVERY_S
                tidied = time.monotonic() if tidy else tidied
                for camera in list(self._cameras.values()):
                    if tidy:
                        camera.log.put(())
                    if not self._stopped.is_set() and camera.due():
                        spent += self._recognise(camera)
            except Exception:  # whatever it is: a run must not lose its log for one bad pass
                log.exception("activities cannot be recognised; trying again")
            self._stopped.wait(max(POLL_S, spent * (1 / MAX_SHARE - 1)))

    def _sync_cameras(self) -> None:
        """Begin with cameras that were added, and finish those that were removed."""
        cameras = self._service.cameras
        for name, progress in list(self._cameras.items()):
            if cameras.get(name) is not progress.camera:
                with self._lock:
                    self._finish(progress, time.monotonic())
                    del self._cameras[name]
        for name, camera in cameras.items():
            if name not in self._cameras:
                self._cameras[name] = self._begin(camera)

    def _begin(self, camera: CameraRun) -> CameraProgress:
        activities = ActivityLog(camera.folder.folder, self._settings, camera.folder.key)
        recogniser = self._recogniser
        occurrences = Occurrences(
            recogniser.names, recogniser.doing, lambda start, end: progress.new_row(start, end)
        )
        progress = CameraProgress(camera, activities, occurrences, recogniser.max_gap)
        camera.privacy.activities = _CameraLog(self, progress)
        return progress

    def _recognise(self, camera: CameraProgress, *, last: bool = False) -> float:
        """Make one pass over what came since the pass before. Returns the seconds that it took."""
        started = time.monotonic()
        with self._lock:
            version, windows = camera.take_windows()
            changes: list[Change] = []
            try:
                for start, end in windows:
                    detections = self._recogniser.detect(
                        version,
                        start,
                        end,
                        min_confidence=self._settings.min_confidence,
                        class_confidence=self._settings.class_confidence,
                        period=camera.period,
                    )
                    changes += camera.occurrences.join(detections, end, camera.gap)
                    changes += camera.detect_taught(start, end, self._settings.class_confidence)
                    camera.passes += 1
                if windows:  # without a window nothing is known about the engine
                    camera.fault = None
            except LvmError as error:  # an engine that fails: these windows are lost, counted
                camera.fault = f"activities are not recognised: {error}"
                camera.skipped_s += sum(end - start for start, end in windows)
            finally:
                self._recogniser.forget()
            if last or camera.stands_still:
                changes += camera.occurrences.close() + camera.taught.close()
            self._write(camera, changes)
        seconds = time.monotonic() - started
        camera.seconds += seconds
        return seconds

    def _write(self, camera: CameraProgress, changes: list[Change]) -> None:
        """Log changes, and publish them."""
        camera.log.put(change.after for change in changes)
        for change in changes:
            before = None if change.before is None else change.before.as_json()
            self._service.events.publish(
                Event("activity", change.type, camera.camera.name, before, change.after.as_json())
            )

    def _finish(self, camera: CameraProgress, deadline: float) -> None:
        if time.monotonic() < deadline:
            self._recognise(camera, last=True)
        else:
            camera.skip()
            self._write(camera, camera.occurrences.close() + camera.taught.close())
        camera.camera.privacy.activities = None
        camera.log.close()

    def forget(self, camera: CameraProgress, start: float, end: float) -> int:
        """Remove the rows that share time with [start, end) of a camera's stream. Returns how many."""
        with self._lock:
            self._recogniser.forget()
            camera.occurrences.forget(start, end)
            camera.taught.forget(start, end)
            return camera.log.forget(start, end)


class _CameraLog:
    """The log of one camera for its privacy controller and status."""

    def __init__(self, recorder: ActivityRecorder, progress: CameraProgress) -> None:
        self._recorder, self._progress = recorder, progress

    def forget(self, start: float, end: float) -> int:
        return self._recorder.forget(self._progress, start, end)

    def find_times(self, activity: str, start: float, end: float) -> list[tuple[float, float, float]]:
        return find_times(self._progress.log, activity, start, end)

    def latest(self) -> str:
        return self._progress.latest()

    def as_json(self) -> dict[str, object]:
        return self._progress.as_json()
