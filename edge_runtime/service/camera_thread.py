"""A camera among others: the thread that watches it, and how it is left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_runtime.service.camera import CameraRun
from engines.errors import LvmError

log = logging.getLogger(__name__)

STOP_SECONDS = 1.5
"""How long cameras may take to leave their sources and save; a graceful stop takes less than 2 s."""


@dataclass
class Watched:
    """A camera with what surrounds it."""

    camera: CameraRun
    thread: threading.Thread | None = None
    error: BaseException | None = None
    left_behind: bool = False
    leaving: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


def leave(cameras: Sequence[Watched]) -> None:
    """Stop cameras side by side; save for those that hang in their sources, and leave those behind."""
    latest = time.monotonic() + STOP_SECONDS
    cameras = [one for one in cameras if not one.left_behind]
    for one in cameras:  # each from a thread, as closing a source may have to wait for its driver
        one.leaving.set()
        threading.Thread(target=one.camera.stop, name=f"leave {one.camera.name}", daemon=True).start()
    for one in cameras:
        if one.thread is not None:
            one.thread.join(max(latest - time.monotonic(), 0))
    for one in cameras:
        if one.running:
            one.left_behind = True
            log.warning("camera %s hangs in its source and is left behind", one.camera.name)
            try:
                one.camera.abandon()
            except LvmError as error:
                one.error = one.error or error


def end(cameras: Sequence[Watched]) -> None:
    """Leave cameras, and give their folders back."""
    leave(cameras)
    for one in cameras:
        if not one.running:
            one.camera.close()
        one.camera.folder.__exit__(None, None, None)
