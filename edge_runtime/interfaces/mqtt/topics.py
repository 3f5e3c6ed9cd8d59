"""Topics, and the names of cameras in them.

PREFIX/available          online | offline, retained; offline is also the will, when we are gone
PREFIX/cameras            the cameras, retained
PREFIX/stats              counters, regularly
PREFIX/events             events, QoS 1
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
"""Names at the place of a camera's name that are used otherwise."""
MAX_NAME = 48

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Topics:
    """All topics below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.available = f"{prefix}/available"
        self.cameras = f"{prefix}/cameras"
        self.stats = f"{prefix}/stats"
        self.events = f"{prefix}/events"
        self.request = f"{prefix}/query/request"
        self.responses = f"{prefix}/query/response"
        self.pause_filter = f"{prefix}/+/paused/set"

    def camera_topic(self, camera: str, what: str) -> str:
        """Return a topic of a camera, by its name in topics."""
        return f"{self.prefix}/{camera}/{what}"

    def paused_camera(self, topic: str) -> str | None:
        """Return the camera that `topic` commands, None for other topics."""
        before, after = f"{self.prefix}/", "/paused/set"
        if not (topic.startswith(before) and topic.endswith(after)) or len(topic) <= len(before + after):
            return None
        name = topic[len(before) : -len(after)]
        return None if "/" in name else name

    def may_answer_at(self, topic: str, others: Iterable[str] = ()) -> bool:
        """Return whether an answer may be published at `topic`: below the responses or one of `others`.

        Never at a topic that we subscribe to, so that no answer can become a question or a command.
        """
        if not topic.isprintable() or set("+#") & set(topic) or len(topic.encode()) > 300:
            return False
        if topic == self.request or self.paused_camera(topic) is not None:
            return False
        return any(topic.startswith(f"{root}/") for root in (self.responses, *others))


class TopicNames:
    """Names of cameras that fit into topics: ASCII letters, digits, - and _. Two cameras never share one."""

    def __init__(self) -> None:
        self._safe: dict[str, str] = {}

    def safe_name(self, camera: str) -> str:
        """Return the name in topics, the same while the camera exists."""
        if camera not in self._safe:
            plain = safe = _UNSAFE.sub("_", camera).strip("_")[:MAX_NAME] or "camera"
            taken, salt = RESERVED | set(self._safe.values()), 0
            while safe in taken:
                digest = hashlib.sha256(f"{camera}{salt or ''}".encode(errors="replace")).hexdigest()
                safe, salt = f"{plain}_{digest[:8]}", salt + 1
            self._safe[camera] = safe
        return self._safe[camera]

    def camera(self, safe: str) -> str | None:
        """Return the camera of a name in topics, None for an unknown one."""
        return next((camera for camera, name in self._safe.items() if name == safe), None)

    def keep(self, cameras: Iterable[str]) -> None:
        """Forget all other cameras."""
        remaining = set(cameras)
        self._safe = {camera: safe for camera, safe in self._safe.items() if camera in remaining}
