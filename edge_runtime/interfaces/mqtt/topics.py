"""Which topics there are, and how a camera is called in them.

PREFIX/available          online | offline, retained; offline is also the broker's word when we are gone
PREFIX/cameras            who is here, retained
PREFIX/stats              counters, now and then
PREFIX/events             what happens, QoS 1
PREFIX/CAMERA/status      online | offline | …, retained
PREFIX/CAMERA/activity    the newest recognised activity, retained
PREFIX/CAMERA/paused/state  ON | OFF, retained; PREFIX/CAMERA/paused/set is listened to
PREFIX/query/request      listened to; answers at PREFIX/query/response/ID
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

RESERVED = {"available", "cameras", "stats", "events", "query"}
"""Names of ours at the place where a camera's name stands."""
MAX_NAME = 48

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Topics:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.available = f"{prefix}/available"
        self.cameras = f"{prefix}/cameras"
        self.stats = f"{prefix}/stats"
        self.events = f"{prefix}/events"
        self.request = f"{prefix}/query/request"
        self.responses = f"{prefix}/query/response"
        self.pause_filter = f"{prefix}/+/paused/set"

    def of(self, camera: str, what: str) -> str:
        """A topic of a camera, by its name in topics."""
        return f"{self.prefix}/{camera}/{what}"

    def paused_camera(self, topic: str) -> str | None:
        """The camera that `topic` commands, None for other topics."""
        before, after = f"{self.prefix}/", "/paused/set"
        if not (topic.startswith(before) and topic.endswith(after)) or len(topic) <= len(before + after):
            return None
        name = topic[len(before) : -len(after)]
        return None if "/" in name else name

    def may_answer_at(self, topic: str, others: Iterable[str] = ()) -> bool:
        """Whether an asker may have its answer there: below the responses or one of `others`, and never where
        we listen ourselves, so that no answer can become a question or a command."""
        if not topic.isprintable() or set("+#") & set(topic) or len(topic.encode()) > 300:
            return False
        if topic == self.request or self.paused_camera(topic) is not None:
            return False
        return any(topic.startswith(f"{one}/") for one in (self.responses, *others))


class Names:
    """Camera names as topics can bear them: letters, digits, - and _. Two cameras never share one."""

    def __init__(self) -> None:
        self._safe: dict[str, str] = {}

    def of(self, camera: str) -> str:
        """The name in topics; the same one for as long as the camera is there."""
        if camera not in self._safe:
            self._safe[camera] = self._new(camera)
        return self._safe[camera]

    def real(self, safe: str) -> str | None:
        """The camera that is called so in topics."""
        return next((camera for camera, name in self._safe.items() if name == safe), None)

    def keep(self, cameras: Iterable[str]) -> None:
        """Forget all others."""
        wanted = set(cameras)
        self._safe = {camera: safe for camera, safe in self._safe.items() if camera in wanted}

    def _new(self, camera: str) -> str:
        plain = safe = _UNSAFE.sub("_", camera).strip("_")[:MAX_NAME] or "camera"
        taken, salt = RESERVED | set(self._safe.values()), 0
        while safe in taken:
            digest = hashlib.sha256(f"{camera}{salt or ''}".encode(errors="replace")).hexdigest()
            safe, salt = f"{plain}_{digest[:8]}", salt + 1
        return safe
