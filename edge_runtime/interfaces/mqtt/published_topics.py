"""Remember which retained topics this device has published, until they are taken back.

A broker keeps retained messages for ever. So that those of an earlier host name, camera, topic prefix or
broker do not stay, `mqtt.json` in the state root holds an id of this device, which is in its listing at
`PREFIX/cameras`, and the topics by broker and prefix. What another device has listed is never touched.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from edge_runtime.persistence.filesystem import make_private_folder, write_private
from edge_runtime.system.validation import StrictModel

log = logging.getLogger(__name__)

FILE = "mqtt.json"
MAX_PREFIXES = 16
"""Of earlier times, per broker; the oldest are forgotten."""


class _Content(StrictModel):
    id: str = Field(pattern="^[0-9a-f]{16}$")
    brokers: dict[str, dict[str, tuple[str, ...]]] = {}


class PublishedTopics:
    """The topics by broker and prefix; `id` is this device's. For any thread.

    A folder that is used by another process, or cannot be written, is read only: then nothing of earlier
    times is taken back.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` None: nothing is kept."""
        self._file = None if folder is None else folder / FILE
        self._mutex, self._lock_file = threading.Lock(), -1
        if folder is not None:
            self._lock_folder(folder)
        content = self._read()
        self.id = content.id
        self._brokers: dict[str, dict[str, set[str]]] = {
            broker: {prefix: set(topics) for prefix, topics in prefixes.items()}
            for broker, prefixes in content.brokers.items()
        }

    def close(self) -> None:
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    @property
    def writable(self) -> bool:
        """Whether this process may write the file."""
        return self._lock_file >= 0

    @property
    def brokers(self) -> list[str]:
        """The addresses of brokers that may still hold topics of ours."""
        with self._mutex:
            return list(self._brokers) if self._lock_file >= 0 else []

    def prefixes(self, broker: str) -> list[str]:
        """Return the prefixes under which a broker may hold topics of ours."""
        with self._mutex:
            return list(self._brokers.get(broker, ())) if self._lock_file >= 0 else []

    def topics(self, broker: str, prefix: str) -> list[str]:
        """Return the topics under a prefix, its listing last: while that is there, the rest may be."""
        listing = f"{prefix}/cameras"
        with self._mutex:
            found = self._brokers.get(broker, {}).get(prefix, set())
        return sorted(found, key=lambda topic: (topic == listing, topic))

    def remember(self, broker: str, prefix: str, topics: Iterable[str]) -> None:
        """Remember topics before they are published."""
        with self._mutex:
            known = self._brokers.setdefault(broker, {})
            before = known.pop(prefix, set())
            known[prefix] = before | set(topics)
            for oldest in list(known)[:-MAX_PREFIXES]:
                del known[oldest]
            if known[prefix] != before:
                self._write()

    def forget(self, broker: str, prefix: str, topics: Iterable[str] | None = None) -> None:
        """Forget topics that were taken back, or all under the prefix."""
        with self._mutex:
            known = self._brokers.get(broker, {})
            if prefix not in known:
                return
            rest = set() if topics is None else known[prefix] - set(topics)
            if rest == known[prefix]:
                return
            known[prefix] = rest
            if not rest:
                del known[prefix]
            if not known:
                del self._brokers[broker]
            self._write()

    def _lock_folder(self, folder: Path) -> None:
        try:
            if not folder.is_dir():
                make_private_folder(folder)
            self._lock_file = os.open(folder / ".mqtt.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.info("MQTT: %s cannot be written: %s; old topics are not taken back", folder, error.strerror)
            return
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.info("MQTT: another process uses %s too; old topics are not taken back", folder)
            self.close()

    def _read(self) -> _Content:
        fresh = _Content(id=secrets.token_hex(8))
        if self._file is None:
            return fresh
        try:
            return _Content.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return fresh
        except (OSError, ValidationError) as error:
            log.warning("MQTT: %s cannot be read, it is made anew: %s", self._file, type(error).__name__)
            return fresh

    def _write(self) -> None:
        if self._file is None or self._lock_file < 0:
            return
        brokers: dict[str, Any] = {
            broker: {prefix: sorted(topics) for prefix, topics in prefixes.items()}
            for broker, prefixes in self._brokers.items()
        }
        try:
            write_private(self._file, json.dumps({"id": self.id, "brokers": brokers}).encode())
        except OSError as error:
            log.warning("MQTT: %s cannot be written: %s", self._file, error.strerror)
