"""Engines that a process outlives: after repeated faults they are loaded again, under their users."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from edge_runtime.service.engine_set import Engines
from engines.errors import EngineFault, LvmError
from engines.spec import Array, Engine, Feeds

log = logging.getLogger(__name__)

FAULTS_BEFORE_RELOAD = 3
"""Failed calls of one graph in a row. A batch is tried twice, so one bad batch alone reloads nothing."""
RELOAD_WAIT_S = (1.0, 60.0)
"""Least time between two reloads; doubled each time until a call succeeds."""
WAITED_S = 10.0
"""How long a failed call waits for new engines, so that the next one has them. It must be well below what
`Pulse` takes for stuck (30 s): a large TensorRT engine takes longer, and is loaded beside failing calls."""
LOAD_MOST_S = 600.0
"""As long as the unit lets a first start take: what is not loaded by then never will be."""


class LastingEngines:
    """`engines` are like those given, and stay the same objects when what is behind them is replaced.

    `load` makes a new set, in a thread of its own; whatever it raises is logged, and meanwhile and after that
    the old engines go on being tried. No lock is held while it works.
    """

    def __init__(self, engines: Engines, load: Callable[[], Engines] | None = None) -> None:
        self._now = engines
        self._load = load or engines.again
        self._lock = threading.Lock()
        self._in_a_row: dict[str, int] = {}
        self._wait_s, self._not_before = RELOAD_WAIT_S[0], 0.0
        self._loads_since: float | None = None
        self._closed = False
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
            if count < FAULTS_BEFORE_RELOAD or self._loads_since is not None or self._closed:
                return
            if time.monotonic() < self._not_before:
                return
            self._loads_since = time.monotonic()
        # A daemon: a load that hangs in its driver must not keep the process from ending.
        loader = threading.Thread(
            target=self._reload, args=(name, count), name="load engines again", daemon=True
        )
        loader.start()
        loader.join(WAITED_S)

    def alive(self) -> bool:
        """Whether no load has been under way for so long that it will never end."""
        since = self._loads_since
        return since is None or time.monotonic() - since < LOAD_MOST_S

    def _reload(self, name: str, count: int) -> None:
        fresh: Engines | None = None
        try:
            fresh = self._load()
        except Exception as error:  # a driver's, too: it must not end the camera whose call it was
            log.error(
                "%s failed %d times in a row and the engines cannot be loaded again: %s", name, count, error,
                exc_info=None if isinstance(error, LvmError) else error,
            )  # fmt: skip
        with self._lock:
            gone = fresh
            if fresh is not None and not self._closed:
                log.error("%s failed %d times in a row: the engines were loaded again", name, count)
                gone, self._now = self._now, fresh
                self.reloads += 1
                self._in_a_row.clear()
            self._not_before = time.monotonic() + self._wait_s
            self._wait_s = min(2 * self._wait_s, RELOAD_WAIT_S[1])
            self._loads_since = None
        if gone is not None:
            try:
                gone.close()
            except Exception as error:
                log.error("engines that failed cannot be closed: %s", error)

    def _worked(self, name: str) -> None:
        with self._lock:
            if self._in_a_row.pop(name, 0):
                self._wait_s = RELOAD_WAIT_S[0]

    def close(self) -> None:
        with self._lock:
            self._closed = True
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
