"""Run several cameras on one set of engines, each in a thread of its own with a memory of its own.

What happens to one camera (it fails, hangs, is paused, added, removed) affects no other: they share nothing
but the engines. `Service.run` belongs to the main thread; everything else may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from edge_runtime.persistence import StateFolder
from edge_runtime.persistence.encryption import Key
from edge_runtime.query.answers import Answer
from edge_runtime.query.schema import QueryRequest
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import EnginePool, Engines
from edge_runtime.service.events import AnswerHistory, Event, Events
from edge_runtime.service.pending_cameras import PendingCameras
from edge_runtime.sources import Opener, is_live
from edge_runtime.system.backoff import Backoff
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from engines.errors import LvmError

log = logging.getLogger(__name__)

STOP_SECONDS = 1.5
"""How long cameras may take to leave their sources and save; a graceful stop takes less than 2 s."""
PROGRESS_EVERY_S = 0.2
MAX_CAMERAS = 64
RETRY_WAIT_S = (5.0, 300.0)
"""First and longest wait before a live camera that failed is watched again."""
PRUNE_EVERY_S = 600.0
"""Expired thumbnails go also while nothing is watched: a pause may last for weeks."""


@dataclass
class CameraThread:
    """A camera with the thread that watches it."""

    camera: CameraRun
    thread: threading.Thread | None = None
    error: BaseException | None = None
    left_behind: bool = False
    leaving: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Service:
    """Cameras by name, in the order in which they were added.

    `load` makes new engines when those given fail repeatedly; by default the same graphs are loaded again.
    With a `key` all that is saved is sealed. `opener` replaces `open_source`, for measurements. Leaving
    `with` stops every camera, saves, and gives folders and engines back.
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
        self.answer_history = AnswerHistory(self.events)
        self.key, self._opener = key, opener
        self._threads: dict[str, CameraThread] = {}
        self._lock = threading.RLock()
        """Held while cameras are added and removed."""
        self.pending = PendingCameras(
            self._lock,
            lambda settings, paused: self.add(settings, paused=paused),
            lambda: Backoff(*RETRY_WAIT_S),
        )
        """Cameras that could not be added yet; a run without an end retries them."""
        self._seconds: float | None = None
        self._running = self._stay = False
        # A queue, because `stop` must be safe inside a signal handler, where a lock may be held already.
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopped = False

    # -- cameras -------------------------------------------------------------------------------------------

    @property
    def cameras(self) -> dict[str, CameraRun]:
        with self._lock:
            return {name: thread.camera for name, thread in self._threads.items()}

    @property
    def cameras_and_errors(self) -> tuple[dict[str, CameraRun], dict[str, LvmError]]:
        """The cameras that are watched, and why others are not yet, at one moment: each configured camera is
        in exactly one of the two, also while it is being added."""
        with self._lock:
            return self.cameras, self.pending.errors

    def camera(self, name: str | None = None) -> CameraRun:
        """Return the camera of that name, or the only one.

        Raises QueryError that names the cameras there are, or says why this one is not watched yet.
        """
        cameras = self.cameras
        if name is None and len(cameras) == 1:
            return next(iter(cameras.values()))
        if name is None or name not in cameras:
            error = self.pending.errors.get(name or "")
            if error is not None:
                again = " and is tried again" if self._endless else ""
                raise QueryError(f"{name} is not watched yet{again}: {error}")
            problem = "name the camera" if name is None else f"there is no camera {printable(name[:100])!r}"
            raise QueryError(f"{problem}; there are {', '.join(cameras) or 'none'}")
        return cameras[name]

    def camera_error(self, name: str) -> BaseException | None:
        """Return why a camera failed; None where it did not."""
        with self._lock:
            return self._threads[name].error if name in self._threads else None

    def add(self, settings: CameraSettings, *, paused: bool = False) -> CameraRun:
        """Add a camera. It watches at once if the others do, unless it begins `paused`.

        Raises LvmError where the name is taken, StateError where its folder cannot be used.
        """
        with self._lock:
            name = settings.display_name
            if name in self._threads:
                raise LvmError(f"there is a camera {name} already; remove it first or choose another name")
            if len(self._threads) >= MAX_CAMERAS:
                raise LvmError(f"at most {MAX_CAMERAS} cameras can be watched at once")
            with contextlib.ExitStack() as stack:
                folder = stack.enter_context(StateFolder(settings.state, self.key))
                camera = CameraRun(self.pool, settings, folder, opener=self._opener)
                camera.on_condition = lambda before, after: self._publish_condition(name, before, after)
                camera.privacy.on_forget = lambda: self._forget_answers(name)
                camera.privacy.on_pause = lambda paused: self._publish_pause(name, paused)
                if paused:
                    camera.pause()
                stack.pop_all()  # from here on the folder is given back where the camera is removed
            thread = self._threads[name] = CameraThread(camera)
            if self._running:
                self._start(thread)
            return camera

    def remove(self, name: str) -> None:
        """Stop and save a camera and give its folder back. Its memory stays on disk."""
        with self._lock:
            self.camera(name)
            thread = self._threads.pop(name)
        _close([thread])
        self._calls.put(None)

    def pause(self, name: str | None = None) -> None:
        """See `CameraRun.pause`."""
        self.camera(name).pause()

    def resume(self, name: str | None = None) -> None:
        """See `CameraRun.resume`."""
        self.camera(name).resume()

    def change(self, settings: CameraSettings) -> None:
        """See `CameraRun.change`; the camera is that of the same name."""
        self.camera(settings.display_name).change(settings)

    def apply(self, cameras: Iterable[CameraSettings]) -> list[str]:
        """Make the cameras those of the settings, leaving alone what stays the same. One that failed is tried
        again.

        Returns a sentence for each camera that could not be added or changed; the others are.
        """
        by_name = {settings.display_name: settings for settings in cameras}
        self.pending.retain(by_name)
        problems: list[str] = []
        for name in self.cameras:
            if name not in by_name or self.camera_error(name) is not None:
                self.remove(name)
        for name, settings in by_name.items():
            camera, problem = self.cameras.get(name), None
            try:
                if camera is None:
                    problem = self.pending.try_add(settings)
                elif camera.settings != settings:
                    camera.change(settings)
            except LvmError as error:
                problem = error
            if problem is not None:
                problems.append(f"{name}: {problem}")
        return problems

    # -- questions -----------------------------------------------------------------------------------------

    def ask(self, request: QueryRequest) -> Answer:
        """Answer from what a camera remembers now. Raises QueryError, LvmError for what is no time."""
        camera = self.camera(request.camera)
        query = request.resolve(camera.time_reader())
        forgotten = self.answer_history.count_forgotten(camera.name)
        answer = camera.ask(query)
        self.answer_history.record(camera.name, query, answer, forgotten)
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
        ingested `seconds` of its stream; then save all.

        Raises the error of the first camera that failed, when all have ended: its failure ends no other.
        """
        with self._lock:
            self._seconds, self._running, self._stay = seconds, True, stay
            for thread in self._threads.values():
                self._start(thread)
        pruned = time.monotonic()
        try:
            while not self._stopped and (stay or self._any_camera_runs()):
                with contextlib.suppress(queue.Empty):
                    call = self._calls.get(timeout=PROGRESS_EVERY_S)
                    if call is not None:
                        call()
                if on_progress is not None:
                    on_progress()
                if self._endless:
                    self.pending.retry()
                if time.monotonic() - pruned >= PRUNE_EVERY_S:
                    pruned = time.monotonic()
                    for camera in self.cameras.values():
                        camera.privacy.thumbnails.prune()
        finally:
            self._running = False
            with self._lock:
                threads = list(self._threads.values())
            _stop(threads)
        for thread in threads:
            if thread.error is not None:
                raise thread.error

    def stop(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._stopped = True
        self._calls.put(None)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have `run` make the call soon; safe in a signal handler."""
        self._calls.put(call)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            threads = list(self._threads.values())
            self._threads.clear()
        _close(threads)
        self.pool.close()

    # -- inside --------------------------------------------------------------------------------------------

    def _forget_answers(self, camera: str) -> None:
        self.answer_history.forget(camera)
        self.events.publish(Event("privacy", "update", camera, after={"forgotten": True}))

    def _publish_condition(self, camera: str, before: str, after: str) -> None:
        self.events.publish(Event("camera", "update", camera, {"condition": before}, {"condition": after}))

    def _publish_pause(self, camera: str, paused: bool) -> None:
        self.events.publish(Event("privacy", "update", camera, {"paused": not paused}, {"paused": paused}))

    def _any_camera_runs(self) -> bool:
        with self._lock:
            return any(thread.running for thread in self._threads.values())

    def _start(self, thread: CameraThread) -> None:
        # A daemon: a source that hangs inside its driver must not keep the process from ending.
        thread.thread = threading.Thread(
            target=self._watch, args=(thread,), name=f"camera {thread.camera.name}", daemon=True
        )
        thread.thread.start()

    def _watch(self, thread: CameraThread) -> None:
        """Run a camera in its thread; a live one that fails is run again after a while."""
        camera, waits, again = thread.camera, Backoff(*RETRY_WAIT_S), True
        while again:
            began, thread.error = time.monotonic(), None
            try:
                camera.run(self._seconds)
                again = False
            except Exception as error:
                thread.error = error
                name = thread.camera.name
                if not isinstance(error, LvmError):
                    log.error("camera %s failed", name, exc_info=error)
                elif self._stay or len(self._threads) > 1 or self._threads.get(name) is not thread:
                    # The error of the only camera is raised by `run`, which ends with it.
                    log.error("camera %s failed: %s", name, error)
                if time.monotonic() - began > RETRY_WAIT_S[1]:
                    waits.reset()
                # Again where nobody is there to start it, and nothing says when it is to end.
                again = self._endless and is_live(camera.settings.source) and camera.settings.patient
                again = again and not thread.leaving.wait(waits.next())
        self._calls.put(None)

    @property
    def _endless(self) -> bool:
        return self._stay and self._seconds is None


def _stop(threads: Sequence[CameraThread]) -> None:
    """Stop cameras side by side. One that hangs in its source is saved from here and left behind."""
    deadline = time.monotonic() + STOP_SECONDS
    threads = [thread for thread in threads if not thread.left_behind]
    for thread in threads:  # each from a thread, as closing a source may have to wait for its driver
        thread.leaving.set()
        camera = thread.camera
        threading.Thread(target=camera.stop, name=f"leave {camera.name}", daemon=True).start()
    for thread in threads:
        if thread.thread is not None:
            thread.thread.join(max(deadline - time.monotonic(), 0))
    for thread in threads:
        if thread.running:
            thread.left_behind = True
            log.warning("camera %s hangs in its source and is left behind", thread.camera.name)
            try:
                thread.camera.abandon()
            except LvmError as error:
                thread.error = thread.error or error


def _close(threads: Sequence[CameraThread]) -> None:
    """Stop cameras, and give their folders back."""
    _stop(threads)
    for thread in threads:
        if not thread.running:
            thread.camera.close()
        thread.camera.folder.__exit__(None, None, None)
