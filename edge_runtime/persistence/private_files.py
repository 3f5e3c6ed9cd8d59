"""Files that nobody else on the machine may read: replaced as a whole, never half written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engines.durable import fsync_folder

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def private_folder(folder: Path) -> None:
    """Make `folder` for its owner only; one that is there already becomes so. Raises OSError."""
    folder.mkdir(parents=True, mode=FOLDER_MODE, exist_ok=True)
    if folder.stat().st_mode & 0o777 != FOLDER_MODE:
        folder.chmod(FOLDER_MODE)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, readable by its owner only, whatever the umask. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    try:
        # Exclusive and not through a link: what is written here is never somebody else's file.
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
