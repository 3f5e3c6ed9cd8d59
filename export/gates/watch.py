"""Engines that are watched: the first NaN or Inf that a caller could read ends the run and is named.

The runtime refuses NaN in tokens and scores by itself, but not in answers, and it cannot say which graph it
came from. A gate must: one NaN in a thousand frames ends a stream on a device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineFault, GateFailed, LvmError
from engines.manifest import GraphName
from engines.spec import Array, Engine, Feeds
from export.contracts import READ_WHERE
from export.gates.result import Ending
from export.networks.heads import UNANSWERABLE
from export.networks.model import GRAPHS

Graphs = Mapping[GraphName, Engine]
"""The three graphs of one network, on one backend."""


_DISPUTED = 0.25
"""Share of what either of two readers read of a question that may be of near-ties."""
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


def readable(output: str, array: Array, feeds: Feeds) -> Array:
    """The entries of one output that a caller may read."""
    return np.asarray(array[feeds[READ_WHERE[output]]]) if output in READ_WHERE else array


class Errors:
    """|got - wanted| / |wanted| of each output, Euclidean over everything added that a caller may read."""

    def __init__(self) -> None:
        self._wanted: dict[str, float] = {}
        self._missed: dict[str, float] = {}
        self.largest = 0.0
        """Of all entries, absolute."""

    def add(self, wanted: Mapping[str, Array], got: Mapping[str, Array], feeds: Feeds) -> None:
        """One more call."""
        undisputed = _undisputed(wanted, got, feeds) if "pointer_logits" in wanted else {}
        for name, array in wanted.items():
            a, b = array.astype(np.float64), got[name].astype(np.float64)
            # Which of two equal tokens the reader chose is no error of what it says of the others.
            if name in undisputed:
                keep = undisputed[name][(...,) + (None,) * (a.ndim - 2)]
                a, b = np.where(keep, a, 0), np.where(keep, b, 0)
            a, b = readable(name, a, feeds), readable(name, b, feeds)
            self.largest = max(self.largest, float(np.abs(b - a).max(initial=0.0)))
            self._wanted[name] = self._wanted.get(name, 0.0) + float(np.square(a).sum())
            self._missed[name] = self._missed.get(name, 0.0) + float(np.square(b - a).sum())

    def relative(self) -> dict[str, float]:
        """By output; NaN where something was NaN."""
        tiny = np.finfo(float).tiny
        return {
            name: float(np.sqrt(missed / max(self._wanted[name], tiny)))
            for name, missed in self._missed.items()
        }


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


def _undisputed(
    wanted: Mapping[str, Array], got: Mapping[str, Array], feeds: Feeds
) -> dict[str, NDArray[np.bool_]]:
    """By output, what rests on tokens that both readers read: of tokens (B, n), and of steps (B, L).

    A step takes its box from the tokens nearest in time. Where the nearest was read by one of both only,
    theirs are of different tokens; whoever asks is told boxes at moments whose tokens were read. A question
    of which the readers read altogether other tokens is excused nothing.
    """
    one, other = _chosen(wanted), _chosen(got)
    if np.array_equal(one, other):
        return {}
    near_ties = ((one ^ other).sum(1) <= _DISPUTED * (one | other).sum(1))[:, None]
    both = (one & other) | ~near_ties
    tokens = {"pointer_logits": both, "pointer_offsets": both}
    ticks = feeds["memory_tick"].astype(np.int64)[:, None], feeds["query_tick"].astype(np.int64)[..., None]
    apart = np.abs(ticks[0] - ticks[1])  # (B, L, n)
    never = np.iinfo(np.int64).max
    nearest = [np.where(read[:, None], apart, never).min(2) for read in (one & other, one ^ other)]
    return tokens | {"boxes_cxcywh": (nearest[0] <= nearest[1]) | ~near_ties}


def _chosen(outputs: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Tokens (B, n) that the reader read: of the others it says "not this" by a logit of -1e9. NaN is no such
    word."""
    return ~np.asarray(outputs["pointer_logits"] <= UNANSWERABLE / 10)
