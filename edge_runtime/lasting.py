"""Engines that a process outlives: after repeated faults they are loaded again, under their users."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from edge_runtime.engine_set import Engines
from engines.errors import EngineFault, LvmError
from engines.spec import Array, Engine, Feeds

log = logging.getLogger(__name__)

FAULTS_BEFORE_RELOAD = 3
"""Failed calls of one graph in a row. A batch is tried twice, so one bad batch alone reloads nothing."""
RELOAD_WAIT_S = (1.0, 60.0)
"""Least time between two reloads; doubled each time until a call succeeds."""


class LastingEngines:
    """`engines` are like those given, and stay the same objects when what is behind them is replaced.

    `load` makes a new set; what it raises is logged, and the old engines go on being tried.
    """

    def __init__(self, engines: Engines, load: Callable[[], Engines] | None = None) -> None:
        self._now = engines
        self._load = load or engines.again
        self._lock = threading.Lock()
        self._in_a_row: dict[str, int] = {}
        self._wait_s, self._not_before = RELOAD_WAIT_S[0], 0.0
        self.faults = 0
        """Failed engine calls so far."""
        self.reloads = 0
        self.engines = replace(
            engines,
            backbone=_Lasting(self, "backbone", engines.backbone),
            sampler=_Lasting(self, "sampler", engines.sampler),
            reader=_Lasting(self, "reader", engines.reader),
        )

    def run(self, name: str, feeds: Feeds) -> dict[str, Array]:
        """Call the graph. Raises EngineFault; after a few in a row the next call finds new engines."""
        engines = self._now
        try:
            outputs = self._of(engines, name)(feeds)
        except EngineFault as error:
            if engines is not self._now:  # replaced, and perhaps closed, while it was running
                return self.run(name, feeds)
            self._failed(name, error)
            raise
        if name in self._in_a_row:  # else there is nothing to forget, and no lock to wait for
            self._worked(name)
        return outputs

    def _failed(self, name: str, error: EngineFault) -> None:
        with self._lock:
            self.faults += 1
            count = self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
            if count == 1:
                log.warning("%s: %s", name, error)
            if count < FAULTS_BEFORE_RELOAD or time.monotonic() < self._not_before:
                return
            self._not_before = time.monotonic() + self._wait_s
            self._wait_s = min(2 * self._wait_s, RELOAD_WAIT_S[1])
            self._reload(name, count)

    def _reload(self, name: str, count: int) -> None:
        try:
            fresh = self._load()
        except LvmError as error:
            log.error(
                "%s failed %d times in a row and the engines cannot be loaded again: %s", name, count, error
            )
            return
        log.error("%s failed %d times in a row: the engines were loaded again", name, count)
        old, self._now = self._now, fresh
        self.reloads += 1
        self._in_a_row.clear()
        old.close()

    def _worked(self, name: str) -> None:
        with self._lock:
            if self._in_a_row.pop(name, 0):
                self._wait_s = RELOAD_WAIT_S[0]

    def close(self) -> None:
        self._now.close()

    @staticmethod
    def _of(engines: Engines, name: str) -> Engine:
        return {"backbone": engines.backbone, "sampler": engines.sampler, "reader": engines.reader}[name]


class _Lasting(Engine):
    """One graph of `LastingEngines`."""

    def __init__(self, owner: LastingEngines, name: str, engine: Engine) -> None:
        self.backend, self.inputs, self.outputs = engine.backend, engine.inputs, engine.outputs
        self._owner, self._name = owner, name

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        return self._owner.run(self._name, feeds)
