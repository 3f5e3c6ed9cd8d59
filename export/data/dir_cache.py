"""Make folders of a cache once, whole or not at all, and keep only the last version of each."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "making.lock"
_UNFINISHED = "making-"


def cached_dir(cache: Path, name: str, version: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name` of `version` in `cache`; `make` fills it if it does not exist.

    One process makes folders at a time, so that two runs do not make the same one. Remains of killed
    processes and other versions of `name` are removed then; a process that has one open can read on. `make`
    must not create anything else in `cache`.
    """
    place = cache / f"{name}-{short_digest(version)}"
    if place.exists():
        return place
    with exclusive_lock(cache / _LOCK):
        for remains in cache.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(remains)
        if not place.exists():
            part = cache / f"{_UNFINISHED}{uuid.uuid4().hex}"
            part.mkdir()
            try:
                make(part)
                part.rename(place)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            for other in cache.glob(f"{name}-*"):
                if other != place:
                    shutil.rmtree(other)
    return place


@contextmanager
def exclusive_lock(lock: Path) -> Iterator[None]:
    """Hold the lock file `lock`; other processes wait for it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the system releases it when this process ends, however it ends
        yield


def short_digest(text: str) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
