"""Write a running process's state folder: a record for each batch of frames, a snapshot now and then."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_runtime.memory.recurrent_state import clip_output_specs
from edge_runtime.memory.version import Step
from edge_runtime.persistence.encryption import Key, Seal
from edge_runtime.persistence.errors import Damaged, StateError
from edge_runtime.persistence.filesystem import FOLDER_MODE, Disk
from edge_runtime.persistence.journal import PREFIX, Journal, journal_name
from edge_runtime.persistence.load import load_snapshot
from edge_runtime.persistence.set_aside import remove_set_aside
from edge_runtime.persistence.snapshot import (
    FILE,
    PREVIOUS,
    SaveStatus,
    Snapshot,
    decode,
    encode,
)
from edge_runtime.persistence.step_codec import Record, RecordCoder
from edge_runtime.system.retention import is_expired
from edge_runtime.system.timings import DurationHistogram
from engines.fsync import fsync_folder
from engines.network_config import NetworkConfig

log = logging.getLogger(__name__)

DAMAGED = "memory.state.damaged"
DAMAGED_RETENTION_S = 7 * 86400.0
"""For inspection by a person; it holds what was watched, so it does not stay for ever."""
_NEW = ".new"
JOURNAL_PER_SNAPSHOT = 32
"""Bytes of a journal for each byte of its snapshot: snapshots are 3 % of all written bytes, and a journal of
the default bundle ends after 32 MB, half an hour."""
RETRY_S = (5.0, 60.0)
"""First and longest wait between two attempts to save where the disk is full or gone."""
LOG_AGAIN_S = 600.0


class StateFolder:
    """The folder that one running process writes; `with` holds its lock. Raises StateError if it is in use.

    A journal is written only where the saved snapshots have the `network` in their headers.
    """

    def __init__(
        self,
        folder: Path,
        key: Key | None = None,
        *,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.disk = disk or Disk()
        self.problem: str | None = None
        """Why the newest frames or the newest snapshot could not be written, None while they were."""
        self.save_seconds = DurationHistogram()
        """Durations of writing snapshots, failed attempts included."""
        self.key = key
        """Encrypts everything here, if there is one."""
        self._seal, self._clock = Seal(key), clock
        self._current: str | None = None
        self._journal: Journal | None = None
        self._coder: RecordCoder | None = None
        self._limit = 0
        self._synced_at = self._retry_at = self._logged_at = float("-inf")
        self._wait_s = RETRY_S[0]
        self._written_before = 0
        self._made: list[Path] = []
        """The lock and the folders that were not there, the innermost first."""

    def __enter__(self) -> StateFolder:
        try:
            while not self._take_lock():
                continue
        except OSError as error:
            raise StateError(
                f"state {self.folder} cannot be written: {error.strerror}; name another --state"
            ) from error
        return self

    def _take_lock(self) -> bool:
        """Take the lock. Returns False where the file was removed meanwhile by who held it before."""
        path = self.folder / "lock"
        self._made = [made for made in (path, self.folder, *self.folder.parents) if not made.exists()]
        if self.folder in self._made:
            self.folder.mkdir(parents=True, mode=FOLDER_MODE, exist_ok=True)
            fsync_folder(self.folder.parent)
        try:
            self._lock = path.open("w")
        except FileNotFoundError:  # the folder was made, and is gone again
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateError(
                f"state {self.folder} is in use by another lvm-edge; name another --state"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(self._lock.fileno())):
                return True
        self._lock.close()
        return False

    def __exit__(self, *_: object) -> None:
        self._drop_journal()
        if not any((self.folder / name).exists() for name in (FILE, PREVIOUS)):
            self._remove_made_files()
        self._lock.close()

    def _remove_made_files(self) -> None:
        """Remove the lock and the folders that were made for a memory that never came."""
        made, self._made = self._made, []
        with contextlib.suppress(OSError):  # something else is in a folder, which stays
            for path in made:
                path.rmdir() if path.is_dir() else path.unlink()

    def load(self, network: NetworkConfig | None = None) -> Snapshot | None:
        """Return the newest state as `load_snapshot` does, for the process that will go on writing here."""
        snapshot = load_snapshot(self.folder, network, disk=self.disk, seal=self._seal)
        if snapshot is not None:
            self._written_before = snapshot.saving.written - self.disk.written
        return snapshot

    @property
    def saving(self) -> SaveStatus:
        """Bytes written for this memory so far, and what is wrong."""
        return SaveStatus(self._written_before + self.disk.written, self.problem)

    def append(self, steps: Sequence[Step], snapshot: Callable[[], Snapshot], *, within: float) -> None:
        """Save the steps of one batch; to be called once after each batch.

        `snapshot` returns the state after them. When this returns they survive a kill, and after at most
        `within` seconds a power cut (0: at once). A full or missing disk raises nothing: it is logged and
        stands in `problem`, and saving is tried again from time to time, from the memory in RAM.
        """
        if not steps:
            return
        if self._journal is not None:
            self._write_records(steps, snapshot, within)
        # The steps go into a full journal too, so that it leads up to the snapshot that follows.
        if self._journal is None or self._is_full(steps[-1]):
            saved = self._try_to_save(snapshot)
            if not saved and self._journal is not None and self._journal.size >= 4 * self._limit:
                self._drop_journal()  # steps skipped from now on must not be missing in its middle

    def save(self, snapshot: Snapshot) -> int:
        """Write a snapshot and begin its journal. Return the snapshot's size in bytes.

        A power cut at any moment leaves the state before or this one. Raises StateError if it cannot be
        written, or if the files here are of a later version.
        """
        try:
            with self.save_seconds.measure():
                size = self._save(snapshot)
        except OSError as error:
            raise StateError(f"state {self.folder} cannot be saved: {error.strerror}") from error
        except StateError as error:  # from the files that are there
            raise StateError(
                f"state {self.folder} is left as it is: {error}; name another --state"
            ) from error
        if self.problem is not None:
            log.warning("state %s is saved again", self.folder)
        self.problem, self._wait_s = None, RETRY_S[0]
        self._retry_at = self._logged_at = float("-inf")
        if self._seal.read_unsealed:  # from before there was a key
            self._seal.read_unsealed = False
            self._remove_older()
        return size

    def save_without_history(self, snapshot: Snapshot) -> int:
        """As `save`, and remove all older files: what was forgotten must not come back."""
        try:
            size = self.save(snapshot)
        except StateError:
            # The next steps continue `snapshot`, and the journal ends before it.
            self._drop_journal()
            raise
        self._remove_older()
        return size

    # -- inside --------------------------------------------------------------------------------------------

    def _remove_older(self) -> None:
        try:
            for name in (PREVIOUS, DAMAGED):
                self.disk.unlink(self.folder / name)
                # A kill between two renames leaves it; a rename onto the same file does not remove it.
                self.disk.unlink(self.folder / (name + _NEW))
            self._clean()
            self.disk.sync_folder(self.folder)
        except OSError as error:
            raise StateError(
                f"state {self.folder}: {error.strerror}: the older files are not removed"
            ) from error

    def _is_full(self, step: Step) -> bool:
        """Return whether a snapshot is due: at a clip's end, where it is smallest, else at twice the size."""
        assert self._journal is not None
        return self._journal.size >= (self._limit if step.clip_update else 2 * self._limit)

    def _try_to_save(self, snapshot: Callable[[], Snapshot]) -> bool:
        if self._clock() < self._retry_at:
            return False
        try:
            self.save(snapshot())
        except StateError as error:
            self._note_problem(str(error))
            return False
        return True

    def _write_records(self, steps: Sequence[Step], snapshot: Callable[[], Snapshot], within: float) -> None:
        assert self._journal is not None and self._coder is not None
        header, due = snapshot().header, self._clock() - self._synced_at >= within
        try:
            for step in steps:
                record = self._coder.encode(Record(step, header.seen, header.dropped))
                self._journal.append(record, whole_page=due and step is steps[-1])
            if due:
                self._journal.sync()
                self._synced_at = self._clock()
        except OSError as error:
            # Nothing may follow a torn record: only a snapshot goes on from here.
            self._drop_journal()
            self._note_problem(f"state {self.folder} cannot be saved: {error.strerror}")

    def _note_problem(self, problem: str) -> None:
        now = self._clock()
        self.problem = problem
        self._retry_at = now + self._wait_s
        self._wait_s = min(2 * self._wait_s, RETRY_S[1])
        if now - self._logged_at >= LOG_AGAIN_S:
            log.warning("%s; what is seen is remembered in RAM only until there is room", problem)
            self._logged_at = now

    def _drop_journal(self) -> None:
        if self._journal is not None:
            with contextlib.suppress(OSError):  # a full disk may fail here too; all that counts was synced
                self._journal.close()
        self._journal = self._coder = None

    def _save(self, snapshot: Snapshot) -> int:
        name = os.urandom(8).hex()
        sound = self._current is not None or self._id_in(FILE) is not None
        header = snapshot.header.model_copy(update={"id": name, "written": self.saving.written})
        data = encode(Snapshot(header, snapshot.version), self._seal)
        after = ""
        if self._journal is not None:
            if self._journal.unsynced:
                self._journal.sync()
            after = self._journal.end
        journal = self._write_files(name, after, snapshot.version.frames, data)
        self._drop_journal()
        self._put_in_place(sound)
        self._current = name
        if header.network is not None:
            network = header.network
            self._journal = journal
            self._coder = RecordCoder(
                network.d_backbone, output_specs=clip_output_specs(network), cells=network.cells
            )
            self._limit, self._synced_at = JOURNAL_PER_SNAPSHOT * len(data), self._clock()
        else:
            journal.close()
        try:
            self._clean()
        except OSError as error:  # they only take room, and the next snapshot tries again
            log.warning("state %s: old journals cannot be removed: %s", self.folder, error.strerror)
        return len(data)

    def _write_files(self, name: str, after: str, frames: int, data: bytes) -> Journal:
        """Write and sync the two new files, under names that are not read yet."""
        path, fresh = self.folder / journal_name(name), self.folder / (FILE + _NEW)
        journal = None
        try:
            journal = Journal(self.disk, path, self._seal, snapshot=name, after=after, frames=frames)
            file = self.disk.create(fresh)
            try:
                file.write(data)
                file.sync()
            finally:
                file.close()
        except OSError:
            for file_path in (path, fresh):
                with contextlib.suppress(OSError):
                    self.disk.unlink(file_path)
            if journal is not None:
                journal.close()
            raise
        return journal

    def _put_in_place(self, sound: bool) -> None:
        current = self.folder / FILE
        if sound:
            self._link_as(self.folder / PREVIOUS, current)
        elif FILE in self.disk.names(self.folder):
            # A damaged file must not push out the sound one before it.
            self._link_as(self.folder / DAMAGED, current)
            with contextlib.suppress(OSError):  # then its age is that of its content
                os.utime(self.folder / DAMAGED)
        self.disk.replace(self.folder / (FILE + _NEW), current)
        self.disk.sync_folder(self.folder)

    def _id_in(self, name: str) -> str | None:
        """Return the id of the snapshot in a file, "" for version 1, None where there is no sound one."""
        try:
            return decode(self.disk.read(self.folder / name), self._seal).header.id
        except (FileNotFoundError, Damaged):
            return None

    def _link_as(self, other: Path, current: Path) -> None:
        """Give `current` the name `other` too, so that a reader meanwhile always finds it."""
        spare = other.with_name(other.name + _NEW)
        self.disk.unlink(spare)
        try:
            self.disk.link(current, spare)
        except OSError:  # FAT has no second names: there it is missing for the moment of a rename
            spare = current
        self.disk.replace(spare, other)

    def _clean(self) -> None:
        """Remove journals of snapshots that are gone, and a damaged snapshot that is too old."""
        if is_expired(self.folder / DAMAGED, DAMAGED_RETENTION_S):
            self.disk.unlink(self.folder / DAMAGED)
        remove_set_aside(self.folder, expired=True)
        try:
            ids = [self._current, self._id_in(PREVIOUS)]
        except StateError:  # sound and not ours: it is unknown whose the journals are
            return
        current = {journal_name(id) for id in ids if id}
        for name in self.disk.names(self.folder):
            if name.startswith(PREFIX) and name not in current:
                self.disk.unlink(self.folder / name)
