"""A frame: a picture and its time, which is all that a source gives to the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TICKS_PER_SECOND = 5
"""Resolution of remembered time (boxes of the ReST queries come at 5 Hz)."""


@dataclass(frozen=True)
class Frame:
    """`image` (H, W, 3) uint8 RGB; `t` seconds on the stream's clock, from PTS or the camera's clock.

    It stands for `period` seconds, None where the source does not know yet: then for one sampling period.
    """

    image: NDArray[np.uint8]  # (H, W, 3)
    t: float
    period: float | None = None


MAX_T = 1e10
"""Seconds on the stream's clock, positive or negative: 317 years. A wall clock that was set to 1970 and back
jumps by half a century."""
MAX_TICK = int(MAX_T * TICKS_PER_SECOND)


def to_tick(t: float) -> int:
    """Return the 1/5 s tick nearest to `t` seconds."""
    return round(t * TICKS_PER_SECOND)
