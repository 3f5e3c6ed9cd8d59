"""What a sampler of linear cost carries from clip to clip: the state of its state-space layers.

The graph is fed it and says the next one, so both are brought by an engine and journaled as they were said.
The state is a fading sum over all candidates that were ever judged, each taken in once, when its clip was
judged. Nothing can be taken out of a sum, so forgetting anything empties it; some clips fill it again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_runtime.memory.array_spec import Kept
from engines.network_config import NetworkConfig
from engines.spec import Array

Carried = Mapping[str, Array]

NAME, SAID = "sampler_state", "next_state"
"""Input and output of the sampler's graph; the input's name is also that in a version."""
LIMIT = 1e6
"""Inputs are normalised and the layers stable: a thousandth of that has never been seen."""


def carried_by(network: NetworkConfig) -> dict[str, Kept]:
    """The state (D, d, S) of an s5 sampler; nothing of others."""
    return {NAME: Kept(np.float32, network.sampler_state, LIMIT)} if network.sampler == "s5" else {}


def brought_from(said: Carried, network: NetworkConfig) -> Carried:
    """What the graph said is carried on as it is; nothing where another sampler judges and it was not run.

    Raises ValueError for what is no number.
    """
    if network.sampler != "s5":
        return {}
    if SAID not in said:
        return {NAME: carried_by(network)[NAME].zeros()}
    if not np.all(np.abs(said[SAID]) <= LIMIT):
        raise ValueError(f"{SAID} is NaN, Inf or beyond {LIMIT:g}; nothing is carried on")
    return {NAME: said[SAID]}


def replaced(carried: Carried, brought: Carried) -> Carried:
    """With the state that was brought in the place of the one before."""
    if NAME not in carried:
        return carried
    state = brought[NAME].copy()
    state.flags.writeable = False
    return {**carried, NAME: state}


def emptied(carried: Carried) -> Carried:
    """With a state that knows of nothing."""
    if NAME not in carried:
        return carried
    state = np.zeros_like(carried[NAME])
    state.flags.writeable = False
    return {**carried, NAME: state}
