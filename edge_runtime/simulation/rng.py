"""Random numbers without state: every draw is a hash of its keys, so every moment costs the same."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_MASK = (1 << 64) - 1


class Use(IntEnum):
    """First key of every draw: two purposes never share a random number."""

    LAYOUT = 1
    CATALOGUE = 2
    SLOT = 3
    PEOPLE = 4
    TRAPS = 5
    CAMERA = 6
    PHOTO = 7
    BACKDROP = 8
    FACE = 9
    CLOSEUP = 10
    ANNOTATION = 11


def mix(*keys: int) -> int:
    """Return 64 well mixed bits of `keys` (SplitMix64, chained)."""
    state = 0
    for key in keys:
        state = (state + (key & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def unit(*keys: int) -> float:
    """Return a number in [0, 1)."""
    return (mix(*keys) >> 11) * 2.0**-53


def between(low: float, high: float, *keys: int) -> float:
    """Return a number in [low, high)."""
    return low + (high - low) * unit(*keys)


def generator(*keys: int) -> np.random.Generator:
    """Return a generator for draws that are made once (catalogue, backdrop), not once a frame."""
    return np.random.default_rng(mix(*keys))


def wave(t: float, period: float, *keys: int) -> float:
    """Return a smooth random function of time in [-1, 1] with a new direction every `period` seconds."""
    step, part = divmod(t / period, 1.0)
    before, after = unit(int(step), *keys), unit(int(step) + 1, *keys)
    return 2.0 * (before + (after - before) * smooth(part)) - 1.0


def smooth(part: float) -> float:
    """Return `part` (0..1) eased at both ends; values outside are clamped."""
    part = min(max(part, 0.0), 1.0)
    return part * part * (3.0 - 2.0 * part)
