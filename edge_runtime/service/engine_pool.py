"""Share one set of engines among several cameras, and load engines again that keep failing.

Each camera calls the engines through its own `EngineClient`, which has at most one call waiting. So the order
of arrival is fair: before a camera is served a second time, every camera that waits is served once, whatever
their frame rates, and no call waits longer than one call of each other camera. There is no scheduling thread:
the thread at the head of the queue makes the call, for itself and for those behind it whose single live
frames fit into the same batch. With one camera that costs nothing.

Questions do not wait for frames: their calls go past the queue, one at a time. More at once gain nothing on a
device's few cores, and a backend keeps memory for as many calls as it ever ran side by side.

A camera's call that fails is made once more. Frames of several cameras that failed together are tried again
apart, so that one camera's picture cannot cost another camera its frame. After a few faults of one graph in a
row all engines are loaded again; clients keep their objects and call the new engines from then on.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from edge_runtime.ingest.pipeline import BATCH_FRAMES
from edge_runtime.system.errors import CallAbandoned
from edge_runtime.system.malloc import tune_malloc
from engines.bundle import Bundle
from engines.errors import EngineFault, LvmError
from engines.manifest import GraphName
from engines.select import Choice, load_engines
from engines.spec import Array, Engine, Feeds

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 1e-4
FAULTS_BEFORE_RELOAD = 3
"""Failed calls of one graph in a row. A batch is tried twice, so one bad batch alone reloads nothing."""
RELOAD_WAIT_S = (1.0, 60.0)
"""First and longest wait between two reloads; it doubles until a call succeeds."""
LOAD_WAIT_S = 10.0
"""How long a failed call waits for new engines, so that the next call has them. It must be well below what
`Watchdog` takes for stuck (30 s): a large TensorRT engine takes longer, and loads beside failing calls."""
MAX_LOAD_S = 600.0
"""As long as the systemd unit gives a first start: what is not loaded by then never will be."""


@dataclass(frozen=True)
class Engines:
    """The three graphs of a bundle, loaded on one backend."""

    bundle: Bundle
    choice: Choice
    backbone: Engine
    sampler: Engine
    reader: Engine
    threads: int | None = None

    @classmethod
    def load(cls, bundle: Bundle, backend: str = "auto", threads: int | None = None) -> Engines:
        """Load the graphs, and tune this process so that it leaves the cores to them."""
        # Leave the cores to the engines. Process-wide; costs nothing where nothing competes.
        # Our own matrices are small: a second BLAS thread only fights with the backend's (0.2 ms against 6 ms
        # for a clip's novelty on two busy cores).
        threadpool_limits(1, user_api="blas")
        # The worker that feeds the engines would wait up to Python's default of 5 ms for the interpreter.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        tune_malloc()
        choice, loaded = load_engines(bundle, backend, threads=threads)
        log.info("backend %s (%s)", choice.backend, choice.why)
        return cls(bundle, choice, loaded["backbone"], loaded["sampler"], loaded["reader"], threads)

    def load_again(self) -> Engines:
        """Load the same graphs anew on the same backend."""
        return Engines.load(self.bundle, self.choice.backend, self.threads)

    def close(self) -> None:
        for engine in (self.backbone, self.sampler, self.reader):
            engine.close()


class PooledEngine(Engine):
    """One graph of a pool. It checks feeds and passes them to `run`; a reload does not replace it."""

    def __init__(self, engine: Engine, run: Callable[[Feeds], dict[str, Array]]) -> None:
        self.backend, self.inputs, self.outputs = engine.backend, engine.inputs, engine.outputs
        self._pass_on = run

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        return self._pass_on(feeds)


class EnginePool:
    """The engines of a process. All methods may be called from any thread.

    `load` makes a new set of engines after repeated faults, by default of the same graphs on the same
    backend. It runs in a thread of its own with no lock held. What it raises is logged; until it succeeds
    the old engines go on being tried.
    """

    def __init__(self, engines: Engines, load: Callable[[], Engines] | None = None) -> None:
        self._loaded = engines
        self._load = load or engines.load_again

        def pooled(graph: GraphName, lock: threading.Lock | None = None) -> Engine:
            def run(feeds: Feeds) -> dict[str, Array]:
                if lock is None:
                    return self._run_graph(graph, feeds)
                with lock:
                    return self._run_graph(graph, feeds)

            return PooledEngine(getattr(engines, graph), run)

        query_lock = threading.Lock()
        self.query_backbone, self.query_reader = pooled("backbone", query_lock), pooled("reader", query_lock)
        """What questions call, of any camera."""
        self.engines = replace(
            engines, backbone=pooled("backbone"), sampler=pooled("sampler"), reader=pooled("reader")
        )
        """Engines whose calls wait for no other."""
        # Scheduling
        self._queue_changed = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._busy = False
        # Reloading
        self._lock = threading.Lock()
        self._faults_in_a_row: dict[GraphName, int] = {}
        self._wait_s, self._not_before = RELOAD_WAIT_S[0], 0.0
        self._loading_since: float | None = None
        self._closed = False
        self.faults = 0
        """Failed engine calls so far."""
        self.reloads = 0

    def client(self, name: str) -> EngineClient:
        """Return a new client, for the camera of that name."""
        return EngineClient(self, name)

    def is_alive(self) -> bool:
        """Whether no load has been under way for so long that it will never end."""
        since = self._loading_since
        return since is None or time.monotonic() - since < MAX_LOAD_S

    def close(self) -> None:
        """Close the engines, and those that a load still brings."""
        with self._lock:
            self._closed = True
        self._loaded.close()

    # -- scheduling ----------------------------------------------------------------------------------------

    def call_in_turn(self, call: _Call) -> dict[str, Array]:
        """Wait for its turn and return the outputs. Raises CallAbandoned, and what the engine raises."""
        with self._queue_changed:
            if call.client.cancelled:
                raise CallAbandoned(f"{call.client.name} was left")
            self._waiting.append(call)
            self._queue_changed.wait_for(lambda: call.done or (not self._busy and self._waiting[0] is call))
            if not call.done:
                batch = self._take_batch()
                self._busy = True
        if not call.done:
            try:
                self._run_batch(batch)
            finally:
                with self._queue_changed:
                    self._busy = False
                    for served in batch:
                        served.done = True
                    self._queue_changed.notify_all()
        if call.error is not None:
            raise call.error
        return call.outputs

    def cancel(self, client: EngineClient) -> None:
        """Drop the client's waiting call, so that a camera that stops need not wait for the others."""
        with self._queue_changed:
            client.cancelled = True
            for call in [call for call in self._waiting if call.client is client]:
                self._waiting.remove(call)
                call.done, call.error = True, CallAbandoned(f"{client.name} was left")
            self._queue_changed.notify_all()

    def _take_batch(self) -> list[_Call]:
        """Remove from the queue its first call and those that can share an engine call with it."""
        first = self._waiting.popleft()
        batch, free = [first], BATCH_FRAMES - first.frames
        for call in list(self._waiting) if first.shares else ():
            if call.shares and call.graph == first.graph and call.frames <= free:
                free -= call.frames
                self._waiting.remove(call)
                batch.append(call)
        return batch

    def _run_batch(self, batch: Sequence[_Call]) -> None:
        """Run a batch, its calls apart where it failed; each call then has its outputs or its error."""
        try:
            self._run_together(batch)
            return
        except EngineFault:
            for call in batch:
                call.client.faults += 1
        except Exception as error:  # wrong feeds: trying again would not make them right
            for call in batch:
                call.error = error
            return
        for call in batch:
            try:
                self._run_together([call])
            except Exception as error:
                call.client.faults += isinstance(error, EngineFault)
                call.error = error

    def _run_together(self, batch: Sequence[_Call]) -> None:
        graph, feeds = batch[0].graph, batch[0].feeds
        if len(batch) == 1:
            batch[0].outputs = self._run_graph(graph, feeds)
            return
        outputs = self._run_graph(
            graph, {n: np.concatenate([call.feeds[n] for call in batch]) for n in feeds}
        )
        start = 0
        for call in batch:
            end = start + call.frames
            call.outputs = {name: array[start:end] for name, array in outputs.items()}
            start = end

    # -- reloading -----------------------------------------------------------------------------------------

    def _run_graph(self, graph: GraphName, feeds: Feeds) -> dict[str, Array]:
        """Run checked feeds. Raises EngineFault; after a few in a row the next call finds new engines."""
        engines = self._loaded
        engine: Engine = getattr(engines, graph)
        try:
            outputs = engine.run_checked(feeds)
        except EngineFault as error:
            if engines is not self._loaded:  # replaced, and perhaps closed, while it was running
                return self._run_graph(graph, feeds)
            self._count_fault(graph, error)
            raise
        if graph in self._faults_in_a_row:  # else there is nothing to reset, and no lock to wait for
            with self._lock:
                if self._faults_in_a_row.pop(graph, 0):
                    self._wait_s = RELOAD_WAIT_S[0]
        return outputs

    def _count_fault(self, graph: GraphName, error: EngineFault) -> None:
        """Count a fault; where it is one too many, load engines again and wait for them a while."""
        with self._lock:
            self.faults += 1
            count = self._faults_in_a_row[graph] = self._faults_in_a_row.get(graph, 0) + 1
            if count == 1:
                log.warning("%s: %s", graph, error)
            if count < FAULTS_BEFORE_RELOAD or self._loading_since is not None or self._closed:
                return
            if time.monotonic() < self._not_before:
                return
            self._loading_since = time.monotonic()
        # A daemon: a load that hangs in its driver must not keep the process from ending.
        loader = threading.Thread(
            target=self._reload, args=(graph, count), name="load engines again", daemon=True
        )
        loader.start()
        loader.join(LOAD_WAIT_S)

    def _reload(self, graph: GraphName, count: int) -> None:
        fresh: Engines | None = None
        try:
            fresh = self._load()
        except Exception as error:  # a driver's, too: it must not end the camera whose call it was
            log.error(
                "%s failed %d times in a row and the engines cannot be loaded again: %s", graph, count, error,
                exc_info=None if isinstance(error, LvmError) else error,
            )  # fmt: skip
        with self._lock:
            unused = fresh
            if fresh is not None and not self._closed:
                log.error("%s failed %d times in a row: the engines were loaded again", graph, count)
                unused, self._loaded = self._loaded, fresh
                self.reloads += 1
                self._faults_in_a_row.clear()
            self._not_before = time.monotonic() + self._wait_s
            self._wait_s = min(2 * self._wait_s, RELOAD_WAIT_S[1])
            self._loading_since = None
        if unused is not None:
            try:
                unused.close()
            except Exception as error:
                log.error("engines that failed cannot be closed: %s", error)


class EngineClient:
    """One camera's engines: `backbone` and `sampler` are called like the real ones and wait for their turn.

    `shares_calls` says whether this camera's frames may share a backbone call with those of other cameras. A
    file's never do: its batches are full anyway, and must have the same shape whether the run was interrupted
    or not.
    """

    def __init__(self, pool: EnginePool, name: str) -> None:
        self.name = name
        self.shares_calls = False
        self.cancelled = False
        """While true, calls raise CallAbandoned."""
        self.faults = 0
        """Engine calls with a frame of this camera that failed, retries among them."""
        self._pool = pool
        engines = pool.engines
        self.backbone: Engine = PooledEngine(
            engines.backbone,
            lambda feeds: pool.call_in_turn(_Call(self, "backbone", feeds, self.shares_calls)),
        )
        self.sampler: Engine = PooledEngine(
            engines.sampler, lambda feeds: pool.call_in_turn(_Call(self, "sampler", feeds, False))
        )

    def cancel(self) -> None:
        """Give up the call that waits, and those to come until `cancelled` is reset."""
        self._pool.cancel(self)


@dataclass(eq=False)
class _Call:
    """An engine call that a client waits for, and its result. `shares`: it may be part of a larger call."""

    client: EngineClient
    graph: GraphName
    feeds: Feeds
    shares: bool
    done: bool = False
    outputs: dict[str, Array] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def frames(self) -> int:
        return len(next(iter(self.feeds.values())))
