"""Sampled frames of one camera that were not remembered, by reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from edge_runtime.sources.base import Source
from edge_runtime.sources.supervised import SupervisedSource
from engines.errors import EngineFault

log = logging.getLogger(__name__)

FAULT = "engine fault"
"""The reason beside those that a source knows (`DropReason`)."""


class Losses:
    """Counts since the start of the process, on top of `before` in earlier ones."""

    def __init__(self, name: str, before: int) -> None:
        self._name, self._before = name, before
        self.lost: Counter[str] = Counter()
        self.problem: str | None = None
        """What the engines said when they failed last, None while they do not."""

    @property
    def total(self) -> int:
        return self._before + sum(self.lost.values())

    def of_source(self, source: Source) -> Callable[[], None]:
        """Takes in what `source` has lost until now; the losses of sources before it stay."""
        before = Counter(self.lost)

        def count() -> None:
            if isinstance(source, SupervisedSource):
                for reason, frames in source.status.drops.items():
                    self.lost[reason] = before[reason] + frames

        return count

    def fault(self, error: EngineFault, times: Sequence[float]) -> None:
        """A batch that the engines failed at twice: a gap, and the next one."""
        before = self.lost[FAULT]
        self.lost[FAULT] += len(times)
        self.problem = str(error)
        if len(str(before)) < len(str(self.lost[FAULT])) or not before:  # 1, 10, 100 …: no disk fills
            log.warning("%s: %d frames lost so far: %s", self._name, self.lost[FAULT], error)
