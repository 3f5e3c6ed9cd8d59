"""Queues of what clips left behind: which activities they showed, in words, and their region tokens.

Text and region memory of TinyMem, first in, first out. Of L entries the reader gets l, s clips apart. Text
comes without a captioner (section "captioner-free"): the likeliest classes of a clip share its T slots, each
slot names a class, and the reader's graph holds the table with their descriptions.

Letters: l entries that are read, s clips between them, L entries kept, T text slots, R regions, C classes,
K classes that share the slots, d width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import MAX_TICK
from edge_runtime.memory.array_spec import Kept
from engines.network_config import NetworkConfig
from engines.spec import Array

Carried = Mapping[str, Array]

_HALF = 65504.0
_SPAN, _THERE, _TEXT, _REGION = "queue.span", "queue.there", "queue.text", "queue.region"


def read_out(length: int, stride: int) -> NDArray[np.intp]:
    """How many clips back each of the l entries lies that are read: 1, 1 + s, 1 + 2 s, ... (l,)"""
    if length < 1 or stride < 1:
        raise ValueError(f"length and stride must be at least 1, got {length} and {stride}")
    return 1 + stride * np.arange(length, dtype=np.intp)


def entries_kept(length: int, stride: int) -> int:
    """L: entries that a queue must hold so that the oldest one read is there."""
    return int(read_out(length, stride)[-1])


def shared_slots(scores: NDArray[np.floating], slots: int, most: int) -> NDArray[np.uint16]:
    """Which class each of `slots` text slots names: the `most` likeliest share them by largest remainder.

    scores (C,) at least 0 -> (T,), the likeliest class first. Equal scores and remainders go to the lower
    class; where all scores are 0 the lowest classes share evenly. Stands for the paper's random draw,
    in which all K are as likely.
    """
    best, share = _likeliest(scores, most)
    quota = share * slots
    given = np.floor(quota).astype(np.intp)
    rest = np.argsort(-(quota - given), kind="stable")[: slots - int(given.sum())]
    given[rest] += 1
    return np.repeat(best, given).astype(np.uint16)


def drawn_slots(
    scores: NDArray[np.floating], slots: int, most: int, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """As `shared_slots`, but drawn at random among the `most` likeliest, as the paper does it. (T,)"""
    best, _ = _likeliest(scores, most)
    return rng.choice(best, slots).astype(np.uint16)


def _likeliest(scores: NDArray[np.floating], most: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The K likeliest classes and their shares of one, best first."""
    given = np.asarray(scores, np.float64)
    if given.ndim != 1 or not len(given) or not (np.isfinite(given).all() and (given >= 0).all()):
        raise ValueError(f"scores must be finite, at least 0 and one for each class, got {given.shape}")
    best = np.argsort(-given, kind="stable")[:most]
    total = given[best].sum()
    return best, given[best] / total if total > 0 else np.full(len(best), 1 / len(best))


# -- what a version carries ---------------------------------------------------------------------------------


def carried_by(network: NetworkConfig) -> dict[str, Kept]:
    """The queues of a network; none without text and region in its context."""
    queue = network.queue
    entries = entries_kept(queue.length, queue.stride)
    kept: dict[str, Kept] = {}
    if network.queues:
        kept |= {
            _SPAN: Kept(np.int64, (entries, 2), MAX_TICK),
            _THERE: Kept(np.uint8, (entries,), 1),
        }
    if "text" in network.context:
        kept[_TEXT] = Kept(np.uint16, (entries, queue.text_slots), network.activities - 1)
    if "region" in network.context:
        kept[_REGION] = Kept(np.float16, (entries, queue.regions, network.d_backbone), _HALF)
    return kept


def brought_by(network: NetworkConfig) -> dict[str, Kept]:
    """One entry, as the clip's graph makes it."""
    carried = carried_by(network)
    names = {"text": _TEXT, "region": _REGION}
    return {
        name: Kept(kept.dtype, kept.shape[1:], kept.limit)
        for name, long in names.items()
        if (kept := carried.get(long)) is not None
    }


def brought_from(said: Carried, network: NetworkConfig) -> Carried:
    """The entry of a clip, of the outputs `clip_activity` (C,) and `clip_regions` (R, d) of the graph.

    Raises ValueError where they are missing, for NaN, for Inf and for what half precision does not hold.
    """
    brought: dict[str, Array] = {}
    queue = network.queue
    if network.queues and not {"clip_activity", "clip_regions"} <= said.keys():
        raise ValueError(f"clip_activity and clip_regions expected for the queues, got {sorted(said)}")
    if "text" in network.context:
        brought["text"] = shared_slots(said["clip_activity"], queue.text_slots, queue.text_classes)
    if "region" in network.context:
        regions = said["clip_regions"]
        if not np.all(np.abs(regions) <= _HALF):
            raise ValueError("regions are NaN, Inf or more than half precision holds; nothing is queued")
        brought["region"] = regions.astype(np.float16)
    return brought


def pushed(carried: Carried, brought: Carried, ticks: tuple[int, int]) -> Carried:
    """The queues with the entry of the clip from the first to the last of `ticks`; the oldest leaves."""
    newest = {_SPAN: np.asarray(ticks, np.int64), _THERE: np.uint8(1)}
    newest |= {
        name: brought[short] for name, short in ((_TEXT, "text"), (_REGION, "region")) if short in brought
    }
    return {
        name: _shifted(array, newest[name]) if name in newest else array for name, array in carried.items()
    }


def _shifted(array: Array, newest: Array) -> Array:
    moved = np.concatenate([array[1:], np.asarray(newest, array.dtype)[None]])
    moved.flags.writeable = False
    return moved


def without(carried: Carried, first: int, last: int) -> Carried:
    """The queues without the entries of clips that share a tick with `first` to `last`, both included."""
    if _SPAN not in carried:
        return carried
    start, end = carried[_SPAN].T
    gone = (carried[_THERE] > 0) & (start <= last) & (end >= first)
    if not gone.any():
        return carried
    after = dict(carried)
    for name in (_SPAN, _THERE, _TEXT, _REGION):
        if name in after:
            array = after[name].copy()
            array[gone] = 0
            array.flags.writeable = False
            after[name] = array
    return after


def read_entries(carried: Carried, network: NetworkConfig) -> dict[str, Array]:
    """The l entries that the reader gets, newest first: `span` (l, 2) ticks, `there` (l,), and of the context
    `text` (l, T) int32 and `region` (l, R, d) float32. Nothing without queues."""
    if not network.queues:
        return {}
    at = entries_kept(network.queue.length, network.queue.stride) - read_out(
        network.queue.length, network.queue.stride
    )
    read = {"span": carried[_SPAN][at], "there": carried[_THERE][at] > 0}
    if _TEXT in carried:
        read["text"] = carried[_TEXT][at].astype(np.int32)
    if _REGION in carried:
        read["region"] = carried[_REGION][at].astype(np.float32)
    return read
