"""What a version carries from clip to clip beside memory and background, by name.

A configuration alone says which arrays there are and between which bounds (`carried_by`), and which an engine
adds with each clip (`brought_by`). A snapshot keeps the former, a journal the latter: the next state follows
from both (`advanced`), so a replay needs no engine. Whatever else wants a state of its own adds its arrays
here; snapshot, journal and checks need not know of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_runtime.memory import clip_queue as queues
from edge_runtime.memory import ssm_state as sampler_state
from edge_runtime.memory.array_spec import Kept
from engines.network_config import NetworkConfig
from engines.spec import Array

Carried = Mapping[str, Array]
"""Arrays by name; nobody writes into them."""


def carried_by(network: NetworkConfig) -> dict[str, Kept]:
    """The arrays that a version of this network carries, whatever was watched."""
    return queues.carried_by(network) | sampler_state.carried_by(network)


def brought_by(network: NetworkConfig) -> dict[str, Kept]:
    """The arrays that an engine adds when a clip ends."""
    return queues.brought_by(network) | sampler_state.carried_by(network)


def nothing_carried(network: NetworkConfig) -> Carried:
    """Before the first clip: zeros."""
    return {name: kept.zeros() for name, kept in carried_by(network).items()}


def brought_from(said: Carried, network: NetworkConfig) -> Carried:
    """What is carried on of all that the sampler's graph said of a clip beside scores.

    Raises ValueError where an output is missing or no number.
    """
    return {**queues.brought_from(said, network), **sampler_state.brought_from(said, network)}


def advanced(carried: Carried, brought: Carried, network: NetworkConfig, ticks: tuple[int, int]) -> Carried:
    """What is carried after a clip of the first and last tick `ticks`, of which an engine said `brought`.

    Raises ValueError where that is not what the network's engines say.
    """
    check_kept("a clip", brought, brought_by(network))
    if not carried:
        return carried
    return sampler_state.replaced(queues.pushed(carried, brought, ticks), brought)


def forgotten(carried: Carried, first: int, last: int) -> Carried:
    """What is carried without what came from ticks `first` to `last`, both included."""
    return sampler_state.emptied(queues.without(carried, first, last))


def check_kept(whose: str, arrays: Carried, wanted: Mapping[str, Kept]) -> None:
    """Raises ValueError unless names, types, shapes and sizes of the numbers are those that are wanted."""
    if arrays.keys() != wanted.keys():
        raise ValueError(f"{whose} must bring {sorted(wanted)}, got {sorted(arrays)}")
    for name, kept in wanted.items():
        array = arrays[name]
        if array.dtype != kept.dtype or array.shape != kept.shape:
            raise ValueError(
                f"{name} must be {np.dtype(kept.dtype).name} {kept.shape}, "
                f"got {array.dtype.name} {array.shape}"
            )
        if not np.all(np.abs(array) <= array.dtype.type(kept.limit)):  # which NaN is not
            raise ValueError(f"{name} must be finite and within ±{kept.limit:.3g}")
