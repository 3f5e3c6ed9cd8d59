"""Cameras for tests: numpy engines with the default bundle's shapes, and scripted sources."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from edge_runtime.config.paths import default_bundle
from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.frame import Frame
from edge_runtime.persistence import StateFolder, to_arrays
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import EnginePool, Engines
from edge_runtime.service.runtime import Service
from edge_runtime.sources.base import BaseSource
from engines.bundle import Bundle
from engines.fake import FakeEngine
from engines.select import Choice
from tests.support.fakes import fake_backbone, fake_sampler


@cache
def fake_engines() -> Engines:
    """Return the default bundle's manifest with a numpy backbone and sampler, and no reader."""
    bundle = Bundle.open(default_bundle())
    network = bundle.manifest.network

    def fail(feeds):
        raise AssertionError("no question is asked here")

    reader = FakeEngine(fail, (), ())
    return Engines(bundle, Choice("fake", "a test"), fake_backbone(network), fake_sampler(network), reader)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)


def stop_limit_s() -> float:
    """Return the seconds that a graceful stop may take: 2, and more on a busy machine."""
    return 2.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class ScriptedSource(BaseSource):
    """Yields picture k at k seconds, from `start`; first `before(k)` is called, and may wait or raise."""

    def __init__(self, count: int, *, live: bool = False, start: float = 0.0, before=None) -> None:
        super().__init__("told", live=live)
        self._numbers = range(int(np.ceil(start - 1e-6)), count)
        self._before: Callable[[int], object] = before or (lambda k: None)

    def __iter__(self) -> Iterator[Frame]:
        for k in self._numbers:
            self._before(k)
            if self.closed:
                return
            self.tally.seen += 1
            yield Frame(picture(k), float(k))


class Hanging(BaseSource):
    """A camera whose driver never comes back, not even when it is closed."""

    def __init__(self, *, live: bool, after: int = 0) -> None:
        super().__init__("hanging", live=live)
        self._after = after
        self.reached = threading.Event()
        self.released = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for k in range(self._after):
            self.tally.seen += 1
            yield Frame(picture(k), float(k))
        self.reached.set()
        self.released.wait(30)


def equal_versions(one, two) -> bool:
    """Return whether two versions are equal bit for bit."""
    first, second = to_arrays(one), to_arrays(two)
    return (
        first.keys() == second.keys()
        and all(first[name].tobytes() == second[name].tobytes() for name in first)
        and (one.coverage, one.frames, one.last_tick) == (two.coverage, two.frames, two.last_tick)
    )


def make_camera_run(
    engines: Engines, source: str, folder: StateFolder, privacy: PrivacySettings | None = None
):
    """Return the run of one camera alone, with a state folder that is open already."""
    settings = CameraSettings(source, folder.folder, privacy=privacy or PrivacySettings(), patient=True)
    return CameraRun(EnginePool(engines), settings, folder)


class ServiceThread:
    """Runs a service in a thread."""

    def __init__(self, service: Service, **options) -> None:
        self.service, self.error = service, None
        self._thread = threading.Thread(target=self._run, kwargs=options)
        self._thread.start()

    def _run(self, **options) -> None:
        try:
            self.service.run(**options)
        except Exception as error:
            self.error = error

    def until(self, condition, what: str) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, f"{what} did not come"
            time.sleep(0.005)

    def stop(self) -> float:
        """Stop the service and return the seconds that it took."""
        began = time.monotonic()
        self.service.stop()
        self.join()
        return time.monotonic() - began

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()
