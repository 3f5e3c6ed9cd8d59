"""Retry cameras that could not be added: a disk that is mounted late, a state folder still in use.

Nobody is there to send SIGHUP, so they are tried again as a live camera that failed is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.system.backoff import Backoff
from engines.errors import LvmError

log = logging.getLogger(__name__)


@dataclass
class _Pending:
    settings: CameraSettings
    error: LvmError
    waits: Backoff
    due: float
    """On the monotonic clock."""
    since_at: float
    """When it was first tried, seconds since 1970."""
    tries: int = 1


class PendingCameras:
    """For any thread. `add(settings, paused)` adds a camera or raises LvmError; `lock` is held meanwhile.

    `make_backoff` makes the waits of one camera.
    """

    def __init__(
        self,
        lock: threading.RLock,
        add: Callable[[CameraSettings, bool], object],
        make_backoff: Callable[[], Backoff],
    ) -> None:
        self._lock, self._add, self._make_backoff = lock, add, make_backoff
        self._cameras: dict[str, _Pending] = {}
        self.paused = False
        """Whether a camera that is added late begins paused, as all others are."""

    @property
    def errors(self) -> dict[str, LvmError]:
        """Why each camera could not be added, by name, in the order in which they were tried."""
        with self._lock:
            return {name: camera.error for name, camera in self._cameras.items()}

    def describe(self, name: str) -> dict[str, Any]:
        """Return a camera's title, since when it has been tried, and how often."""
        with self._lock:
            camera = self._cameras.get(name)
        if camera is None:  # it has been added meanwhile
            return {"title": name, "since_at": time.time(), "tries": 1}
        return {"title": camera.settings.title or name, "since_at": camera.since_at, "tries": camera.tries}

    def try_add(self, settings: CameraSettings) -> LvmError | None:
        """Add a camera now, or leave it to `retry`. Returns why it could not be added."""
        name = settings.display_name
        with self._lock:
            self._cameras.pop(name, None)
            error = self._try(settings)
            if error is not None:
                waits = self._make_backoff()
                self._cameras[name] = _Pending(
                    settings, error, waits, time.monotonic() + waits.next(), time.time()
                )
            return error

    def retry(self) -> None:
        """Try the cameras whose wait is over. A reason that differs from the one before is logged."""
        with self._lock:
            for name, camera in list(self._cameras.items()):
                if time.monotonic() < camera.due:
                    continue
                camera.tries += 1
                error = self._try(camera.settings)
                if error is None:
                    del self._cameras[name]
                    log.warning("%s is watched now", name)
                    continue
                if str(error) != str(camera.error):
                    log.warning("%s is not watched: %s", name, error)
                camera.error, camera.due = error, time.monotonic() + camera.waits.next()

    def retain(self, names: Collection[str]) -> None:
        """Drop the cameras with other names."""
        with self._lock:
            for name in self._cameras.keys() - set(names):
                del self._cameras[name]

    def _try(self, settings: CameraSettings) -> LvmError | None:
        try:
            self._add(settings, self.paused)
        except LvmError as error:
            return error
        return None
