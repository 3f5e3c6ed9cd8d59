"""An engine that fails again and again is loaded anew; whoever uses it keeps what they have."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import edge_runtime.service.engine_reload as module
from edge_runtime.service.engine_reload import FAULTS_BEFORE_RELOAD, LastingEngines
from engines.errors import EngineFault, Missing
from engines.fake import FakeEngine
from tests.support.cameras import fake_engines


class Set:
    """Engines whose backbone fails while `broken`, and that know whether they were closed."""

    def __init__(self, *, broken: bool) -> None:
        self.broken, self.closed = broken, False
        engines = fake_engines()
        self._real = engines.backbone
        backbone = FakeEngine(self._run, engines.backbone.inputs, engines.backbone.outputs)
        backbone.close = self._close  # type: ignore[method-assign]
        self.engines = replace(engines, backbone=backbone)

    def _run(self, feeds):
        if self.broken:
            raise EngineFault("the device is lost")
        return self._real(feeds)

    def _close(self) -> None:
        self.closed = True


def _feeds() -> dict[str, np.ndarray]:
    size = fake_engines().bundle.manifest.network.image_size
    return {"image": np.zeros((1, size, size, 3), np.uint8)}


def _fail(lasting: LastingEngines, times: int) -> None:
    for _ in range(times):
        with pytest.raises(EngineFault, match="the device is lost"):
            lasting.engines.backbone(_feeds())


def test_after_a_few_faults_in_a_row_the_same_object_runs_new_engines():
    old, new = Set(broken=True), Set(broken=False)
    lasting = LastingEngines(old.engines, lambda: new.engines)
    backbone = lasting.engines.backbone
    _fail(lasting, FAULTS_BEFORE_RELOAD)
    assert old.closed and backbone(_feeds())["tokens"].shape == (1, 49, backbone.outputs[0].shape[2])
    assert (lasting.faults, lasting.reloads) == (FAULTS_BEFORE_RELOAD, 1)


def test_faults_with_successes_between_reload_nothing():
    one = Set(broken=True)
    lasting = LastingEngines(one.engines, lambda: pytest.fail("nothing is to be loaded"))
    for _ in range(4):
        one.broken = True
        _fail(lasting, FAULTS_BEFORE_RELOAD - 1)
        one.broken = False
        lasting.engines.backbone(_feeds())
    assert lasting.reloads == 0 and lasting.faults == 4 * (FAULTS_BEFORE_RELOAD - 1)


def test_engines_that_stay_broken_are_loaded_ever_more_seldom(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    made: list[float] = []

    def load():
        made.append(now[0])
        return Set(broken=True).engines

    lasting = LastingEngines(Set(broken=True).engines, load)
    for _ in range(2400):  # ten minutes of four faults a second
        _fail(lasting, 1)
        now[0] += 0.25
    waits = np.diff(made)
    assert 8 <= len(made) <= 20 and all(waits[:5] >= [1, 2, 4, 8, 16]) and waits.max() <= 61


def test_engines_that_cannot_be_loaded_again_go_on_being_tried():
    one = Set(broken=True)

    def load():
        raise Missing("the GPU has gone")

    lasting = LastingEngines(one.engines, load)
    _fail(lasting, 2 * FAULTS_BEFORE_RELOAD)
    one.broken = False
    assert not one.closed and "tokens" in lasting.engines.backbone(_feeds()) and lasting.reloads == 0


def test_wrong_feeds_are_no_fault_of_the_engine():
    lasting = LastingEngines(Set(broken=False).engines)
    with pytest.raises(ValueError):
        lasting.engines.backbone({})
    assert lasting.faults == 0


@pytest.mark.parametrize("error", [OSError("no such device"), RuntimeError("the driver is gone")], ids=str)
def test_whatever_a_backend_raises_when_it_is_loaded_ends_no_camera(error, caplog):
    one = Set(broken=True)

    def load():
        raise error

    lasting = LastingEngines(one.engines, load)
    _fail(lasting, 2 * FAULTS_BEFORE_RELOAD)
    one.broken = False
    assert not one.closed and "tokens" in lasting.engines.backbone(_feeds()) and lasting.reloads == 0
    assert f"cannot be loaded again: {error}" in caplog.text


def test_a_long_load_holds_up_no_call_and_is_used_when_it_is_there(monkeypatch):
    """What waits for half a minute is a hang to systemd's watchdog."""
    monkeypatch.setattr(module, "WAITED_S", 0.01)
    old, new, ready = Set(broken=True), Set(broken=False), threading.Event()

    def load():
        assert ready.wait(20)
        return new.engines

    lasting = LastingEngines(old.engines, load)
    _fail(lasting, 5 * FAULTS_BEFORE_RELOAD)  # it would wait here for ever
    assert lasting.alive() and lasting.reloads == 0
    monkeypatch.setattr(module, "LOAD_MOST_S", 0.0)
    assert not lasting.alive()
    ready.set()
    end = time.monotonic() + 20
    while not old.closed:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert lasting.alive() and lasting.reloads == 1 and "tokens" in lasting.engines.backbone(_feeds())


def test_engines_that_come_when_all_is_over_are_closed(monkeypatch):
    monkeypatch.setattr(module, "WAITED_S", 0.01)
    new, ready = Set(broken=False), threading.Event()

    def load():
        assert ready.wait(20)
        return new.engines

    lasting = LastingEngines(Set(broken=True).engines, load)
    _fail(lasting, FAULTS_BEFORE_RELOAD)
    lasting.close()
    ready.set()
    end = time.monotonic() + 20
    while not new.closed:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert lasting.reloads == 0
