"""Engines that are watched: the first NaN or Inf that a caller could read ends the run and is named.

The runtime refuses NaN in tokens and scores by itself, but not in answers, and it cannot say which graph it
came from. A gate must: one NaN in a thousand frames ends a stream on a device.
"""

from __future__ import annotations

import numpy as np

from engines.errors import EngineFault, GateFailed, LvmError
from engines.manifest import GRAPHS, GraphName
from engines.spec import Array, Engine, Feeds
from export.gates.result import Ending
from export.parity.relative_error import Errors, Graphs, readable

_LARGEST = {"tokens": float(np.finfo(np.float16).max)}
"""Tokens are remembered in half precision."""


class Ended(GateFailed):
    """`graph` cannot go on, for the reason `words`: what ends a stream on a device."""

    quantity: Ending

    def __init__(self, graph: GraphName, words: str) -> None:
        super().__init__(f"{graph}: {words}")
        self.graph, self.words = graph, words


class NotFinite(Ended):
    """It gave NaN, Inf or too large a number."""

    quantity = "finite"


class Faulted(Ended):
    """Its engine failed while it ran."""

    quantity = "fault"


def watched(graphs: Graphs, *, reference: bool = False) -> dict[GraphName, Engine]:
    """The same graphs, each call checked. Closing stays with whoever loaded them.

    NaN of the `reference` is no fault of an export: it raises LvmError instead.
    """
    return {graph: Watched(graphs[graph], graph, reference=reference) for graph in GRAPHS}


class Watched(Engine):
    """Raises NotFinite as soon as something that may be read is no number, or too large to be remembered.

    Raises Faulted where the engine fails.
    """

    def __init__(self, inner: Engine, graph: GraphName, *, reference: bool = False) -> None:
        self.backend, self.inputs, self.outputs = inner.backend, inner.inputs, inner.outputs
        self._inner, self._graph, self._reference = inner, graph, reference

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        try:
            outputs = self._inner(feeds)
        except EngineFault as error:
            if self._reference:
                raise
            raise Faulted(self._graph, f"the engine failed: {error}") from error
        for name, array in outputs.items():
            largest = np.abs(readable(name, array, feeds)).max(initial=0.0)
            if not largest <= _LARGEST.get(name, np.finfo(np.float32).max):
                self._refuse(name)
        return outputs

    def _refuse(self, output: str) -> None:
        if self._reference:
            raise LvmError(
                f"the network itself gives NaN or Inf in {output} of its {self._graph}, so nothing can be "
                "compared with it; train it again or export another checkpoint"
            )
        raise NotFinite(self._graph, f"output {output} holds NaN, Inf or too large a number")


class Beside(Engine):
    """Answers by `engine` and notes how far that is from what `reference` says of the same feeds."""

    def __init__(self, reference: Engine, engine: Engine) -> None:
        self.backend, self.inputs, self.outputs = engine.backend, engine.inputs, engine.outputs
        self._reference, self._engine = reference, engine
        self.forget()

    def forget(self) -> None:
        """Begin to note anew."""
        self._errors = Errors()

    def errors(self) -> dict[str, float]:
        """Of each output, over everything noted."""
        return self._errors.relative()

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        wanted, got = self._reference(feeds), self._engine(feeds)
        self._errors.add(wanted, got, feeds)
        return got
