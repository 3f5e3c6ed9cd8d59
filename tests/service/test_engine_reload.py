"""An engine that fails again and again is loaded anew; whoever uses it keeps what they have."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import edge_runtime.service.engine_pool as module
from edge_runtime.service.engine_pool import FAULTS_BEFORE_RELOAD, EnginePool
from engines.errors import EngineFault, Unavailable
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


def _fail(pool: EnginePool, times: int) -> None:
    for _ in range(times):
        with pytest.raises(EngineFault, match="the device is lost"):
            pool.engines.backbone(_feeds())


def test_after_a_few_faults_in_a_row_the_same_object_runs_new_engines():
    old, new = Set(broken=True), Set(broken=False)
    pool = EnginePool(old.engines, lambda: new.engines)
    backbone = pool.engines.backbone
    _fail(pool, FAULTS_BEFORE_RELOAD)
    assert old.closed and backbone(_feeds())["tokens"].shape == (1, 49, backbone.outputs[0].shape[2])
    assert (pool.faults, pool.reloads) == (FAULTS_BEFORE_RELOAD, 1)


def test_faults_with_successes_between_reload_nothing():
    one = Set(broken=True)
    pool = EnginePool(one.engines, lambda: pytest.fail("nothing is to be loaded"))
    for _ in range(4):
        one.broken = True
        _fail(pool, FAULTS_BEFORE_RELOAD - 1)
        one.broken = False
        pool.engines.backbone(_feeds())
    assert pool.reloads == 0 and pool.faults == 4 * (FAULTS_BEFORE_RELOAD - 1)


def test_engines_that_stay_broken_are_loaded_ever_more_seldom(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    made: list[float] = []

    def load():
        made.append(now[0])
        return Set(broken=True).engines

    pool = EnginePool(Set(broken=True).engines, load)
    for _ in range(2400):  # ten minutes of four faults a second
        _fail(pool, 1)
        now[0] += 0.25
    waits = np.diff(made)
    assert 8 <= len(made) <= 20 and all(waits[:5] >= [1, 2, 4, 8, 16]) and waits.max() <= 61


def test_engines_that_cannot_be_loaded_again_go_on_being_tried():
    one = Set(broken=True)

    def load():
        raise Unavailable("the GPU has gone")

    pool = EnginePool(one.engines, load)
    _fail(pool, 2 * FAULTS_BEFORE_RELOAD)
    one.broken = False
    assert not one.closed and "tokens" in pool.engines.backbone(_feeds()) and pool.reloads == 0


def test_wrong_feeds_are_no_fault_of_the_engine():
    pool = EnginePool(Set(broken=False).engines)
    with pytest.raises(ValueError):
        pool.engines.backbone({})
    assert pool.faults == 0


@pytest.mark.parametrize("error", [OSError("no such device"), RuntimeError("the driver is gone")], ids=str)
def test_whatever_a_backend_raises_when_it_is_loaded_ends_no_camera(error, caplog):
    one = Set(broken=True)

    def load():
        raise error

    pool = EnginePool(one.engines, load)
    _fail(pool, 2 * FAULTS_BEFORE_RELOAD)
    one.broken = False
    assert not one.closed and "tokens" in pool.engines.backbone(_feeds()) and pool.reloads == 0
    assert f"cannot be loaded again: {error}" in caplog.text


def test_a_long_load_holds_up_no_call_and_is_used_when_it_is_there(monkeypatch):
    """What waits for half a minute is a hang to systemd's watchdog."""
    monkeypatch.setattr(module, "LOAD_WAIT_S", 0.01)
    old, new, ready = Set(broken=True), Set(broken=False), threading.Event()

    def load():
        assert ready.wait(20)
        return new.engines

    pool = EnginePool(old.engines, load)
    _fail(pool, 5 * FAULTS_BEFORE_RELOAD)  # it would wait here for ever
    assert pool.is_alive() and pool.reloads == 0
    monkeypatch.setattr(module, "MAX_LOAD_S", 0.0)
    assert not pool.is_alive()
    ready.set()
    end = time.monotonic() + 20
    while not old.closed:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert pool.is_alive() and pool.reloads == 1 and "tokens" in pool.engines.backbone(_feeds())


def test_engines_that_come_when_all_is_over_are_closed(monkeypatch):
    monkeypatch.setattr(module, "LOAD_WAIT_S", 0.01)
    new, ready = Set(broken=False), threading.Event()

    def load():
        assert ready.wait(20)
        return new.engines

    pool = EnginePool(Set(broken=True).engines, load)
    _fail(pool, FAULTS_BEFORE_RELOAD)
    pool.close()
    ready.set()
    end = time.monotonic() + 20
    while not new.closed:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert pool.reloads == 0
