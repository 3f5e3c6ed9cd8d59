"""How often somebody may do something, for a bounded number of somebodies."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_KEYS = 1024


class Rates:
    """A bucket for each key: `burst` at once, then `per_s`. None as `per_s` is no limit.

    When there are more keys than `most`, the one unseen for longest is forgotten, which only ever allows it
    more. For one event loop.
    """

    def __init__(
        self,
        per_s: float | None,
        burst: float,
        *,
        most: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._burst, self._most, self._clock = per_s, burst, most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Seconds until one more is allowed; 0 where it is now. Takes nothing."""
        if self._per_s is None:
            return 0.0
        return max(1.0 - self._now(key), 0.0) / self._per_s

    def take(self, key: str) -> float:
        """Take one if it is allowed; returns what `wait_s` says before."""
        wait = self.wait_s(key)
        if wait == 0.0 and self._per_s is not None:
            self._left[key] = (self._now(key) - 1.0, self._clock())
            self._left.move_to_end(key)
            if len(self._left) > self._most:
                self._left.popitem(last=False)
        return wait

    def __len__(self) -> int:
        return len(self._left)

    def _now(self, key: str) -> float:
        left, at = self._left.get(key, (self._burst, self._clock()))
        return min(left + (self._clock() - at) * (self._per_s or 0.0), self._burst)


def address_key(address: str) -> str:
    """One client for limits: an IPv4 address, or the network that one IPv6 subscriber has to choose from."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return address
