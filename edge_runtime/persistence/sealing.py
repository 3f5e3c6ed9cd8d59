"""Encrypt what a state writes and decrypt what it reads, part by part; without a key leave it as it is."""

from __future__ import annotations

from edge_runtime.persistence.encryption import Key, SealError, is_sealed, open_sealed
from edge_runtime.persistence.errors import StateError

SNAPSHOT, JOURNAL = "snapshot", "journal"
"""Roles of a part: one cannot be passed off as the other."""


class Seal:
    """Every byte that a state writes passes `seal`, every byte that it reads passes `open`.

    A part is a whole snapshot or one record of a journal; `owner` says which one. Checksums lie outside,
    around sealed bytes, so that damage is told from a wrong key. With a key, parts from before there was one
    are read too; without one, a sealed part is refused.
    """

    def __init__(self, key: Key | None = None) -> None:
        self._key = key
        self.read_unsealed = False
        """Whether a part was read that lies on the disk in the clear although there is a key."""

    def seal(self, data: bytes, *, role: str, owner: str = "") -> bytes:
        """Return the bytes for the disk."""
        return data if self._key is None else self._key.seal(data, role=role, owner=owner)

    def open(self, data: bytes, *, role: str, owner: str = "") -> bytes:
        """Return the data. Raises StateError, never Damaged, where the key does not fit."""
        self.read_unsealed |= self._key is not None and not is_sealed(data)
        try:
            return open_sealed(data, self._key, role=role, owner=owner)
        except SealError as error:
            raise StateError(f"it is {error}") from None
