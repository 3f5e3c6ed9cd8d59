"""Control the privacy of one camera: zones, pause, thumbnails and forgetting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from edge_runtime.activity.log import forget_in_log
from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.coverage import PAUSED, Coverage
from edge_runtime.memory.forgetting import ForgetResult, forget_span, to_tick_range
from edge_runtime.persistence import StateError, StateFolder
from edge_runtime.persistence.set_aside import remove_set_aside
from edge_runtime.privacy.run_gate import RunGate
from edge_runtime.privacy.saved_settings import save_settings, update_saved_settings
from edge_runtime.privacy.thumbnails import Thumbnails
from edge_runtime.privacy.zones import Zones
from edge_runtime.service.pictures import Pictures
from edge_runtime.service.teacher import Teacher

log = logging.getLogger(__name__)


class ControlledCamera(Protocol):
    """What the controller needs of its camera. Its run is everything between `CameraRun.run` and its end."""

    folder: StateFolder
    ingest: Ingest
    pictures: Pictures
    teacher: Teacher

    @property
    def live(self) -> bool:
        """Whether what is not watched now is gone."""

    def position(self) -> float:
        """Return the second of the stream at which watching would go on now."""

    def save(self) -> int: ...

    def save_without_history(self) -> None:
        """Save what is known now, and leave nothing of what was before in a file."""

    def interrupt(self) -> None:
        """End the iteration over the source, from any thread."""

    def drop_caches(self) -> None:
        """Drop everything that was derived from a version or a picture to be faster."""


class RunningActivityLog(Protocol):
    """The activity log of a camera while it is being written."""

    def forget(self, start: float, end: float) -> int:
        """Remove the rows that share time with [start, end). Returns how many. Raises LvmError."""

    def find_times(self, activity: str, start: float, end: float) -> Sequence[tuple[float, float, float]]:
        """Return start, end and confidence of the rows of an activity in [start, end), the surest first."""

    def latest(self) -> str:
        """Return the newest row in a few words."""

    def as_json(self) -> dict[str, Any]: ...


class PrivacyController:
    """The privacy of one camera. `pause` and `forget` from any thread, the rest from the camera's own."""

    def __init__(self, camera: ControlledCamera, settings: PrivacySettings) -> None:
        folder = camera.folder
        self._camera = camera
        self._saved = update_saved_settings(folder.folder, settings.zones, paused=settings.paused)
        self.zones = Zones(self._saved.zones)
        self.thumbnails = Thumbnails(folder.folder, settings.thumbnails, folder.key)
        self.activities: RunningActivityLog | None = None
        """The open log while a recorder writes it, else None: then the file may be edited from here."""
        self._gate = RunGate(camera.interrupt, paused=self._saved.paused)
        camera.pictures.hide(self._saved.paused)
        self.on_pause: Callable[[bool], None] = lambda paused: None
        """Called when a pause has begun or ended."""
        self.on_forget: Callable[[], None] = lambda: None
        """Called when something is forgotten, to drop what others hold that says what was seen."""

    # -- from any thread -----------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return self._gate.paused

    def pause(self, paused: bool) -> None:
        """Begin or end a privacy pause: while it lasts, also over a restart, no picture is decoded or stored.

        Not from a signal handler: it takes locks. Raises LvmError where it cannot be saved for a restart;
        then a pause begins all the same, and does not end.
        """
        before = self.paused
        try:
            if paused:
                self._gate.pause(True)
                self._camera.pictures.hide(True)
            saved = self._saved.model_copy(update={"paused": paused})
            save_settings(self._camera.folder.folder, saved)
            self._saved = saved
            if not paused:
                self._camera.pictures.hide(False)
                self._gate.pause(False)
        finally:
            if self.paused != before:
                self.on_pause(self.paused)

    def forget(self, start: float, end: float, *, reset_background: bool = False) -> ForgetResult:
        """Remove [start, end) seconds of what was watched from memory and disk.

        Raises LvmError for an empty span, and where it cannot be written.
        """
        return self._gate.edit(lambda: self._forget(start, end, reset_background))

    def as_json(self) -> dict[str, Any]:
        """Return what is switched on, for a status."""
        return {
            "paused": self.paused,
            "zones": sorted(self.zones.polygons),
            "thumbnails": self.thumbnails.enabled,
            "encrypted": self._camera.folder.key is not None,
        }

    # -- from the camera's own thread ----------------------------------------------------------------------

    def running(self) -> AbstractContextManager[None]:
        """Enclose the whole run, which makes the edits from here on."""
        return self._gate.run()

    def stop(self) -> None:
        """End a wait in `wait_until_allowed` soon. May be called from a signal handler."""
        self._gate.stop()

    def wait_until_allowed(self, over: Callable[[], bool]) -> bool:
        """Make the waiting edits and wait while paused; to be called each time before the source is opened.

        Returns False where `over` became true meanwhile, or the pause outlasted the run.
        """
        self._gate.do_pending_edits()
        if self.paused:
            self.thumbnails.clear_pending()
            # Note the pause of a live source in the coverage; a recording misses nothing meanwhile.
            coverage = self._camera.ingest.version.coverage
            if self._camera.live and coverage.ongoing_note() is None:
                self.edit_coverage(coverage.add_note(self._camera.position(), None, PAUSED))
            self._gate.wait_while_paused(over)
        if self.paused or over():
            return False
        ingest = self._camera.ingest
        if ingest.version.coverage.ongoing_note() is not None:
            self.edit_coverage(ingest.version.coverage.end_note(self._camera.position()))
        return True

    def change(self, settings: PrivacySettings) -> None:
        """Apply other zones and thumbnails from the next frame on; a pause stays. Raises LvmError."""
        self._gate.edit(lambda: self._change(settings))
        if settings.paused:
            self.pause(True)

    def _change(self, settings: PrivacySettings) -> None:
        folder = self._camera.folder
        self._saved = update_saved_settings(folder.folder, settings.zones, paused=self._saved.paused)
        self.zones = Zones(self._saved.zones)
        self._camera.pictures.clear()  # in them what is a zone now may be seen
        self.thumbnails = Thumbnails(folder.folder, settings.thumbnails, folder.key)

    def edit_coverage(self, coverage: Coverage) -> None:
        """Replace and save the coverage."""
        self._camera.ingest.version = replace(self._camera.ingest.version, coverage=coverage)
        try:
            self._camera.save()  # a note is in no journal
        except StateError as error:
            log.warning("%s; the coverage is in RAM only", error)

    def _forget(self, start: float, end: float, reset: bool) -> ForgetResult:
        camera = self._camera
        network = camera.ingest.network
        camera.ingest.version, result = forget_span(
            camera.ingest.version,
            start,
            end,
            clip_s=network.clip_frames / network.sample_fps,
            clip_frames=network.clip_frames,
            reset=reset,
        )
        camera.pictures.forget(start, end)
        camera.drop_caches()
        self.on_forget()
        try:
            pictures = self.thumbnails.forget(*to_tick_range(start, end))
        finally:  # later versions continue the one without them, so that must be the one that is saved
            camera.save_without_history()
        examples = camera.teacher.forget(start, end)
        if self.activities is not None:
            rows = self.activities.forget(start, end)
        else:
            rows = forget_in_log(camera.folder.folder, start, end, camera.folder.key)
        earlier = remove_set_aside(camera.folder.folder)
        return replace(result, thumbnails=pictures, activities=rows, examples=examples, earlier=earlier)
