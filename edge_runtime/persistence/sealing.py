"""What stands between the bytes of a state and the disk: nothing, or a key (`privacy.sealing`)."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.persistence.encryption import Key, SealError, is_sealed, opened
from edge_runtime.persistence.errors import StateError

SNAPSHOT, JOURNAL = "snapshot", "journal"
"""Roles of a part: one cannot be passed off as the other."""


class Seal(Protocol):
    """Everything that is written passes `seal`, everything that is read passes `open`, part by part.

    A part is a whole snapshot or one record of a journal; `of` says which one. Checksums lie outside, around
    sealed bytes, so that damage is told from a wrong key.
    """

    found_clear: bool
    """Whether something was opened that lies on the disk in the clear although it should not."""

    def seal(self, data: bytes, *, role: str, of: str = "") -> bytes:
        """Bytes for the disk."""

    def open(self, data: bytes, *, role: str, of: str = "") -> bytes:
        """The bytes again. Raises StateError, never Damaged, where the key does not fit."""


class Plain:
    """No cipher."""

    found_clear = False

    def seal(self, data: bytes, *, role: str, of: str = "") -> bytes:
        return data

    def open(self, data: bytes, *, role: str, of: str = "") -> bytes:
        if is_sealed(data):
            return _opened(data, None, role, of)
        return data


class Keyed:
    """Sealed with a key. What lies there from before there was one is read, too."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self.found_clear = False

    def seal(self, data: bytes, *, role: str, of: str = "") -> bytes:
        return self._key.seal(data, role=role, of=of)

    def open(self, data: bytes, *, role: str, of: str = "") -> bytes:
        self.found_clear = self.found_clear or not is_sealed(data)
        return _opened(data, self._key, role, of)


PLAIN = Plain()


def seal_of(key: Key | None) -> Seal:
    """What a state with this key is sealed by."""
    return PLAIN if key is None else Keyed(key)


def _opened(data: bytes, key: Key | None, role: str, of: str) -> bytes:
    try:
        return opened(data, key, role=role, of=of)
    except SealError as error:
        raise StateError(f"it is {error}") from None
