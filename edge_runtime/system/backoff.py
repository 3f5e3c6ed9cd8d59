"""How long to wait before trying again."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `first_s` to `cap_s`, each shortened at random by up to half.

    The jitter keeps the cameras of a shop from calling one recorder all at once after a power cut.
    """

    def __init__(self, first_s: float, cap_s: float, rng: random.Random | None = None) -> None:
        if not 0 < first_s <= cap_s:
            raise ValueError(f"waits must grow from a positive first_s to cap_s, got {first_s} and {cap_s}")
        self._first_s, self._cap_s = first_s, cap_s
        self._next_s = first_s
        self._rng = rng or random.Random()

    def next(self) -> float:
        """Return the seconds to wait now, at most `cap_s`."""
        wait = self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(2 * self._next_s, self._cap_s)
        return wait

    def reset(self) -> None:
        """Begin with a short wait again: all is well."""
        self._next_s = self._first_s
