"""Keep thumbnails of remembered frames for people. Off by default; limited in number, size and age.

A JPEG of each frame of the current clip waits in RAM. When the clip is complete, the frames that have tokens
in the memory are written to disk, and thumbnails of frames without any token left are removed. Frames are
masked by the privacy zones before they get here. Thumbnails are encrypted where the state is.
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
from edge_runtime.persistence.filesystem import make_private_folder, write_private
from edge_runtime.system.retention import is_expired
from engines.errors import LvmError
from engines.fsync import fsync_folder

log = logging.getLogger(__name__)

FOLDER = "thumbnails"
ROLE = "thumbnail"
MAX_PENDING = 512
"""JPEGs in RAM, about 10 kB each; a clip has fewer frames."""
_NAME = re.compile(r"(-?\d{1,18})\.jpg(\.sealed)?$")


class Thumbnails:
    """The thumbnails of one state folder. For the run's thread only, except `read` and `prune`.

    Thumbnails are optional: if the disk is full or read-only they are lost, with a line in the log, but the
    memory is not. Thumbnails that must be forgotten and cannot be removed raise LvmError.
    """

    def __init__(self, state: Path, settings: ThumbnailSettings, key: Key | None = None) -> None:
        """Keep the thumbnails that are there if `settings.enabled`, else remove them all."""
        self._folder = state / FOLDER
        self._settings = settings
        self._key = key
        self._pending: dict[int, bytes] = {}
        self._memory_version: int | None = None
        if settings.enabled:
            with self._logged_errors("written"):
                make_private_folder(self._folder)
                _remove(p for p in self._folder.iterdir() if not _NAME.match(p.name))  # half-written files
            self.prune()
        else:
            remove_all_thumbnails(state)

    @property
    def enabled(self) -> bool:
        return self._settings.enabled

    def add(self, frame: Frame) -> None:
        """Add a sampled frame, already masked, to those that wait for the end of their clip."""
        if self.enabled:
            self._pending[to_tick(frame.t)] = encode_jpeg(shrink(frame.image, self._settings.side_px))
            while len(self._pending) > MAX_PENDING:
                del self._pending[next(iter(self._pending))]

    def update(self, version: Version) -> None:
        """Write thumbnails of the frames that this version remembers, remove others. Free within a clip."""
        if not self.enabled or version.memory.version == self._memory_version:
            return
        self._memory_version = version.memory.version
        remembered = {int(tick) for tick in version.memory.tick[version.memory.valid]}
        with self._logged_errors("removed"):
            _remove(path for tick, path in self._files().items() if tick not in remembered)
        with self._logged_errors("written"):
            make_private_folder(self._folder)
            for tick in sorted(remembered & self._pending.keys()):
                self._write(tick, self._pending[tick])
        # Frames of the next clip go on waiting.
        in_clip = set(version.pending_ticks)
        self._pending = {tick: data for tick, data in self._pending.items() if tick in in_clip}
        self.prune()

    def prune(self) -> None:
        """Remove thumbnails that are too old, then the oldest until number and size are within limits."""
        if self.enabled:
            with self._logged_errors("removed"):
                self._prune()

    def _prune(self) -> None:
        files = self._files()
        sizes = {path: path.stat().st_size for path in files.values() if path.exists()}
        expired = [path for path in sizes if is_expired(path, self._settings.days * 86400)]
        retained = [path for _, path in sorted(files.items()) if path in sizes and path not in expired]
        total = sum(sizes[path] for path in retained)
        while retained and (len(retained) > self._settings.most or total > self._settings.most_mb * 1e6):
            expired.append(retained.pop(0))
            total -= sizes[expired[-1]]
        _remove(expired)

    def clear_pending(self) -> None:
        """Drop the JPEGs in RAM, because a pause has begun."""
        self._pending.clear()

    def forget(self, first_tick: int, last_tick: int) -> int:
        """Remove thumbnails of the ticks from first to last, both included. Returns the number of files."""
        self._pending = {t: data for t, data in self._pending.items() if not first_tick <= t <= last_tick}
        return remove_thumbnails(self._folder, first_tick, last_tick)

    def times(self) -> list[float]:
        """Return the times of the thumbnails in seconds, oldest first."""
        return [tick / TICKS_PER_SECOND for tick in sorted(self._files())]

    def read(self, t: float) -> bytes | None:
        """Return the JPEG of the frame at `t` seconds, or None. Raises SealError."""
        if not abs(t) <= MAX_T:  # also NaN, which has no tick
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
    def _logged_errors(self, done: str) -> Iterator[None]:
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
        return _files_by_tick(self._folder)


def remove_thumbnails(folder: Path, first_tick: int, last_tick: int) -> int:
    """Remove thumbnails of the ticks from first to last, both included, and half-written files.

    Returns the number of files. Raises LvmError if they cannot be removed.
    """
    if not folder.is_dir():
        return 0
    with _raised_errors(folder):
        partial = [path for path in folder.iterdir() if not _NAME.match(path.name)]
        return _remove(
            [*partial, *(p for t, p in _files_by_tick(folder).items() if first_tick <= t <= last_tick)]
        )


@contextlib.contextmanager
def _raised_errors(folder: Path) -> Iterator[None]:
    """Raise LvmError for a disk error: what is removed here must not stay."""
    try:
        yield
    except OSError as error:
        raise LvmError(
            f"{folder}: thumbnails that must go cannot be removed: {error.strerror}; remove them"
        ) from error


def _files_by_tick(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    matches = ((_NAME.match(path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in matches if match}


def _remove(paths: Iterable[Path]) -> int:
    """Remove files, whether they still exist or not, and sync their folders. Returns the number of paths."""
    folders, count = set(), 0
    for path in list(paths):
        path.unlink(missing_ok=True)
        folders.add(path.parent)
        count += 1
    for folder in folders:
        fsync_folder(folder)
    return count


def remove_all_thumbnails(state: Path) -> int:
    """Remove all thumbnails of a state folder. Returns how many. Raises LvmError if that fails."""
    folder = state / FOLDER
    if not folder.is_dir():
        return 0
    with _raised_errors(folder):
        paths = list(folder.iterdir())
        for path in paths:
            path.unlink()
        folder.rmdir()
    if paths:
        log.warning("%s: thumbnails are off, %d that were kept before are removed", state, len(paths))
    return len(paths)
