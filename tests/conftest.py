"""Fixtures for all tests: a seeded generator, the default bundle's engines, services over fake engines."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest

from tests.support.stalls import protocol

WIDTH = 16
pytest_runtest_protocol = protocol
"""Runs tests with bounds in seconds again if the machine stood still."""


@pytest.fixture(scope="session", autouse=True)
def session_state_home(tmp_path_factory):
    """As `state_home`, for services of whole modules, which begin before their first test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("session-state")))
        yield


@pytest.fixture(autouse=True)
def state_home(monkeypatch, tmp_path_factory, request):
    """A folder for states of its own: what a test leaves where users have theirs would be found by others."""
    place = tmp_path_factory.getbasetemp() / f"state-{abs(hash(request.node.nodeid))}"
    monkeypatch.setenv("XDG_STATE_HOME", str(place))


@pytest.fixture(scope="session", autouse=True)
def lowered_graphs(tmp_path_factory, worker_id):
    """Graphs that were made once for the processes of this run, where tests of this process write bundles."""
    if "export.quantization.variants" not in sys.modules:
        yield
        return
    from tests.support.lowered_graphs import share_graphs

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "lowered"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        share_graphs(folder, patch)
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def engines():
    """The default bundle's engines, for onnxruntime with one thread."""
    from edge_runtime.config.paths import default_bundle
    from edge_runtime.service.engine_pool import Engines
    from engines.bundle import Bundle

    loaded = Engines.load(Bundle.open(default_bundle()), "onnxruntime", threads=1)
    yield loaded
    loaded.close()


@pytest.fixture
def sources(monkeypatch):
    """A dictionary that decides which source a name opens: a function of `start`."""
    openers: dict = {}
    monkeypatch.setattr(
        "edge_runtime.service.camera.open_source",
        lambda spec, *, sample_fps, start, settings: openers[spec](start),
    )
    return openers


@pytest.fixture
def watch(tmp_path):
    """A function that opens a service over fake engines."""
    from edge_runtime.service.runtime import Service
    from tests.support.cameras import fake_engines

    made: list[Service] = []

    def open_service(engines=None, load=None):
        service = Service(engines or fake_engines(), load or fake_engines)
        made.append(service)
        return service

    yield open_service
    for service in made:
        service.__exit__(None, None, None)


@pytest.fixture
def settings(tmp_path):
    """A function that makes the settings of a camera, with a folder of its own."""
    from edge_runtime.service.camera_settings import CameraSettings

    def make(name: str, source: str | None = None, **more) -> CameraSettings:
        return CameraSettings(source or name, tmp_path / name, name, **more)

    return make


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Restore logging after a test that configures it, or runs a command that does."""
    root = logging.getLogger()
    level, before, disabled = root.level, list(root.handlers), root.manager.disable
    yield
    root.setLevel(level)
    logging.disable(disabled)
    for handler in list(root.handlers):
        if handler not in before and getattr(handler, "of_lvm_edge", False):
            root.removeHandler(handler)
            handler.close()
