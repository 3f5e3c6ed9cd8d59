"""A disk in memory that breaks at the n-th operation, and what a power cut leaves of it.

It keeps apart what was written and what was made to last. After a cut, names come back as they were at the
last sync of the folder or with any number of the later changes, and files as they were at their last sync or
with any part of what came after.
"""

from __future__ import annotations

import errno
import random
from pathlib import Path

from edge_runtime.persistence.filesystem import Disk


class PowerCut(BaseException):
    """Not an Exception: nobody handles the lack of power."""


class _Inode:
    def __init__(self, data: bytes = b"") -> None:
        self.data, self.lasting = bytearray(data), len(data)


class BreakingDisk(Disk):
    """`cut_at` the operation at which the power goes, `torn`: half of a write is done by then.

    `spoil` (operation, how): that write is silently "flipped" or "shortened", and everything goes on.
    `room` bytes that fit, None: any number. `readonly`: nothing can be changed.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        super().__init__()
        self.cut_at: int | None = None
        self.torn = False
        self.spoil: tuple[int, str] | None = None
        self.room: int | None = None
        self.readonly = False
        self.operations: list[str] = []
        self._names = {name: _Inode(data) for name, data in (files or {}).items()}
        self._lasting = dict(self._names)
        self._changes: list[dict[str, _Inode]] = []

    # -- what the state asks -------------------------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        if path.name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return bytes(self._names[path.name].data)

    def names(self, folder: Path) -> list[str]:
        return sorted(self._names)

    def create(self, path: Path) -> _Writing:
        self.operate("create")
        inode = _Inode()
        self._changed({**self._names, path.name: inode})
        return _Writing(self, inode)

    def replace(self, path: Path, target: Path) -> None:
        self.operate("replace")
        rest = {name: inode for name, inode in self._names.items() if name != path.name}
        self._changed({**rest, target.name: self._names[path.name]})

    def link(self, path: Path, other: Path) -> None:
        self.operate("link")
        assert other.name not in self._names
        self._changed({**self._names, other.name: self._names[path.name]})

    def unlink(self, path: Path) -> None:
        if path.name in self._names:
            self.operate("unlink")
            self._changed({name: inode for name, inode in self._names.items() if name != path.name})

    def sync_folder(self, folder: Path) -> None:
        self.operate("sync_folder")
        self._lasting, self._changes = dict(self._names), []

    # -- what goes wrong -----------------------------------------------------------------------------------

    def operate(self, what: str) -> int:
        """Count an operation; the power goes before the `cut_at`th."""
        self.operations.append(what)
        if self.readonly:
            raise OSError(errno.EROFS, "Read-only file system")
        if len(self.operations) == self.cut_at and not (self.torn and what == "write"):
            raise PowerCut
        return len(self.operations)

    def used(self) -> int:
        return sum(len(inode.data) for inode in set(self._names.values()))

    def _changed(self, names: dict[str, _Inode]) -> None:
        self._names = names
        self._changes.append(names)

    def files(self) -> dict[str, bytes]:
        return {name: bytes(inode.data) for name, inode in self._names.items()}

    def after_cut(self, survives: str, rng: random.Random) -> BreakingDisk:
        """What is there when the power is back: "nothing" that was not made to last, "all" of it, "names"
        without what was in the files, "parts": some changes and some bytes, the last one wrong."""
        names = self._lasting
        if survives in ("all", "names"):
            names = self._names
        elif survives == "parts":
            names = rng.choice([self._lasting, *self._changes])
        found = {}
        for name, inode in names.items():
            end = inode.lasting
            if survives == "all":
                end = len(inode.data)
            elif survives == "parts":
                end = rng.randint(inode.lasting, len(inode.data))
            data = bytearray(inode.data[:end])
            if survives == "parts" and end > inode.lasting:
                data[-1] ^= 0x10
            found[name] = bytes(data)
        return BreakingDisk(found)


class _Writing:
    def __init__(self, disk: BreakingDisk, inode: _Inode) -> None:
        self._disk, self._inode = disk, inode

    def write(self, data: bytes) -> None:
        number = self._disk.operate("write")
        if number == self._disk.cut_at:
            self._inode.data += data[: len(data) // 2]
            raise PowerCut
        if self._disk.room is not None and self._disk.used() + len(data) > self._disk.room:
            self._inode.data += data[: max(0, self._disk.room - self._disk.used())]
            raise OSError(errno.ENOSPC, "No space left on device")
        if self._disk.spoil is not None and self._disk.spoil[0] == number:
            data = _spoiled(data, self._disk.spoil[1])
        self._inode.data += data
        self._disk.written += len(data)

    def sync(self) -> None:
        self._disk.operate("sync")
        self._disk.syncs += 1
        self._inode.lasting = len(self._inode.data)

    def close(self) -> None:
        return None


def _spoiled(data: bytes, how: str) -> bytes:
    if how == "shortened":
        return data[: len(data) * 2 // 3]
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 4
    return bytes(changed)
