"""Everything of privacy that one run needs, in one place: zones, pause, thumbnails and forgetting."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from edge_runtime.activity.log import forget_in_log
from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.coverage import PAUSED, Coverage
from edge_runtime.memory.forgetting import Forgotten, forget_span, ticks_of
from edge_runtime.persistence import StateError, StateFolder
from edge_runtime.privacy.run_gate import Gate
from edge_runtime.privacy.saved_settings import save_memo, start_memo
from edge_runtime.privacy.thumbnails import Thumbnails
from edge_runtime.privacy.zones import Zones
from edge_runtime.service.pictures import Pictures

log = logging.getLogger(__name__)


class Guarded(Protocol):
    """What the guard needs of the run that it guards."""

    folder: StateFolder
    ingest: Ingest
    pictures: Pictures
    live: bool
    """Whether what is not watched now is gone."""

    def position(self) -> float:
        """Second of the stream at which watching would go on now."""

    def save(self) -> int: ...

    def save_alone(self) -> None:
        """Make what is known now all that the folder knows."""

    def interrupt(self) -> None:
        """End the iteration of the source, from any thread."""

    def drop_caches(self) -> None:
        """Let go of everything that was kept of a version or a picture to be faster."""


class KeepsActivities(Protocol):
    """The activity log of a run, where one is being written."""

    def forget(self, start: float, end: float) -> int:
        """Remove the rows that share time with [start, end). Returns how many. Raises LvmError."""

    def latest(self) -> str:
        """The newest row in a few words."""

    def as_json(self) -> dict[str, Any]: ...


class Guard:
    """The privacy of one run. `pause` and `forget` from any thread, the rest from the run's own."""

    def __init__(self, run: Guarded, settings: PrivacySettings) -> None:
        folder = run.folder
        self._run = run
        self._memo = start_memo(folder.folder, settings.zones, paused=settings.paused)
        self.zones = Zones(self._memo.zones)
        self.thumbnails = Thumbnails(folder.folder, settings.thumbnails, folder.key)
        self.activities: KeepsActivities | None = None
        """Set by whoever writes the log, which is a file that nobody writes otherwise."""
        self._gate = Gate(run.interrupt, paused=self._memo.paused)
        run.pictures.hide(self._memo.paused)
        self.on_pause: Callable[[bool], None] = lambda paused: None
        """Told when a pause has begun or ended."""
        self.on_forget: Callable[[], None] = lambda: None
        """Lets go of what others keep that tells of what was watched."""

    # -- for anybody ---------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return self._gate.paused

    def pause(self, paused: bool) -> None:
        """Begin or end a privacy pause: no picture is decoded or kept while it lasts, also over a restart.

        Not from a signal handler: it takes locks. Raises LvmError if it cannot be noted for a restart; a
        pause begins all the same, and does not end.
        """
        before = self.paused
        try:
            if paused:
                self._gate.pause(True)
                self._run.pictures.hide(True)
            memo = self._memo.model_copy(update={"paused": paused})
            save_memo(self._run.folder.folder, memo)
            self._memo = memo
            if not paused:
                self._run.pictures.hide(False)
                self._gate.pause(False)
        finally:
            if self.paused != before:
                self.on_pause(self.paused)

    def forget(self, start: float, end: float, *, reset_background: bool = False) -> Forgotten:
        """Remove [start, end) seconds of what was watched from memory and disk.

        Raises LvmError for a span that is none, and where it cannot be written.
        """
        return self._gate.edit(lambda: self._forget(start, end, reset_background))

    def as_json(self) -> dict[str, Any]:
        """What is on, for a status."""
        return {
            "paused": self.paused,
            "zones": sorted(self.zones.polygons),
            "thumbnails": self.thumbnails.enabled,
            "encrypted": self._run.folder.key is not None,
        }

    # -- for the run ---------------------------------------------------------------------------------------

    def running(self) -> AbstractContextManager[None]:
        """Around the whole run: from here on edits are left to it."""
        return self._gate.run()

    def stop(self) -> None:
        """End a wait in `admitted` soon. May be called from a signal handler."""
        self._gate.stop()

    def admitted(self, over: Callable[[], bool]) -> bool:
        """Before the source is opened, each time: does the edits that wait, and waits while paused.

        False where `over` became true meanwhile, or the pause outlasted the run.
        """
        self._gate.settle()
        if self.paused:
            self.thumbnails.clear_waiting()
            self._note_pause()
            self._gate.wait_while_paused(over)
        if self.paused or over():
            return False
        ingest = self._run.ingest
        if ingest.version.coverage.ongoing() is not None:
            self.edit_coverage(ingest.version.coverage.concluded(self._run.position()))
        return True

    def change(self, settings: PrivacySettings) -> None:
        """Other zones and thumbnails from the next frame on; a pause stays. Raises LvmError."""
        self._gate.edit(lambda: self._change(settings))
        if settings.paused:
            self.pause(True)

    def _change(self, settings: PrivacySettings) -> None:
        folder = self._run.folder
        self._memo = start_memo(folder.folder, settings.zones, paused=self._memo.paused)
        self.zones = Zones(self._memo.zones)
        self._run.pictures.clear()  # in them what is a zone now may be seen
        self.thumbnails = Thumbnails(folder.folder, settings.thumbnails, folder.key)

    def _note_pause(self) -> None:
        """A recording stands still meanwhile and misses nothing; what a camera showed is gone."""
        coverage = self._run.ingest.version.coverage
        if self._run.live and coverage.ongoing() is None:
            self.edit_coverage(coverage.explained(self._run.position(), None, PAUSED))

    def edit_coverage(self, coverage: Coverage) -> None:
        """What is noted of the time that was watched, from the run's own thread."""
        self._run.ingest.version = replace(self._run.ingest.version, coverage=coverage)
        try:
            self._run.save()  # a note is in no journal
        except StateError as error:
            log.warning("%s; what is noted of the time watched is in RAM only", error)

    def _forget(self, start: float, end: float, reset: bool) -> Forgotten:
        run = self._run
        network = run.ingest.network
        run.ingest.version, told = forget_span(
            run.ingest.version,
            start,
            end,
            clip_s=network.clip_frames / network.sample_fps,
            clip_frames=network.clip_frames,
            reset=reset,
        )
        run.pictures.forget(start, end)
        run.drop_caches()
        self.on_forget()
        try:
            pictures = self.thumbnails.forget(*ticks_of(start, end))
        finally:  # what comes now leads on from the version without them, so that must be what is saved
            run.save_alone()
        if self.activities is not None:
            rows = self.activities.forget(start, end)
        else:
            rows = forget_in_log(run.folder.folder, start, end, run.folder.key)
        return replace(told, thumbnails=pictures, activities=rows)
