"""Private files: readable by their owner only, replaced as a whole, never half written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engines.fsync import fsync_folder

FOLDER_MODE = 0o700
FILE_MODE = 0o600


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
