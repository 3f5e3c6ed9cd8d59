"""The journal of a snapshot: a file of records, one after the other.

    magic   8 bytes
    record  length (4), checksum (16), sealed payload; the first one says whose journal it is
    record  ...

A record that is synced is padded with zeros to the end of its page, and the next record begins on a new page:
a half full page would be written again with the next frame. Seeking over the rest does not help, as the file
system then writes the old page again to clear it.

Each checksum covers the one before it, so a record counts only after those after which it was written. A torn
record, and remains of an older file on the disk, end the journal.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_runtime.persistence.encryption import JOURNAL, Seal
from edge_runtime.persistence.errors import NewerState, StateError
from edge_runtime.persistence.filesystem import Disk
from edge_runtime.persistence.header import Count
from edge_runtime.system.validation import describe_first_problem

MAGIC = b"LVMJRNL1"
PREFIX = "memory.journal."
_FORMAT = 2
_READABLE = (1, 2)
"""The first format had no padding."""
PAGE = 4096
"""Bytes that kernel and file system write at once; where they write more, padding saves less."""
_LENGTH_BYTES, _SUM_BYTES = 4, 16


def journal_name(snapshot: str) -> str:
    """Return the file name of the journal of the snapshot with this id."""
    return PREFIX + snapshot


class _Head(BaseModel):
    """The first record: whose journal it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    snapshot: str = Field(max_length=64)
    after: str = Field(max_length=64)
    frames: Count


@dataclass(frozen=True)
class JournalScan:
    """A journal that was read: `payloads` of its sound records, their `size` in bytes and the file's.

    `after` is the `end` of the journal that this one continues, empty where there was none. `frames` are
    those of its snapshot: it continues only a journal that leads to as many.
    """

    snapshot: str
    after: str
    frames: int
    payloads: tuple[bytes, ...]
    end: str
    size: int
    file_size: int


class Journal:
    """The journal that is being written. Every method raises OSError and must not be used after it."""

    def __init__(self, disk: Disk, path: Path, seal: Seal, *, snapshot: str, after: str, frames: int) -> None:
        """Create and sync the file, but not yet its name in the folder."""
        self._seal, self._snapshot, self._records = seal, snapshot, 0
        self._file = disk.create(path)
        self._sum = first_checksum()
        self.size = len(MAGIC)
        self.unsynced = False
        """Whether there are records that a power cut would lose."""
        head = {"format": _FORMAT, "snapshot": snapshot, "after": after, "frames": frames}
        self._file.write(MAGIC)
        self.append(json.dumps(head).encode(), whole_page=True)
        self.sync()

    @property
    def end(self) -> str:
        """Checksum of all records so far."""
        return self._sum.hex()

    def append(self, payload: bytes, *, whole_page: bool = False) -> None:
        """Append a record. `whole_page`: it is synced next, so pad it to the end of its page."""
        sealed = self._seal.seal(payload, role=JOURNAL, owner=_record_owner(self._snapshot, self._records))
        self._records += 1
        total = next_checksum(self._sum, sealed)
        record = len(sealed).to_bytes(_LENGTH_BYTES, "little") + total + sealed
        if whole_page:
            record += bytes(-(self.size + len(record)) % PAGE)
        self.unsynced = True
        self._file.write(record)
        self._sum = total
        self.size += len(record)

    def sync(self) -> None:
        self._file.sync()
        self.unsynced = False

    def close(self) -> None:
        self._file.close()


def scan(data: bytes, seal: Seal) -> JournalScan | None:
    """Return the sound records from the beginning on, None where the first is not sound.

    Raises NewerState for a journal of a later version, StateError where the key does not fit or a sound first
    record is not understood.
    """
    if data[: len(MAGIC)] != MAGIC:
        return None
    at, total = len(MAGIC), first_checksum()
    payloads: list[bytes] = []
    head: _Head | None = None
    while (record := _read_record(data, at, total) or _read_record(data, at + -at % PAGE, total)) is not None:
        sealed, total, at = record
        owner = _record_owner(head.snapshot if head else "", len(payloads))
        payloads.append(seal.open(sealed, role=JOURNAL, owner=owner))
        head = head or _read_head(payloads[0])
    if head is None:
        return None
    if len(data) - at < PAGE and not any(data[at:]):
        at = len(data)  # padding of the last record
    return JournalScan(
        head.snapshot, head.after, head.frames, tuple(payloads[1:]), total.hex(), at, len(data)
    )


def _read_record(data: bytes, at: int, before: bytes) -> tuple[bytes, bytes, int] | None:
    """Return the record at `at` after checksum `before`: its sealed payload, its checksum and its end."""
    start = at + _LENGTH_BYTES + _SUM_BYTES
    stop = start + int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
    if start > len(data) or stop > len(data):
        return None
    sealed = data[start:stop]
    total = next_checksum(before, sealed)
    return (sealed, total, stop) if data[at + _LENGTH_BYTES : start] == total else None


def _read_head(payload: bytes) -> _Head:
    try:
        plain = json.loads(payload)
        if isinstance(plain, dict) and isinstance(plain["format"], int) and plain["format"] not in _READABLE:
            raise NewerState("its journal was written by a newer lvm-edge")
        return _Head.model_validate(plain)
    except ValidationError as error:
        raise StateError(f"its journal is not understood ({describe_first_problem(error)})") from error
    except (KeyError, ValueError, RecursionError) as error:
        raise StateError(f"its journal is not understood ({type(error).__name__})") from error


def _record_owner(snapshot: str, record: int) -> str:
    """Return the owner by which a record is sealed. The first record itself says whose journal it is."""
    return f"{snapshot} {record}" if record else "0"


def first_checksum() -> bytes:
    return next_checksum(b"", MAGIC)


def next_checksum(before: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(before + data, digest_size=_SUM_BYTES).digest()
