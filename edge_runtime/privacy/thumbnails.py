"""Small pictures of remembered moments, for a person's eyes. Off unless switched on; bounded in all ways.

A picture of each frame of the running clip waits in RAM, as JPEG. When the clip is over, those whose tokens
are remembered are written, and those go whose tokens are not remembered any more. What is offered has passed
the privacy zones already. Sealed where the state is.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_runtime.config.privacy import ThumbnailSettings
from edge_runtime.frame import MAX_T, TICKS_PER_SECOND, Frame, to_tick
from edge_runtime.imaging.jpeg import encode_jpeg, shrink
from edge_runtime.memory.version import Version
from edge_runtime.persistence.encryption import Key, open_sealed
from edge_runtime.persistence.private_files import make_private_folder, write_private
from edge_runtime.system.retention import too_old
from engines.durable import fsync_folder
from engines.errors import LvmError

log = logging.getLogger(__name__)

FOLDER = "thumbnails"
ROLE = "thumbnail"
MOST_WAITING = 512
"""Pictures in RAM: those of one clip. About 10 kB each."""
_NAME = re.compile(r"(-?\d{1,18})\.jpg(\.sealed)?$")


class Thumbnails:
    """The pictures of one state folder. For the run's thread only, but for `read` and `prune`.

    A thumbnail is a comfort: a disk that is full or read-only costs pictures, told in the log, and never the
    memory. But pictures that are to be gone and cannot be removed raise LvmError.
    """

    def __init__(self, state: Path, settings: ThumbnailSettings, key: Key | None = None) -> None:
        """What is there already stays while switched on, and is removed while switched off."""
        self._folder = state / FOLDER
        self._settings = settings
        self._key = key
        self._waiting: dict[int, bytes] = {}
        self._memory_version: int | None = None
        if settings.enabled:
            with self._comfort("written"):
                make_private_folder(self._folder)
                _remove(p for p in self._folder.iterdir() if not _NAME.match(p.name))  # a half-written one
            self.prune()
        else:
            remove_all(state)

    @property
    def enabled(self) -> bool:
        return self._settings.enabled

    def offer(self, frame: Frame) -> None:
        """A frame that is about to be remembered, zones burnt in."""
        if self.enabled:
            self._waiting[to_tick(frame.t)] = encode_jpeg(shrink(frame.image, self._settings.side_px))
            while len(self._waiting) > MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]

    def keep(self, version: Version) -> None:
        """Write pictures of what this version remembers, remove the others. Costs nothing within a clip."""
        if not self.enabled or version.memory.version == self._memory_version:
            return
        self._memory_version = version.memory.version
        remembered = {int(tick) for tick in version.memory.tick[version.memory.valid]}
        with self._comfort("removed"):
            _remove(path for tick, path in self._files().items() if tick not in remembered)
        with self._comfort("written"):
            make_private_folder(self._folder)
            for tick in sorted(remembered & self._waiting.keys()):
                self._write(tick, self._waiting[tick])
        # What a running clip still holds waits on.
        newest = set(version.pending_ticks)
        self._waiting = {tick: data for tick, data in self._waiting.items() if tick in newest}
        self.prune()

    def prune(self) -> None:
        """Remove what is too old, then the oldest until number and bytes are within their bounds."""
        if self.enabled:
            with self._comfort("removed"):
                self._prune()

    def _prune(self) -> None:
        files = self._files()
        told = {path: path.stat() for path in files.values() if path.exists()}
        late = [path for path in told if too_old(path, self._settings.days * 86400)]
        kept = [path for _, path in sorted(files.items()) if path in told and path not in late]
        total = sum(told[path].st_size for path in kept)
        while kept and (len(kept) > self._settings.most or total > self._settings.most_mb * 1e6):
            late.append(kept.pop(0))
            total -= told[late[-1]].st_size
        _remove(late)

    def clear_waiting(self) -> None:
        """Let go of the pictures in RAM: a pause has begun."""
        self._waiting.clear()

    def forget(self, first_tick: int, last_tick: int) -> int:
        """Remove the pictures of these ticks, both included. Returns how many files that were."""
        self._waiting = {t: data for t, data in self._waiting.items() if not first_tick <= t <= last_tick}
        return forget_files(self._folder, first_tick, last_tick)

    def times(self) -> list[float]:
        """Seconds of which there is a picture, oldest first."""
        return [tick / TICKS_PER_SECOND for tick in sorted(self._files())]

    def read(self, t: float) -> bytes | None:
        """The JPEG of the moment at `t` seconds, None where there is none. Raises SealError."""
        if not abs(t) <= MAX_T:  # as of NaN, which has no tick
            return None
        tick = to_tick(t)
        path = self._files().get(tick)
        if path is None:
            return None
        try:
            return open_sealed(path.read_bytes(), self._key, role=ROLE, owner=str(tick))
        except FileNotFoundError:  # removed in the meantime
            return None

    @contextlib.contextmanager
    def _comfort(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("%s: a thumbnail cannot be %s: %s", self._folder, done, error.strerror)

    def _write(self, tick: int, jpeg: bytes) -> None:
        if self._key is None:
            write_private(self._folder / f"{tick}.jpg", jpeg)
            return
        sealed = self._key.seal(jpeg, role=ROLE, owner=str(tick))
        write_private(self._folder / f"{tick}.jpg.sealed", sealed)
        (self._folder / f"{tick}.jpg").unlink(missing_ok=True)

    def _files(self) -> dict[int, Path]:
        return _pictures(self._folder)


def forget_files(folder: Path, first_tick: int, last_tick: int) -> int:
    """Remove the pictures of these ticks, both included, and any that is half written. Returns how many.

    Raises LvmError where they cannot be removed.
    """
    if not folder.is_dir():
        return 0
    with _certainly(folder):
        left = [path for path in folder.iterdir() if not _NAME.match(path.name)]
        return _remove([*left, *(p for t, p in _pictures(folder).items() if first_tick <= t <= last_tick)])


@contextlib.contextmanager
def _certainly(folder: Path) -> Iterator[None]:
    """Around removing what nobody may find any more."""
    try:
        yield
    except OSError as error:
        raise LvmError(
            f"{folder}: thumbnails that are to be gone cannot be removed: {error.strerror}; remove them"
        ) from error


def _pictures(folder: Path) -> dict[int, Path]:
    """By tick."""
    if not folder.is_dir():
        return {}
    named = ((_NAME.match(path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in named if match}


def _remove(paths: Iterable[Path]) -> int:
    """Remove these files, those that are gone already too; the folder's change is made to last."""
    folders, count = set(), 0
    for path in list(paths):
        path.unlink(missing_ok=True)
        folders.add(path.parent)
        count += 1
    for folder in folders:
        fsync_folder(folder)
    return count


def remove_all(state: Path) -> int:
    """Remove every thumbnail of a state folder. Returns how many. Raises LvmError where they stay."""
    folder = state / FOLDER
    if not folder.is_dir():
        return 0
    with _certainly(folder):
        paths = list(folder.iterdir())
        for path in paths:
            path.unlink()
        folder.rmdir()
    if paths:
        log.warning("%s: thumbnails are off, %d that were kept before are removed", state, len(paths))
    return len(paths)
