"""The three graphs of a bundle on one backend, and a process that leaves them the cores."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from edge_runtime.system.malloc import tune_malloc
from engines.bundle import Bundle
from engines.select import Choice, load_engines
from engines.spec import Engine

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 1e-4


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
        _tune_process()
        choice, loaded = load_engines(bundle, backend, threads=threads)
        log.info("backend %s (%s)", choice.backend, choice.why)
        return cls(bundle, choice, loaded["backbone"], loaded["sampler"], loaded["reader"], threads)

    def again(self) -> Engines:
        """The same graphs, loaded anew on the same backend."""
        return Engines.load(self.bundle, self.choice.backend, self.threads)

    def close(self) -> None:
        for engine in (self.backbone, self.sampler, self.reader):
            engine.close()


def _tune_process() -> None:
    """Leave the cores to the engines. Process-wide; costs nothing where nothing competes."""
    # Our own matrices are small: a second BLAS thread only fights with the backend's (0.2 ms against 6 ms
    # for a clip's novelty on two busy cores).
    threadpool_limits(1, user_api="blas")
    # The worker that feeds the engines would wait up to Python's default of 5 ms for the interpreter.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    tune_malloc()
