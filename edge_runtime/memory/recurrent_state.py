"""The recurrent state: arrays that a version hands on from clip to clip beside memory and background.

Three parts, each there only where the network has it:

- Queues (text and region memory of TinyMem, first in, first out): per clip the activities it showed, in
  words, and its region tokens. Of L entries the reader gets l, s clips apart. Text comes without a captioner
  (section "captioner-free"): the likeliest classes of a clip share its T slots, each slot names a class, and
  the reader's graph holds the table with their descriptions.
- The state of the sampler's state-space layers (S5). The graph is fed it and returns the next one. It is a
  fading sum over all candidates ever scored, each added once. Nothing can be taken out of a sum, so
  forgetting anything empties it; some clips fill it again.

- Strangeness: how far the newest clips are from what the bundle was trained on, where the sampler's graph
  says so (`edge_runtime.memory.familiarity`): the running mean, and the number of clips in it.

The network configuration alone says which arrays there are, with their bounds (`state_specs`), and which of
them the sampler's graph adds with each clip (`clip_output_specs`). A snapshot saves the former, a journal the
latter: the next state follows from both (`update_state`), so a replay needs no engine. A further part adds
its arrays here; snapshot, journal and checks need no change.

Letters: l entries that are read, s clips between them, L entries in a queue, T text slots, R regions,
C classes, K classes that share the slots, d width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import MAX_TICK
from engines.network_config import NetworkConfig
from engines.spec import Array

Arrays = Mapping[str, Array]
"""Arrays by name; nobody writes into them."""

_HALF = 65504.0
_SPAN, _VALID, _TEXT, _REGION = "queue.span", "queue.there", "queue.text", "queue.region"
_QUEUE_OUTPUTS = {_TEXT: "text", _REGION: "region"}
"""Array of the state -> its entry in a journal."""
SSM_STATE, NEXT_STATE = "sampler_state", "next_state"
"""Input and output of the sampler's graph; the input's name is also that in the state."""
STRANGENESS = "strangeness"
"""Output of the sampler's graph, and its name in the state."""
_STRANGENESS_LIMIT = 1e12
_STRANGENESS_RATE = np.float32(0.5)
"""Share of the newest clip in the running mean: a camera that was turned is strange after a clip or two."""
_SSM_LIMIT = 1e6
"""Inputs are normalised and the layers stable: a thousandth of that has never been seen."""


@dataclass(frozen=True)
class ArraySpec:
    """Type, shape and greatest magnitude of an array of the state or of a journal's record."""

    dtype: type[np.generic]
    shape: tuple[int, ...]
    limit: float

    def zeros(self) -> Array:
        """Return the array before the first clip, read-only."""
        return _frozen(np.zeros(self.shape, self.dtype))


# -- which arrays there are ---------------------------------------------------------------------------------


def state_specs(network: NetworkConfig) -> dict[str, ArraySpec]:
    """Return the arrays of the state of this network, the same before and after any clip."""
    return _queue_specs(network) | _ssm_specs(network) | _strangeness_specs(network, (2,))


def clip_output_specs(network: NetworkConfig) -> dict[str, ArraySpec]:
    """Return the arrays that the sampler's graph adds when a clip ends."""
    queues = _queue_specs(network)
    entries = {
        output: ArraySpec(queues[name].dtype, queues[name].shape[1:], queues[name].limit)
        for name, output in _QUEUE_OUTPUTS.items()
        if name in queues
    }
    return entries | _ssm_specs(network) | _strangeness_specs(network, (1,))


def _queue_specs(network: NetworkConfig) -> dict[str, ArraySpec]:
    """Return the queues of a network, none without text and region in its context."""
    queue = network.queue
    entries = queue_length(queue.length, queue.stride)
    specs: dict[str, ArraySpec] = {}
    if network.queues:
        specs[_SPAN] = ArraySpec(np.int64, (entries, 2), MAX_TICK)
        specs[_VALID] = ArraySpec(np.uint8, (entries,), 1)
    if "text" in network.context:
        specs[_TEXT] = ArraySpec(np.uint16, (entries, queue.text_slots), network.activities - 1)
    if "region" in network.context:
        specs[_REGION] = ArraySpec(np.float16, (entries, queue.regions, network.d_backbone), _HALF)
    return specs


def _ssm_specs(network: NetworkConfig) -> dict[str, ArraySpec]:
    """Return the state (D, d, S) of an s5 sampler, nothing for others."""
    is_s5 = network.sampler == "s5"
    return {SSM_STATE: ArraySpec(np.float32, network.sampler_state, _SSM_LIMIT)} if is_s5 else {}


def _strangeness_specs(network: NetworkConfig, shape: tuple[int, ...]) -> dict[str, ArraySpec]:
    return {STRANGENESS: ArraySpec(np.float32, shape, _STRANGENESS_LIMIT)} if network.appearance else {}


def check_specs(owner: str, arrays: Arrays, specs: Mapping[str, ArraySpec]) -> None:
    """Raise ValueError unless names, types, shapes and magnitudes are as in `specs`."""
    if arrays.keys() != specs.keys():
        raise ValueError(f"{owner} must hold {sorted(specs)}, got {sorted(arrays)}")
    for name, spec in specs.items():
        array = arrays[name]
        if array.dtype != spec.dtype or array.shape != spec.shape:
            raise ValueError(
                f"{name} must be {np.dtype(spec.dtype).name} {spec.shape}, "
                f"got {array.dtype.name} {array.shape}"
            )
        if not np.all(np.abs(array) <= array.dtype.type(spec.limit)):  # false for NaN
            raise ValueError(f"{name} must be finite and within ±{spec.limit:.3g}")


# -- from clip to clip --------------------------------------------------------------------------------------


def initial_state(network: NetworkConfig) -> Arrays:
    """Return the state before the first clip: zeros."""
    return {name: spec.zeros() for name, spec in state_specs(network).items()}


def to_clip_outputs(outputs: Arrays, network: NetworkConfig) -> Arrays:
    """Return what the next state needs of the sampler graph's `outputs` for a clip.

    Raises ValueError where an output is missing, NaN, Inf or beyond its bound.
    """
    clip_outputs = dict(to_queue_entry(outputs, network))
    if network.sampler == "s5":
        state = outputs.get(NEXT_STATE)
        if state is None:  # another sampler scores, and the graph was not run
            state = _ssm_specs(network)[SSM_STATE].zeros()
        if not np.all(np.abs(state) <= _SSM_LIMIT):
            raise ValueError(f"{NEXT_STATE} is NaN, Inf or beyond {_SSM_LIMIT:g}; the state is unchanged")
        clip_outputs[SSM_STATE] = state
    if network.appearance:
        strangeness = outputs.get(STRANGENESS, np.zeros(1, np.float32))  # zeros: the graph was not run
        if not np.all(np.abs(strangeness) <= _STRANGENESS_LIMIT):
            raise ValueError(f"{STRANGENESS} is NaN, Inf or beyond {_STRANGENESS_LIMIT:g}")
        clip_outputs[STRANGENESS] = np.asarray(strangeness, np.float32)
    return clip_outputs


def to_queue_entry(outputs: Arrays, network: NetworkConfig) -> Arrays:
    """Return a clip's entry in the queues, from the outputs `clip_activity` (C,) and `clip_regions` (R, d).

    Raises ValueError where they are missing, for NaN, for Inf and beyond half precision.
    """
    entry: dict[str, Array] = {}
    queue = network.queue
    if network.queues and not {"clip_activity", "clip_regions"} <= outputs.keys():
        raise ValueError(f"clip_activity and clip_regions expected for the queues, got {sorted(outputs)}")
    if "text" in network.context:
        entry["text"] = share_slots(outputs["clip_activity"], queue.text_slots, queue.text_classes)
    if "region" in network.context:
        regions = outputs["clip_regions"]
        if not np.all(np.abs(regions) <= _HALF):
            raise ValueError("regions are NaN, Inf or more than half precision holds; nothing is queued")
        entry["region"] = regions.astype(np.float16)
    return entry


def update_state(
    state: Arrays, clip_outputs: Arrays, network: NetworkConfig, ticks: tuple[int, int]
) -> Arrays:
    """Return the state after a clip whose first and last tick are `ticks`; the oldest queue entry leaves.

    Raises ValueError where `clip_outputs` are not those of this network.
    """
    check_specs("a clip", clip_outputs, clip_output_specs(network))
    newest = {_SPAN: np.asarray(ticks, np.int64), _VALID: np.uint8(1)}
    newest |= {name: clip_outputs[key] for name, key in _QUEUE_OUTPUTS.items() if key in clip_outputs}
    after = dict(state)
    for name, array in state.items():
        if name == SSM_STATE:
            after[name] = _frozen(clip_outputs[name].copy())
        elif name == STRANGENESS:
            mean, clips = array
            rate = _STRANGENESS_RATE if clips else np.float32(1)
            after[name] = _frozen(
                np.array([mean + rate * (clip_outputs[name][0] - mean), min(clips + 1, 1e6)], np.float32)
            )
        elif name in newest:
            entry = np.asarray(newest[name], array.dtype)[None]
            after[name] = _frozen(np.concatenate([array[1:], entry]))
    return after


def forget_ticks(state: Arrays, first: int, last: int) -> Arrays:
    """Return the state without the clips that share a tick with `first` to `last`, both included.

    Their queue entries become zero; the sampler's state is emptied in any case.
    """
    after = dict(state)
    if STRANGENESS in after:
        after[STRANGENESS] = _frozen(np.zeros_like(after[STRANGENESS]))
    if SSM_STATE in after:
        after[SSM_STATE] = _frozen(np.zeros_like(after[SSM_STATE]))
    if _SPAN in after:
        start, end = state[_SPAN].T
        gone = (state[_VALID] > 0) & (start <= last) & (end >= first)
        for name in (_SPAN, _VALID, _TEXT, _REGION):
            if name in after:
                array = after[name].copy()
                array[gone] = 0
                after[name] = _frozen(array)
    return after


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


# -- queues -------------------------------------------------------------------------------------------------


def read_offsets(length: int, stride: int) -> NDArray[np.intp]:
    """Return how many clips back each of the l entries lies that are read: 1, 1 + s, 1 + 2 s, ... (l,)"""
    if length < 1 or stride < 1:
        raise ValueError(f"length and stride must be at least 1, got {length} and {stride}")
    return 1 + stride * np.arange(length, dtype=np.intp)


def queue_length(length: int, stride: int) -> int:
    """Return L: entries that a queue must hold so that it has the oldest one that is read."""
    return int(read_offsets(length, stride)[-1])


def read_entries(state: Arrays, network: NetworkConfig) -> dict[str, Array]:
    """Return the l entries that the reader gets, newest first; nothing without queues.

    `span` (l, 2) ticks, `there` (l,), and of the context `text` (l, T) int32 and `region` (l, R, d) float32.
    """
    if not network.queues:
        return {}
    offsets = read_offsets(network.queue.length, network.queue.stride)
    at = int(offsets[-1]) - offsets
    entries = {"span": state[_SPAN][at], "there": state[_VALID][at] > 0}
    if _TEXT in state:
        entries["text"] = state[_TEXT][at].astype(np.int32)
    if _REGION in state:
        entries["region"] = state[_REGION][at].astype(np.float32)
    return entries


def share_slots(scores: NDArray[np.floating], slots: int, max_classes: int) -> NDArray[np.uint16]:
    """Return the class that each of `slots` text slots names: the K likeliest share by largest remainder.

    scores (C,) at least 0 -> (T,), the likeliest class first; K = `max_classes`. Equal scores and remainders
    go to the lower class; where all scores are 0 the lowest classes share evenly. It replaces the paper's
    random draw, in which all K are equally likely.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores) or not (np.isfinite(scores).all() and (scores >= 0).all()):
        raise ValueError(f"scores must be finite, at least 0 and one for each class, got {scores.shape}")
    likeliest = np.argsort(-scores, kind="stable")[:max_classes]  # (K,)
    total = scores[likeliest].sum()
    share = scores[likeliest] / total if total > 0 else np.full(len(likeliest), 1 / len(likeliest))
    quota = share * slots
    count = np.floor(quota).astype(np.intp)
    rest = np.argsort(-(quota - count), kind="stable")[: slots - int(count.sum())]
    count[rest] += 1
    return np.repeat(likeliest, count).astype(np.uint16)
