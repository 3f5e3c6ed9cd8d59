"""Cameras that are wanted and could not be taken in: a disk that is mounted late, a folder still in use.

Nobody is there to send SIGHUP, so they are tried again as a live camera that failed is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.system.backoff import Backoff
from engines.errors import LvmError

log = logging.getLogger(__name__)


@dataclass
class _One:
    settings: CameraSettings
    error: LvmError
    waits: Backoff
    due: float
    """On the monotonic clock."""


class PendingCameras:
    """For any thread. `add(settings, paused)` takes a camera in or raises LvmError; `lock` is held meanwhile.

    `waits` makes the waits of one camera.
    """

    def __init__(
        self,
        lock: threading.RLock,
        add: Callable[[CameraSettings, bool], object],
        waits: Callable[[], Backoff],
    ) -> None:
        self._lock, self._add, self._waits = lock, add, waits
        self._ones: dict[str, _One] = {}
        self.paused = False
        """Whether who comes yet comes paused: a privacy pause of all cameras is of late ones too."""

    @property
    def errors(self) -> dict[str, LvmError]:
        """Why each of them is not there yet, by name, in the order in which they were wanted."""
        with self._lock:
            return {name: one.error for name, one in self._ones.items()}

    def take_in(self, settings: CameraSettings) -> LvmError | None:
        """Now, or else when `again` is called and it is time. Why it could not be now."""
        name = settings.shown_name
        with self._lock:
            self._ones.pop(name, None)
            error = self._tried(settings)
            if error is not None:
                waits = self._waits()
                self._ones[name] = _One(settings, error, waits, time.monotonic() + waits.next())
            return error

    def again(self) -> None:
        """Try those whose wait is over. A reason that is not the one before is logged."""
        with self._lock:
            for name, one in list(self._ones.items()):
                if time.monotonic() < one.due:
                    continue
                error = self._tried(one.settings)
                if error is None:
                    del self._ones[name]
                    log.warning("%s is watched now", name)
                    continue
                if str(error) != str(one.error):
                    log.warning("%s is not watched: %s", name, error)
                one.error, one.due = error, time.monotonic() + one.waits.next()

    def keep(self, names: Collection[str]) -> None:
        """The others are not wanted any more."""
        with self._lock:
            for name in self._ones.keys() - set(names):
                del self._ones[name]

    def _tried(self, settings: CameraSettings) -> LvmError | None:
        try:
            self._add(settings, self.paused)
        except LvmError as error:
            return error
        return None
