"""Check the outputs of engines: the first readable NaN or Inf ends the run, and its graph is named.

The runtime itself rejects NaN in tokens and scores, but not in answers, and it cannot say which graph a NaN
came from. A gate must: one NaN in a thousand frames ends a stream on a device.
"""

from __future__ import annotations

import numpy as np

from engines.errors import EngineFault, GateFailed, LvmError
from engines.manifest import GRAPHS, GraphName
from engines.spec import Array, Engine, Feeds
from export.gates.result import Ending
from export.parity.relative_error import Errors, Graphs, select_readable

_MAX_VALUES = {"tokens": float(np.finfo(np.float16).max)}
"""Tokens are remembered in half precision."""


class RunEnded(GateFailed):
    """`graph` cannot go on, for this `reason`: on a device it would end the stream."""

    quantity: Ending

    def __init__(self, graph: GraphName, reason: str) -> None:
        super().__init__(f"{graph}: {reason}")
        self.graph, self.words = graph, reason


class NotFinite(RunEnded):
    """The graph gave NaN, Inf or too large a number."""

    quantity = "finite"


class Faulted(RunEnded):
    """The graph's engine failed while it ran."""

    quantity = "fault"


def check_engines(graphs: Graphs, *, reference: bool = False) -> dict[GraphName, Engine]:
    """Wrap the graphs so that each call is checked. Closing them is left to the caller.

    NaN from the `reference` is no fault of an export: it raises LvmError instead.
    """
    return {graph: CheckedEngine(graphs[graph], graph, reference=reference) for graph in GRAPHS}


class CheckedEngine(Engine):
    """Raises NotFinite if a readable output is not finite, or too large to be remembered; Faulted if the
    engine fails.

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
            largest = np.abs(select_readable(name, array, feeds)).max(initial=0.0)
            if not largest <= _MAX_VALUES.get(name, np.finfo(np.float32).max):
                self._refuse(name)
        return outputs

    def _refuse(self, output: str) -> None:
        if self._reference:
            raise LvmError(
                f"the network itself gives NaN or Inf in {output} of its {self._graph}, so nothing can be "
                "compared with it; train it again or export another checkpoint"
            )
        raise NotFinite(self._graph, f"output {output} holds NaN, Inf or too large a number")


class ShadowEngine(Engine):
    """Answers with `engine` and records how far that is from what `reference` gives for the same feeds."""

    def __init__(self, reference: Engine, engine: Engine) -> None:
        self.backend, self.inputs, self.outputs = engine.backend, engine.inputs, engine.outputs
        self._reference, self._engine = reference, engine
        self.reset()

    def reset(self) -> None:
        """Drop what was recorded."""
        self._errors = Errors()

    def errors(self) -> dict[str, float]:
        """Return the relative error of each output, over everything recorded."""
        return self._errors.relative()

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        expected, got = self._reference(feeds), self._engine(feeds)
        self._errors.add(expected, got, feeds)
        return got
