"""Records one after the other in a file that belongs to one snapshot.

    magic   8 bytes
    record  length (4), checksum (16), sealed payload; the first one says whose journal it is
    record  ...

What is synced after each frame ends with zeros to the end of its page, and the next record begins on a new
one: a page that is left half full would be written again with the next frame. Seeking over the rest is no
help, as the file system then writes the old page again to clear it.

Each checksum covers the one before it, so a record counts only behind those behind which it was written: what
was torn off, and what a disk shows of a file that lay there before, ends the journal.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_runtime.persistence.errors import NewerState, StateError
from edge_runtime.persistence.filesystem import Disk
from edge_runtime.persistence.header import Count
from edge_runtime.persistence.sealing import JOURNAL, Seal
from edge_runtime.system.validation import describe_first_problem

MAGIC = b"LVMJRNL1"
PREFIX = "memory.journal."
_FORMAT = 2
_READ = (1, 2)
"""The first format had no empty rests of pages."""
PAGE = 4096
"""Bytes in which kernel and file system write; where they write more at once, only the saving is smaller."""
_LENGTH_BYTES, _SUM_BYTES = 4, 16


def journal_name(snapshot: str) -> str:
    """File name of the journal of the snapshot with this id."""
    return PREFIX + snapshot


class _Head(BaseModel):
    """The first record: whose journal it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    snapshot: str = Field(max_length=64)
    after: str = Field(max_length=64)
    frames: Count


@dataclass(frozen=True)
class Scanned:
    """What a journal's bytes hold: `payloads` of its sound records, `size` bytes of them and the file's.

    `after` is the `end` of the journal that this one goes on from, empty where there was none, and `frames`
    are those of its snapshot: where that one has more than the journal before leads to, there is no way on.
    """

    snapshot: str
    after: str
    frames: int
    payloads: tuple[bytes, ...]
    end: str
    size: int
    file_size: int


class Journal:
    """The journal that is being written. Every method raises OSError; then it must not be used again."""

    def __init__(self, disk: Disk, path: Path, seal: Seal, *, snapshot: str, after: str, frames: int) -> None:
        """Creates the file and makes it last, but not yet its name in the folder."""
        self._seal, self._snapshot, self._records = seal, snapshot, 0
        self._file = disk.create(path)
        self._sum = first_sum()
        self.size = len(MAGIC)
        self.waits = False
        """Whether records were appended that a power cut would take."""
        head = {"format": _FORMAT, "snapshot": snapshot, "after": after, "frames": frames}
        self._file.write(MAGIC)
        self.append(json.dumps(head).encode(), whole_page=True)
        self.sync()

    @property
    def end(self) -> str:
        """Checksum of everything so far."""
        return self._sum.hex()

    def append(self, payload: bytes, *, whole_page: bool = False) -> None:
        """`whole_page`: it is synced next, so the rest of its page belongs to it."""
        sealed = self._seal.seal(payload, role=JOURNAL, of=_place(self._snapshot, self._records))
        self._records += 1
        total = next_sum(self._sum, sealed)
        record = len(sealed).to_bytes(_LENGTH_BYTES, "little") + total + sealed
        if whole_page:
            record += bytes(-(self.size + len(record)) % PAGE)
        self.waits = True
        self._file.write(record)
        self._sum = total
        self.size += len(record)

    def sync(self) -> None:
        self._file.sync()
        self.waits = False

    def close(self) -> None:
        self._file.close()


def scan(data: bytes, seal: Seal) -> Scanned | None:
    """The sound records from the beginning on, None where not even the first one is.

    Raises NewerState for a journal of a later version, StateError where the key does not fit or the first
    record, although it is sound, makes no sense.
    """
    if data[: len(MAGIC)] != MAGIC:
        return None
    at, total = len(MAGIC), first_sum()
    payloads: list[bytes] = []
    head: _Head | None = None
    while (found := _record(data, at, total) or _record(data, at + -at % PAGE, total)) is not None:
        sealed, total, at = found
        place = _place(head.snapshot if head else "", len(payloads))
        payloads.append(seal.open(sealed, role=JOURNAL, of=place))
        head = head or _head(payloads[0])
    if head is None:
        return None
    if len(data) - at < PAGE and not any(data[at:]):
        at = len(data)  # what a sync added to the last record
    return Scanned(head.snapshot, head.after, head.frames, tuple(payloads[1:]), total.hex(), at, len(data))


def _record(data: bytes, at: int, before: bytes) -> tuple[bytes, bytes, int] | None:
    """The record at `at` behind those of checksum `before`: its sealed payload, its checksum and its end."""
    start = at + _LENGTH_BYTES + _SUM_BYTES
    stop = start + int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
    if start > len(data) or stop > len(data):
        return None
    sealed = data[start:stop]
    total = next_sum(before, sealed)
    return (sealed, total, stop) if data[at + _LENGTH_BYTES : start] == total else None


def _head(payload: bytes) -> _Head:
    try:
        plain = json.loads(payload)
        if isinstance(plain, dict) and isinstance(plain["format"], int) and plain["format"] not in _READ:
            raise NewerState("its journal was written by a newer lvm-edge")
        return _Head.model_validate(plain)
    except ValidationError as error:
        raise StateError(f"its journal is not understood ({describe_first_problem(error)})") from error
    except (KeyError, ValueError, RecursionError) as error:
        raise StateError(f"its journal is not understood ({type(error).__name__})") from error


def _place(snapshot: str, record: int) -> str:
    """By which a record is known to its seal. The first one says whose journal it is."""
    return f"{snapshot} {record}" if record else "0"


def first_sum() -> bytes:
    return next_sum(b"", MAGIC)


def next_sum(before: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(before + data, digest_size=_SUM_BYTES).digest()
