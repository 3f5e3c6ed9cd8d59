"""Folders of a cache that are made once, whole or not at all; of each thing only its last version stays."""

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


def made_once(cache: Path, name: str, version: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of `version` in `cache`; where it is not there yet `make` fills it.

    One process makes at a time, so that two runs do not make the same. What a killed one left goes then, and
    so do other versions of `name`; who has one open can read on. `make` may make nothing else in `cache`.
    """
    place = cache / f"{name}-{short(version)}"
    if place.exists():
        return place
    with alone(cache / _LOCK):
        for left in cache.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        if not place.exists():
            _make(place, cache / f"{_UNFINISHED}{uuid.uuid4().hex}", make)
            for other in cache.glob(f"{name}-*"):
                if other != place:
                    shutil.rmtree(other)
    return place


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Among those that hold the file `lock`, one process at a time; the others wait."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # the system lets it go when this process ends, however it ends
        yield


def _make(place: Path, part: Path, make: Callable[[Path], object]) -> None:
    part.mkdir()
    try:
        make(part)
        part.rename(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def short(said: str) -> str:
    """16 letters that change with `said`."""
    return hashlib.sha256(said.encode()).hexdigest()[:16]
