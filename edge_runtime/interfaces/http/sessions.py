"""Sessions of the page: a cookie stands for a token, so that no script ever holds one."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from edge_runtime.config.access_tokens import Holder

COOKIE = "lvm_session"
LASTS_S = 12 * 3600
MAX_SESSIONS = 256
"""The oldest ends when one more begins."""


class Sessions:
    """In RAM only, by the hash of what the cookie holds. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: OrderedDict[bytes, tuple[Holder, float]] = OrderedDict()

    def begin(self, holder: Holder) -> str:
        """What the cookie is to hold."""
        value = secrets.token_urlsafe(32)
        self._held[_digest(value)] = (holder, self._clock() + LASTS_S)
        while len(self._held) > MAX_SESSIONS:
            self._held.popitem(last=False)
        return value

    def holder(self, value: str) -> Holder | None:
        """Whose session it is; None where it is over or never was."""
        digest = _digest(value)
        holder, until = self._held.get(digest, (None, 0.0))
        if holder is not None and self._clock() >= until:
            del self._held[digest]
            return None
        return holder

    def end(self, value: str) -> None:
        self._held.pop(_digest(value), None)

    def __len__(self) -> int:
        return len(self._held)


def _digest(value: str) -> bytes:
    return hashlib.sha256(value[:200].encode()).digest()
