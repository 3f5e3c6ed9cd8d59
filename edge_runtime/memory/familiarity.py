"""Familiarity: whether a camera shows what the bundle was trained on.

The sampler's graph says of each clip how strange its candidates look: the squared distance of their mean
appearance from that of the training's clips, in units of the largest distance that still counts as familiar
(`export/networks/strangeness.py`). Its running mean is part of the recurrent state. On an unfamiliar camera
the activities of the training mean nothing: they are neither told nor logged, the memory keeps what differs
instead of what the sampler likes, and photos are matched by looks alone.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.memory.recurrent_state import STRANGENESS, Arrays

LIMIT = 1.0
WITHHELD = (
    "this camera shows nothing like what the bundle was trained on, so activities are not told; "
    "teach it or train it with video of this camera"
)


def is_familiar(state: Arrays) -> bool:
    """Return whether the newest clips looked like the training's; True where the bundle cannot tell, and
    before the first clip."""
    strangeness = state.get(STRANGENESS)
    return strangeness is None or not strangeness[1] or bool(strangeness[0] <= LIMIT)


def is_strange_clip(outputs: Arrays) -> bool:
    """Return whether the clip with these outputs of the sampler's graph is unlike the training's."""
    return float(np.max(outputs.get(STRANGENESS, 0.0))) > LIMIT
