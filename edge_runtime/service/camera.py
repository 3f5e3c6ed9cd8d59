"""Run one camera: frames from its source into its memory and state folder, and answers from any thread.

All cameras share the engines and reach them through an `EngineClient`; everything else here is one camera's
own, so that nothing that happens to it reaches another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.frame import Frame
from edge_runtime.ingest.frame_loop import BatchResult, FrameLoop, frames_are_ready
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Step, Version, empty_version
from edge_runtime.persistence import Snapshot, StateFolder
from edge_runtime.privacy.zones import Zones
from edge_runtime.query.answers import Answer
from edge_runtime.query.decode import Span
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import AnyQuery
from edge_runtime.query.timestamps import TimeReader
from edge_runtime.service.camera_health import FAULT, DropCounter, Watchdog
from edge_runtime.service.camera_settings import (
    CameraSettings,
    check_change,
    make_header,
    set_other_bundle_aside,
)
from edge_runtime.service.engine_pool import EnginePool
from edge_runtime.service.pictures import Pictures
from edge_runtime.service.privacy_controller import PrivacyController
from edge_runtime.service.teacher import Teacher
from edge_runtime.service.wall_clock import WallClock, make_time_reader, on_clock
from edge_runtime.sources import Opener, is_live, open_source
from edge_runtime.sources.base import Recorded, Source, Tapped
from engines.errors import LvmError

log = logging.getLogger(__name__)


class CameraRun:
    """One camera. `run` belongs to one thread; everything else may be called from any thread."""

    def __init__(
        self,
        pool: EnginePool,
        settings: CameraSettings,
        folder: StateFolder,
        *,
        opener: Opener | None = None,
    ) -> None:
        """Continue the memory in `folder`, or begin one; that of another bundle is set aside.

        `opener` replaces `open_source`.

        Raises StateError where the memory in `folder` is another camera's.
        """
        self.engines = engines = pool.engines
        manifest = engines.bundle.manifest
        self.settings = settings
        self.name = settings.display_name
        self.folder = folder
        self._opener = opener
        set_other_bundle_aside(settings, folder, engines.bundle)
        saved = folder.load(manifest.network)
        live = is_live(settings.source) and not (saved and saved.header.recorded)
        self.clock = WallClock(self.name, saved, manifest.network.horizon_s, live=live)
        self.resumed = self.clock.resumed
        self.header = make_header(settings, engines.bundle, self.resumed)
        self.drop_counter = DropCounter(self.name, self.header.dropped)
        self.client = pool.client(self.name)
        self.ingest = Ingest(
            manifest.network,
            self.client.backbone,
            make_sampler(settings.sampler, self.client.sampler),
            self.resumed.version if self.resumed else empty_version(manifest.network),
            on_fault=self.drop_counter.add_fault,
            period=1 / self.header.sample_fps,
        )
        self._steps: list[Step] = []
        """Steps that are applied and not yet in the journal."""
        self.ingest.on_step = self._steps.append
        self.teacher = Teacher(
            folder.folder,
            folder.key,
            self.header.model,
            [activity.name for activity in manifest.classes],
            lambda: self.header.clock,
            period=1 / self.header.sample_fps,
        )
        self.ingest.on_features = self.teacher.recent.add
        self.pictures = Pictures(self)
        self.source: Source | None = None
        self._objects = ObjectEncoder(
            pool.query_backbone,
            manifest.network,
            frame_at=self.pictures.read_at,
            catalogue=None if settings.catalogue is None else Catalogue(settings.catalogue, folder.key),
        )
        self.asker = Asker(manifest, pool.query_reader, self._objects, self)
        self.watchdog = Watchdog()
        self.privacy = PrivacyController(self, settings.privacy)
        self._condition, self.condition_at = "waiting", time.time()
        self.on_condition: Callable[[str, str], None] | None = None
        """Called with the condition before and after each change."""
        self._saving = threading.Lock()
        self._abandoned = False
        self._change = threading.Lock()
        self._stopped = self._watched = False
        self._leave = threading.Event()
        """Ends the pass over the source that is under way; the flags say what comes next."""

    # -- questions -----------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        """What is known now. Immutable."""
        return self.ingest.version

    @property
    def condition(self) -> str:
        """waiting, starting, running, paused, ended, stopped or failed."""
        return self._condition

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.settings.title or self.name

    @property
    def live(self) -> bool:
        """Whether what is not watched now is gone."""
        return is_live(self.settings.source) and not self.header.recorded

    def _become(self, condition: str) -> None:
        before, self._condition = self._condition, condition
        if condition != before:
            self.condition_at = time.time()
        if condition != before and self.on_condition is not None:
            self.on_condition(before, condition)

    def ask(self, query: AnyQuery) -> Answer:
        """Answer from what is known now. Raises QueryError."""
        return self._on_clock(self.asker.ask(query, self.version))

    def ask_all(self, queries: Sequence[AnyQuery]) -> list[Answer]:
        """Answer several questions about one version. Raises QueryError."""
        return [self._on_clock(answer) for answer in self.asker.ask_all(queries, self.version)]

    def list_taught(self) -> Sequence[str]:
        """Return the names of the activities that it was taught. Raises LvmError for a damaged file."""
        return self.teacher.classes().names

    def find_times(self, activity: str, start: float, end: float) -> Sequence[Span] | None:
        """Return start, end and confidence of the rows of an activity in [start, end), the surest first; None
        where nothing is logged."""
        log = self.privacy.activities
        return None if log is None else log.find_times(activity, start, end)

    def time_reader(self) -> TimeReader:
        """Return what reads the times of a question: clock times are those of this machine."""
        return make_time_reader(self.header, self.version.coverage)

    def _on_clock(self, answer: Answer) -> Answer:
        return on_clock(answer, self.header)

    def snapshot(self) -> Snapshot:
        """Return everything as it was after the newest remembered frame, to save or describe it."""
        return Snapshot(self.header, self.version, self.folder.saving)

    @property
    def problems(self) -> list[str]:
        """Sentences about what is wrong while the camera goes on: an engine that fails, a full disk."""
        problems = (self.drop_counter.problem, self.folder.problem, self.clock.problem)
        return [problem for problem in problems if problem is not None]

    # -- running -------------------------------------------------------------------------------------------

    def run(self, seconds: float | None = None, on_progress: Callable[[], None] | None = None) -> None:
        """Ingest until the source ends, `stop` is called or `seconds` of stream have passed; then save.

        Raises LvmError if the source fails; what was ingested until then is saved first.
        """
        limit = None if seconds is None else self.position() + seconds
        failed = True
        try:
            ended = False
            with self.privacy.running():
                while not ended and self._wait_until_allowed(limit):
                    try:
                        ended = self._watch(limit, on_progress)
                    except Recorded as error:
                        log.info("%s; all of it is watched, like a file", error)
                        self.header = self.header.model_copy(update={"recorded": True})
            failed = False
            self._become("ended" if ended else "stopped")
        finally:
            if failed:
                self._become("failed")
            # A source that failed or never came may be mistyped: it takes no state folder for itself.
            begun = self.resumed or self.header.last_t is not None or self.version.coverage.notes
            if begun or not (failed or self.live):
                self.save()

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped = True
        self.privacy.stop()
        self.interrupt()

    def pause(self) -> None:
        """Close the source and take no picture until `resume`: a camera's light goes out.

        A pause outlasts a restart. Raises LvmError where it cannot be saved; it begins all the same.
        """
        self.privacy.pause(True)

    def resume(self) -> None:
        """Continue after `pause`: a file where it was left, a live source now, with a gap in the coverage."""
        self.privacy.pause(False)

    @property
    def paused(self) -> bool:
        return self.privacy.paused

    def change(self, settings: CameraSettings) -> None:
        """Apply other settings to the same memory: a live camera at another address, another interval.

        Raises LvmError, and changes nothing, for settings that would need another memory.
        """
        check_change(self.settings, settings, recorded=self.header.recorded)
        before, self.settings = self.settings, settings
        if settings.privacy != before.privacy:
            self.privacy.change(settings.privacy)
        if (settings.source, settings.connection) != (before.source, before.connection):
            self.interrupt()

    def save(self) -> int:
        """Write a snapshot now. Returns its size in bytes. Raises StateError where that fails."""
        with self._saving:
            if self._abandoned:
                return 0
            with self.watchdog.work():
                size = self.folder.save(self.snapshot())
            self._steps.clear()  # where it failed they are still missing in the journal
            return size

    def abandon(self) -> None:
        """Save now and never again: for a camera whose thread hangs in its source and may wake up."""
        try:
            self.save()
        finally:
            with self._saving:
                self._abandoned = True

    def close(self) -> None:
        """End the worker thread of this camera's engine calls. Not while `run` runs."""
        self.ingest.close()

    # -- for the privacy controller and the pictures -------------------------------------------------------

    @property
    def zones(self) -> Zones:
        """The zones that are masked in every picture now."""
        return self.privacy.zones

    def save_without_history(self) -> None:
        """Save, and leave nothing of what was before in a file. Raises StateError."""
        with self._saving:
            self._steps.clear()
            self.folder.save_without_history(self.snapshot())

    def drop_caches(self) -> None:
        """Drop everything that was derived from a version or a picture to be faster."""
        self.asker.forget()
        self._objects.forget()

    def interrupt(self) -> None:
        """End the pass over the source that is under way, from any thread."""
        with self._change:
            self._leave.set()
            # A file reads its batches again when it goes on; a live frame waits for its turn, which is short.
            if not self.client.shares_calls:
                self.client.cancel()
            source = self.source
        if source is not None:
            source.close()

    # -- one source after another --------------------------------------------------------------------------

    def _wait_until_allowed(self, limit: float | None) -> bool:
        """Wait while paused. Returns whether there is to be another pass."""
        # Before the pause is checked: an interruption that comes later ends the next pass.
        self._leave.clear()
        self.client.cancelled = False
        if self.privacy.paused and not self._stopped:
            self._become("paused")
        return self.privacy.wait_until_allowed(
            lambda: self._stopped or (limit is not None and self.live and self.position() >= limit)
        )

    def _watch(self, limit: float | None, on_progress: Callable[[], None] | None) -> bool:
        """Make one pass over the source. Returns whether it has reached its end or `limit`."""
        self._become("starting")
        # Open the source. A live one is retried for as long as it takes, unless the first time must work.
        connection, header = self.settings.connection, self.header
        supervision = connection.supervise(header.source_kind, first_must_open=not self.settings.patient)
        source = (self._opener or open_source)(
            self.settings.source,
            sample_fps=header.sample_fps,
            start=self.position(),
            settings=replace(supervision, bookmark=header.bookmark, epoch=header.recording_epoch),
        )
        if isinstance(source, Tapped):
            source.tap = self.pictures.preview
        with self._change:
            self.source, self._watched = source, True
            left = self._leave.is_set()
        if left:  # while the source was being opened
            source.close()
        self._become("running")
        self.header = self.header.model_copy(update={**self.settings.source_fields, "ended": False})
        if source.epoch is not None and self.header.last_t is None:
            self.header = self.header.model_copy(update={"epoch": source.epoch, "clocked": True})
        count = self._make_counter(source)
        mask = self.privacy.zones.mask_frame
        loop = FrameLoop(source, self.ingest, mask, self._leave, limit, self._begin_batch)
        self.client.shares_calls = not frames_are_ready(source)
        try:
            with source, loop.limit_time(self.position):
                faults = self.drop_counter.by_reason[FAULT]
                for batch in loop:
                    count(batch.seen)
                    if self.drop_counter.by_reason[FAULT] == faults:
                        self._finish_batch(batch)
                    faults = self.drop_counter.by_reason[FAULT]
                    self.watchdog.done()
                    self._write_journal(source)
                    if on_progress is not None:
                        on_progress()
        except ValueError as error:
            raise LvmError(f"{self.name} was left at {self.header.last_t} s: {error}") from error
        finally:
            self.watchdog.clear()  # frames that were on their way when it was interrupted are given up
            if source.live:  # what was seen and not remembered will not come again
                count(source.seen)
            with self._change:
                self.source = None
        if self._leave.is_set():
            return False
        self.header = self.header.model_copy(update={"ended": not loop.reached_limit})
        return True

    def _begin_batch(self, batch: Sequence[Frame]) -> None:
        """Called before each batch is given to the engines."""
        self.watchdog.begin()
        for frame in batch:
            self.privacy.thumbnails.add(frame)

    def _finish_batch(self, batch: BatchResult) -> None:
        """Called after each batch that is now in `version`."""
        mark = None if self.source is None else self.source.bookmark_at(batch.newest.t)
        progress = {"last_t": batch.newest.t, "bookmark": mark or self.header.bookmark}
        self.header = self.header.model_copy(update=progress)
        self.drop_counter.problem = None
        self.pictures.push(batch.newest)
        self.privacy.thumbnails.update(self.version)
        if self.live and (change := self.clock.follow(self.header, self.version.coverage)) is not None:
            self.header, coverage = change
            self.privacy.edit_coverage(coverage)

    def position(self) -> float:
        """Return the second at which the stream goes on: the saved one, for a live source the clock's."""
        at = self.header.resume_at()
        begun = self.header.last_t is not None or self._watched or self.version.coverage.notes
        if self.live and begun:
            return max(at, self.clock.now(self.header.epoch))
        return at

    # -- inside --------------------------------------------------------------------------------------------

    def _make_counter(self, source: Source) -> Callable[[int], None]:
        """Return a function that updates the header's counts by what `source` has seen in this pass."""
        seen_before, count_lost = self.header.seen, self.drop_counter.follow_source(source)
        repairs_before = Counter(self.header.clock_repairs)

        def count(seen: int) -> None:
            count_lost()
            counts = {
                "seen": seen_before + seen,
                "dropped": self.drop_counter.total,
                "clock_repairs": dict(repairs_before + Counter(source.repairs)),
            }
            self.header = self.header.model_copy(update=counts)

        return count

    def _write_journal(self, source: Source) -> None:
        """Write steps to the journal: a camera's at once, as they come once; a file can be read again."""
        with self._saving:
            if not self._abandoned:
                within = 0.0 if source.live else self.settings.save_interval_s
                with self.watchdog.work(), self.ingest.stages.journal.measure():
                    self.folder.append(self._steps, self.snapshot, within=within)
            self._steps.clear()
