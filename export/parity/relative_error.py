"""Measure how far the outputs of two engines differ, relative to their size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engines.manifest import GraphName
from engines.spec import Array, Engine, Feeds
from export.networks.heads import UNANSWERABLE
from export.networks.signatures import READABLE_WHERE

Graphs = Mapping[GraphName, Engine]
"""The three graphs of one network, on one backend."""


_MAX_DISPUTED = 0.25
"""Maximum share of the tokens read by either of two readers that may count as near-ties."""


def select_readable(output: str, array: Array, feeds: Feeds) -> Array:
    """Return the entries of one output that a caller may read."""
    return np.asarray(array[feeds[READABLE_WHERE[output]]]) if output in READABLE_WHERE else array


class Errors:
    """|got - expected| / |expected| of each output, Euclidean over all readable entries that were added."""

    def __init__(self) -> None:
        self._wanted: dict[str, float] = {}
        self._missed: dict[str, float] = {}
        self.largest = 0.0
        """Of all entries, absolute."""

    def add(self, expected: Mapping[str, Array], got: Mapping[str, Array], feeds: Feeds) -> None:
        """Add the outputs of one call."""
        undisputed = _find_undisputed(expected, got, feeds) if "pointer_logits" in expected else {}
        for name, array in expected.items():
            a, b = array.astype(np.float64), got[name].astype(np.float64)
            # A different choice between equal tokens is no error in the outputs of the other tokens.
            if name in undisputed:
                keep = undisputed[name][(...,) + (None,) * (a.ndim - 2)]
                a, b = np.where(keep, a, 0), np.where(keep, b, 0)
            a, b = select_readable(name, a, feeds), select_readable(name, b, feeds)
            self.largest = max(self.largest, float(np.abs(b - a).max(initial=0.0)))
            self._wanted[name] = self._wanted.get(name, 0.0) + float(np.square(a).sum())
            self._missed[name] = self._missed.get(name, 0.0) + float(np.square(b - a).sum())

    def relative(self) -> dict[str, float]:
        """Return the relative error of each output; NaN where something was NaN."""
        tiny = np.finfo(float).tiny
        return {
            name: float(np.sqrt(missed / max(self._wanted[name], tiny)))
            for name, missed in self._missed.items()
        }


def _find_undisputed(
    expected: Mapping[str, Array], got: Mapping[str, Array], feeds: Feeds
) -> dict[str, NDArray[np.bool_]]:
    """Return, by output, flags of what rests on tokens that both readers read: of tokens (B, n), and of steps
    (B, L).

    A step takes its box from the tokens nearest in time. Where only one reader read the nearest token, the
    boxes belong to different tokens; an answer has boxes only at times whose tokens were read. A question for
    which the readers read altogether different tokens is compared in full.
    """
    ours, theirs = _find_read_tokens(expected), _find_read_tokens(got)
    if np.array_equal(ours, theirs):
        return {}
    near_ties = ((ours ^ theirs).sum(1) <= _MAX_DISPUTED * (ours | theirs).sum(1))[:, None]
    both = (ours & theirs) | ~near_ties
    tokens = {"pointer_logits": both, "pointer_offsets": both}
    ticks = feeds["memory_tick"].astype(np.int64)[:, None], feeds["query_tick"].astype(np.int64)[..., None]
    apart = np.abs(ticks[0] - ticks[1])  # (B, L, n)
    never = np.iinfo(np.int64).max
    nearest = [np.where(read[:, None], apart, never).min(2) for read in (ours & theirs, ours ^ theirs)]
    return tokens | {"boxes_cxcywh": (nearest[0] <= nearest[1]) | ~near_ties}


def _find_read_tokens(outputs: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Return flags (B, n) of the tokens that the reader read: the others have a logit of -1e9. NaN counts as
    read."""
    return ~np.asarray(outputs["pointer_logits"] <= UNANSWERABLE / 10)
