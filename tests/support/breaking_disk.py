"""A disk in memory that breaks at the n-th operation, and its content after a power cut.

It distinguishes what was written from what was synced. After a cut, names come back as they were at the last
sync of the folder or with any number of the later changes, and files as they were at their last sync or with
any part of what came after.
"""

from __future__ import annotations

import errno
import random
from pathlib import Path

from edge_runtime.persistence.filesystem import Disk


class PowerCut(BaseException):
    """Not an Exception, as no code can handle a power cut."""


class _Inode:
    def __init__(self, data: bytes = b"") -> None:
        self.data, self.synced = bytearray(data), len(data)


class BreakingDisk(Disk):
    """The power is cut at operation `cut_at`; with `torn`, half of that write is done.

    `spoil` (operation, how): that write is silently "flipped" or "shortened", and everything goes on.
    `room`: number of bytes that fit, None for any. `readonly`: nothing can be changed.
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
        self._synced = dict(self._names)
        self._changes: list[dict[str, _Inode]] = []

    # -- operations of a Disk ------------------------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        if path.name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return bytes(self._names[path.name].data)

    def names(self, folder: Path) -> list[str]:
        return sorted(self._names)

    def create(self, path: Path) -> _Writing:
        self.operate("create")
        inode = _Inode()
        self._set_names({**self._names, path.name: inode})
        return _Writing(self, inode)

    def replace(self, path: Path, target: Path) -> None:
        self.operate("replace")
        rest = {name: inode for name, inode in self._names.items() if name != path.name}
        self._set_names({**rest, target.name: self._names[path.name]})

    def link(self, path: Path, other: Path) -> None:
        self.operate("link")
        assert other.name not in self._names
        self._set_names({**self._names, other.name: self._names[path.name]})

    def unlink(self, path: Path) -> None:
        if path.name in self._names:
            self.operate("unlink")
            self._set_names({name: inode for name, inode in self._names.items() if name != path.name})

    def sync_folder(self, folder: Path) -> None:
        self.operate("sync_folder")
        self._synced, self._changes = dict(self._names), []

    # -- faults --------------------------------------------------------------------------------------------

    def operate(self, what: str) -> int:
        """Count an operation; raise PowerCut before the `cut_at`th."""
        self.operations.append(what)
        if self.readonly:
            raise OSError(errno.EROFS, "Read-only file system")
        if len(self.operations) == self.cut_at and not (self.torn and what == "write"):
            raise PowerCut
        return len(self.operations)

    def used(self) -> int:
        return sum(len(inode.data) for inode in set(self._names.values()))

    def _set_names(self, names: dict[str, _Inode]) -> None:
        self._names = names
        self._changes.append(names)

    def files(self) -> dict[str, bytes]:
        return {name: bytes(inode.data) for name, inode in self._names.items()}

    def after_cut(self, survives: str, rng: random.Random) -> BreakingDisk:
        """Return the disk after the power is back.

        `survives` says what is there of the unsynced changes: "nothing", "all", "names" without the contents
        of the files, or "parts": some changes and some bytes, the last byte wrong.
        """
        names = self._synced
        if survives in ("all", "names"):
            names = self._names
        elif survives == "parts":
            names = rng.choice([self._synced, *self._changes])
        files = {}
        for name, inode in names.items():
            end = inode.synced
            if survives == "all":
                end = len(inode.data)
            elif survives == "parts":
                end = rng.randint(inode.synced, len(inode.data))
            data = bytearray(inode.data[:end])
            if survives == "parts" and end > inode.synced:
                data[-1] ^= 0x10
            files[name] = bytes(data)
        return BreakingDisk(files)


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
            data = _corrupt(data, self._disk.spoil[1])
        self._inode.data += data
        self._disk.written += len(data)

    def sync(self) -> None:
        self._disk.operate("sync")
        self._disk.syncs += 1
        self._inode.synced = len(self._inode.data)

    def close(self) -> None:
        return None


def _corrupt(data: bytes, how: str) -> bytes:
    if how == "shortened":
        return data[: len(data) * 2 // 3]
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 4
    return bytes(changed)
