"""Several cameras, one set of engines: each camera watches in a thread of its own, with its own memory.

What happens to one camera (it fails, hangs, is paused, added, removed) no other notices: they share nothing
but the engines. `run` belongs to the main thread; everything else may be called from any.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from edge_runtime.persistence import StateFolder
from edge_runtime.persistence.encryption import Key
from edge_runtime.query.answers import Answer
from edge_runtime.query.schema import QueryRequest
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import EnginePool, Engines
from edge_runtime.service.events import AnswerHistory, Event, Events
from edge_runtime.service.pending_cameras import PendingCameras
from edge_runtime.sources import Opener
from edge_runtime.system.backoff import Backoff
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
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


PROGRESS_EVERY_S = 0.2
MAX_CAMERAS = 64
AGAIN_S = (5.0, 300.0)
"""First and longest wait before a live camera that failed is watched again."""
TIDY_EVERY_S = 600.0
"""What has become too old goes also where nothing is watched: a pause may last for weeks."""


class Service:
    """Cameras by name, in the order in which they were added.

    `load` makes new engines when those given fail repeatedly; by default the same graphs are loaded again.
    With a `key` all that is saved is sealed. `opener` opens another kind of source than `open_source` does,
    for those who measure. Leaving `with` stops every camera, saves, and gives folders and engines back.
    """

    def __init__(
        self,
        engines: Engines,
        load: Callable[[], Engines] | None = None,
        *,
        key: Key | None = None,
        opener: Opener | None = None,
    ) -> None:
        self.pool = EnginePool(engines, load)
        self.engines = self.pool.engines
        self.events = Events()
        self.answered = AnswerHistory(self.events)
        self.key, self._opener = key, opener
        self._kept: dict[str, Watched] = {}
        self._changing = threading.RLock()
        self.awaited = PendingCameras(
            self._changing, lambda one, paused: self.add(one, paused=paused), lambda: Backoff(*AGAIN_S)
        )
        """Cameras that are wanted and could not be taken in; a run that lasts tries them again."""
        self._seconds: float | None = None
        self._runs = self._stays = False
        # A queue, because `stop` must be safe inside a signal handler, where a lock may be held already.
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopped = False

    # -- cameras -------------------------------------------------------------------------------------------

    @property
    def cameras(self) -> dict[str, CameraRun]:
        with self._changing:
            return {name: kept.camera for name, kept in self._kept.items()}

    @property
    def wanted(self) -> tuple[dict[str, CameraRun], dict[str, LvmError]]:
        """The cameras that are watched, and why others are not yet, of one moment: none is in both, and one
        that is just being taken in is not in neither."""
        with self._changing:
            return self.cameras, self.awaited.errors

    def camera(self, name: str | None = None) -> CameraRun:
        """The camera of that name, or the only one. Raises QueryError, naming those that there are, or why
        it is not watched yet."""
        cameras = self.cameras
        if name is None and len(cameras) == 1:
            return next(iter(cameras.values()))
        if name is None or name not in cameras:
            late = self.awaited.errors.get(name or "")
            if late is not None:
                again = " and is tried again" if self._lasts else ""
                raise QueryError(f"{name} is not watched yet{again}: {late}")
            asked = "name the camera" if name is None else f"there is no camera {printable(name[:100])!r}"
            raise QueryError(f"{asked}; there are {', '.join(cameras) or 'none'}")
        return cameras[name]

    def error_of(self, name: str) -> BaseException | None:
        """Why a camera failed; None where it did not."""
        with self._changing:
            return self._kept[name].error if name in self._kept else None

    def add(self, settings: CameraSettings, *, paused: bool = False) -> CameraRun:
        """Take in a camera; it watches at once if the others do, unless it is to be `paused` first.

        Raises LvmError where the name is taken, StateError where its folder cannot be used.
        """
        with self._changing:
            name = settings.shown_name
            if name in self._kept:
                raise LvmError(f"there is a camera {name} already; remove it first or choose another name")
            if len(self._kept) >= MAX_CAMERAS:
                raise LvmError(f"at most {MAX_CAMERAS} cameras can be watched at once")
            with contextlib.ExitStack() as stack:
                folder = stack.enter_context(StateFolder(settings.state, self.key))
                camera = CameraRun(self.pool, settings, folder, opener=self._opener)
                camera.on_condition = lambda before, after: self._tell(name, before, after)
                camera.guard.on_forget = lambda: self._forgotten(name)
                camera.guard.on_pause = lambda paused: self._tell_pause(name, paused)
                if paused:
                    camera.pause()
                stack.pop_all()  # from here on the folder is given back where the camera is removed
            kept = self._kept[name] = Watched(camera)
            if self._runs:
                self._start(kept)
            return camera

    def remove(self, name: str) -> None:
        """Stop and save a camera and give its folder back. Its memory stays on disk."""
        with self._changing:
            self.camera(name)
            kept = self._kept.pop(name)
        end([kept])
        self._calls.put(None)

    def pause(self, name: str | None = None) -> None:
        """See `CameraRun.pause`."""
        self.camera(name).pause()

    def resume(self, name: str | None = None) -> None:
        """See `CameraRun.resume`."""
        self.camera(name).resume()

    def change(self, settings: CameraSettings) -> None:
        """See `CameraRun.change`; the camera is that of the same name."""
        self.camera(settings.shown_name).change(settings)

    def apply(self, wanted: Iterable[CameraSettings]) -> list[str]:
        """Make the cameras those that are wanted, leaving alone what stays as it is. One that failed is tried
        again.

        What cannot be done to one camera is said in a sentence each, and done to the others.
        """
        by_name = {settings.shown_name: settings for settings in wanted}
        self.awaited.keep(by_name)
        problems: list[str] = []
        for name in self.cameras:
            if name not in by_name or self.error_of(name) is not None:
                self.remove(name)
        for name, settings in by_name.items():
            camera, refused = self.cameras.get(name), None
            try:
                if camera is None:
                    refused = self.awaited.take_in(settings)
                elif camera.settings != settings:
                    camera.change(settings)
            except LvmError as error:
                refused = error
            if refused is not None:
                problems.append(f"{name}: {refused}")
        return problems

    # -- asking --------------------------------------------------------------------------------------------

    def ask(self, request: QueryRequest) -> Answer:
        """Answer from what a camera remembers now. Raises QueryError."""
        camera = self.camera(request.camera)
        forgotten = self.answered.forgotten(camera.name)
        answer = camera.ask(request.query)
        self.answered.note(camera.name, request.query, answer, forgotten)
        return answer

    # -- running -------------------------------------------------------------------------------------------

    def run(
        self,
        seconds: float | None = None,
        on_progress: Callable[[], None] | None = None,
        *,
        stay: bool = False,
    ) -> None:
        """Watch until every source has ended (with `stay` until `stop`), `stop` is called, or each camera has
        taken in `seconds` of its stream; then save all.

        Raises the error of the first camera that failed, when all are done: its trouble ends no other.
        """
        with self._changing:
            self._seconds, self._runs, self._stays = seconds, True, stay
            for kept in self._kept.values():
                self._start(kept)
        tidied = time.monotonic()
        try:
            while not self._stopped and (stay or self._anyone_runs()):
                with contextlib.suppress(queue.Empty):
                    call = self._calls.get(timeout=PROGRESS_EVERY_S)
                    if call is not None:
                        call()
                if on_progress is not None:
                    on_progress()
                if self._lasts:
                    self.awaited.again()
                if time.monotonic() - tidied >= TIDY_EVERY_S:
                    tidied = time.monotonic()
                    for camera in self.cameras.values():
                        camera.guard.thumbnails.prune()
        finally:
            self._runs = False
            with self._changing:
                watching = list(self._kept.values())
            leave(watching)
        for kept in watching:
            if kept.error is not None:
                raise kept.error

    def stop(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._stopped = True
        self._calls.put(None)

    def soon(self, call: Callable[[], None]) -> None:
        """Have `run` make the call, between two looks; safe in a signal handler."""
        self._calls.put(call)

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changing:
            kept = list(self._kept.values())
            self._kept.clear()
        end(kept)
        self.pool.close()

    # -- inside --------------------------------------------------------------------------------------------

    def _forgotten(self, camera: str) -> None:
        self.answered.forget(camera)
        self.events.publish(Event("privacy", "update", camera, after={"forgotten": True}))

    def _tell(self, camera: str, before: str, after: str) -> None:
        was, now = {"condition": before}, {"condition": after}
        self.events.publish(Event("camera", "update", camera, was, now))

    def _tell_pause(self, camera: str, paused: bool) -> None:
        was, now = {"paused": not paused}, {"paused": paused}
        self.events.publish(Event("privacy", "update", camera, was, now))

    def _anyone_runs(self) -> bool:
        with self._changing:
            return any(kept.running for kept in self._kept.values())

    def _start(self, kept: Watched) -> None:
        # A daemon: a source that hangs inside its driver must not keep the process from ending.
        kept.thread = threading.Thread(
            target=self._watch, args=(kept,), name=f"camera {kept.camera.name}", daemon=True
        )
        kept.thread.start()

    def _watch(self, kept: Watched) -> None:
        waits, again = Backoff(*AGAIN_S), True
        while again:
            began, kept.error = time.monotonic(), None
            try:
                kept.camera.run(self._seconds)
                again = False
            except Exception as error:
                kept.error = error
                self._say(kept, error)
                if time.monotonic() - began > AGAIN_S[1]:
                    waits.reset()
                again = self._is_lasting(kept.camera) and not kept.leaving.wait(waits.next())
        self._calls.put(None)

    def _say(self, kept: Watched, error: Exception) -> None:
        if not isinstance(error, LvmError):
            log.error("camera %s failed", kept.camera.name, exc_info=error)
        elif self._stays or len(self._kept) > 1 or self._kept.get(kept.camera.name) is not kept:
            # Of the only one `run` says it, where it ends with it.
            log.error("camera %s failed: %s", kept.camera.name, error)

    def _is_lasting(self, camera: CameraRun) -> bool:
        """Whether nobody is there to start it again, and nothing says when it is to end."""
        return self._lasts and camera.live and camera.settings.patient

    @property
    def _lasts(self) -> bool:
        return self._stays and self._seconds is None
