"""Files of a state, and private files: readable by their owner only, replaced as a whole.

The tests have a file system that breaks at the n-th operation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Protocol

from engines.fsync import fsync_folder

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class Appender(Protocol):
    """A file being written from its beginning to its end."""

    def write(self, data: bytes) -> None:
        """Append all of `data`. Raises OSError, after which any part of it may have been written."""

    def sync(self) -> None:
        """Wait until the file would survive a power cut. Raises OSError, after which none of it counts."""

    def close(self) -> None: ...


class Disk:
    """Files in folders. Every method raises OSError as the system does."""

    def __init__(self) -> None:
        self.written = 0
        """Bytes handed to the file system so far."""
        self.syncs = 0
        """Number of syncs of files and folders, each of which costs a flash disk a write or two."""

    def read(self, path: Path) -> bytes:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would block, a device has no end
            raise OSError(errno.EINVAL, "it is no file")
        return path.read_bytes()

    def names(self, folder: Path) -> list[str]:
        """Return the names in the folder, none where there is no folder."""
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def create(self, path: Path) -> Appender:
        """Create a new empty file, in place of any other."""
        return _File(self, path)

    def replace(self, path: Path, target: Path) -> None:
        os.replace(path, target)

    def link(self, path: Path, other: Path) -> None:
        os.link(path, other)

    def unlink(self, path: Path) -> None:
        """Remove the file if it is there."""
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Make files that were created, renamed or removed in the folder survive a power cut."""
        self.syncs += 1
        fsync_folder(folder)


class _File:
    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._file = path.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = self._file.write(rest)  # may be short
            self._disk.written += count
            rest = rest[count:]

    def sync(self) -> None:
        self._disk.syncs += 1
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def make_private_folder(folder: Path) -> None:
    """Make `folder` for its owner only, also where it exists already. Raises OSError."""
    folder.mkdir(parents=True, mode=FOLDER_MODE, exist_ok=True)
    if folder.stat().st_mode & 0o777 != FOLDER_MODE:
        folder.chmod(FOLDER_MODE)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, readable by its owner only for any umask. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    try:
        # Exclusive and not through a link, so never into another user's file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(fresh, flags, FILE_MODE), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    fsync_folder(path.parent)
