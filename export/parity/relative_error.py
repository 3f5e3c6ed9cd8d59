"""How far outputs of two engines lie apart, relative to their spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engines.manifest import GraphName
from engines.spec import Array, Engine, Feeds
from export.networks.heads import UNANSWERABLE
from export.networks.signatures import READ_WHERE

Graphs = Mapping[GraphName, Engine]
"""The three graphs of one network, on one backend."""


_DISPUTED = 0.25
"""Share of what either of two readers read of a question that may be of near-ties."""


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
