"""The folder that a running process writes: a snapshot now and then, a record for each batch of frames."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from edge_runtime.memory.recurrent_state import clip_output_specs
from edge_runtime.memory.version import Step
from edge_runtime.persistence.encryption import Key
from edge_runtime.persistence.errors import Damaged, StateError
from edge_runtime.persistence.filesystem import Disk
from edge_runtime.persistence.journal import PREFIX, Journal, journal_name
from edge_runtime.persistence.load import load_snapshot
from edge_runtime.persistence.private_files import FOLDER_MODE
from edge_runtime.persistence.sealing import seal_of
from edge_runtime.persistence.snapshot import (
    FILE,
    PREVIOUS,
    Saving,
    Snapshot,
    decode,
    encode,
)
from edge_runtime.persistence.step_codec import Record, RecordCoder
from edge_runtime.system.retention import is_expired
from edge_runtime.system.timings import DurationHistogram
from engines.durable import fsync_folder
from engines.network_config import NetworkConfig

log = logging.getLogger(__name__)

DAMAGED = "memory.state.damaged"
DAMAGED_KEPT_S = 7 * 86400.0
"""For a person to look at; it tells of what was watched, so not for ever."""
_NEW = ".new"
JOURNAL_PER_SNAPSHOT = 32
"""Bytes of a journal for each of its snapshot: snapshots are 3 % of what is written, and a journal of the
default bundle ends after 6 MB, a quarter of an hour, which takes under a second to replay."""
RETRY_S = (5.0, 60.0)
"""First and longest wait between two tries to save where the disk is full or gone."""
SAY_AGAIN_S = 600.0


class StateFolder:
    """The folder that one running process writes; `with` holds its lock. Raises StateError if it is taken.

    `network` of the snapshots that are saved must be in their headers for a journal to be kept.
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
        self.trouble: str | None = None
        """Why the newest frames or the newest snapshot could not be written, None while all goes well."""
        self.save_seconds = DurationHistogram()
        """Of snapshots that were tried to be written."""
        self.key = key
        """What everything here is sealed with, if anything."""
        self._seal, self._clock = seal_of(key), clock
        self._current: str | None = None
        self._journal: Journal | None = None
        self._coder: RecordCoder | None = None
        self._limit = 0
        self._synced_at = self._retry_at = self._said_at = float("-inf")
        self._wait_s = RETRY_S[0]
        self._written_before = 0

    def __enter__(self) -> StateFolder:
        try:
            if not self.folder.exists():
                self.folder.mkdir(parents=True, mode=FOLDER_MODE)
                fsync_folder(self.folder.parent)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise StateError(
                f"state {self.folder} cannot be written: {error.strerror}; name another --state"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateError(
                f"state {self.folder} is in use by another lvm-edge; name another --state"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop_journal()
        self._lock.close()

    def load(self, network: NetworkConfig | None = None) -> Snapshot | None:
        """As `load_snapshot`, for the process that will go on writing here."""
        snapshot = load_snapshot(self.folder, network, disk=self.disk, seal=self._seal)
        if snapshot is not None:
            self._written_before = snapshot.saving.written - self.disk.written
        return snapshot

    @property
    def saving(self) -> Saving:
        """How it goes."""
        return Saving(self._written_before + self.disk.written, self.trouble)

    def keep(self, steps: Sequence[Step], snapshot: Callable[[], Snapshot], *, within: float) -> None:
        """Save what one batch added: called once after each, with the steps that it took.

        `snapshot` gives the state after them. They survive a kill when this returns and a power cut `within`
        seconds; for 0 s that is at once too. A disk that is full or gone raises nothing: it is told in the
        log and by `trouble`, and saving is tried again now and then, from the memory that goes on meanwhile.
        """
        if not steps:
            return
        if self._journal is not None:
            self._append(steps, snapshot, within)
        # Also into the journal that is full: so it leads up to the snapshot that follows.
        if self._journal is None or self._is_full(steps[-1]):
            saved = self._tried_to_save(snapshot)
            if not saved and self._journal is not None and self._journal.size >= 4 * self._limit:
                self._drop_journal()  # what is skipped now must not be missing in its middle

    def save(self, snapshot: Snapshot) -> int:
        """Write a snapshot and begin its journal. Returns the snapshot's bytes.

        A power cut at any moment leaves the state before or this one. Raises StateError if it cannot be
        written, or if what lies here is of a later version.
        """
        try:
            with self.save_seconds.measure():
                size = self._save(snapshot)
        except OSError as error:
            raise StateError(f"state {self.folder} cannot be saved: {error.strerror}") from error
        except StateError as error:  # of what lies there
            raise StateError(
                f"state {self.folder} is left as it is: {error}; name another --state"
            ) from error
        if self.trouble is not None:
            log.warning("state %s is saved again", self.folder)
        self.trouble, self._wait_s = None, RETRY_S[0]
        self._retry_at = self._said_at = float("-inf")
        if self._seal.found_clear:  # from before there was a key
            self._seal.found_clear = False
            self._forget_before()
        return size

    def save_alone(self, snapshot: Snapshot) -> int:
        """As `save`, and remove everything that was before: what was forgotten must not come back."""
        try:
            size = self.save(snapshot)
        except StateError:
            # The steps that come lead on from `snapshot`, those in the journal up to what was before it.
            self._drop_journal()
            raise
        self._forget_before()
        return size

    # -- inside --------------------------------------------------------------------------------------------

    def _forget_before(self) -> None:
        try:
            for name in (PREVIOUS, DAMAGED):
                self.disk.unlink(self.folder / name)
                # A kill between two renames leaves one, which a rename onto the same file does not take away.
                self.disk.unlink(self.folder / (name + _NEW))
            self._clean()
            self.disk.sync_folder(self.folder)
        except OSError as error:
            raise StateError(
                f"state {self.folder}: {error.strerror}: what was before is not removed"
            ) from error

    def _is_full(self, step: Step) -> bool:
        """At the end of a clip, where a snapshot is smallest, or else at twice the size."""
        assert self._journal is not None
        return self._journal.size >= (self._limit if step.clip_update else 2 * self._limit)

    def _tried_to_save(self, snapshot: Callable[[], Snapshot]) -> bool:
        if self._clock() < self._retry_at:
            return False
        try:
            self.save(snapshot())
        except StateError as error:
            self._in_trouble(str(error))
            return False
        return True

    def _append(self, steps: Sequence[Step], snapshot: Callable[[], Snapshot], within: float) -> None:
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
            self._in_trouble(f"state {self.folder} cannot be saved: {error.strerror}")

    def _in_trouble(self, why: str) -> None:
        now = self._clock()
        self.trouble = why
        self._retry_at = now + self._wait_s
        self._wait_s = min(2 * self._wait_s, RETRY_S[1])
        if now - self._said_at >= SAY_AGAIN_S:
            log.warning("%s; what is seen is remembered in RAM only until there is room", why)
            self._said_at = now

    def _drop_journal(self) -> None:
        if self._journal is not None:
            with contextlib.suppress(OSError):  # as a full disk may say; what counts was synced
                self._journal.close()
        self._journal = self._coder = None

    def _save(self, snapshot: Snapshot) -> int:
        name = os.urandom(8).hex()
        sound = self._current is not None or self._id_in(FILE) is not None
        header = snapshot.header.model_copy(update={"id": name, "written": self.saving.written})
        data = encode(Snapshot(header, snapshot.version), self._seal)
        after = ""
        if self._journal is not None:
            if self._journal.waits:
                self._journal.sync()
            after = self._journal.end
        journal = self._written(name, after, snapshot.version.frames, data)
        self._drop_journal()
        self._put_in_place(sound)
        self._current = name
        if header.network is not None:
            network = header.network
            self._journal = journal
            self._coder = RecordCoder(network.d_backbone, brought=clip_output_specs(network))
            self._limit, self._synced_at = JOURNAL_PER_SNAPSHOT * len(data), self._clock()
        else:
            journal.close()
        try:
            self._clean()
        except OSError as error:  # it is saved; they only take room, and the next snapshot tries again
            log.warning("state %s: old journals cannot be removed: %s", self.folder, error.strerror)
        return len(data)

    def _written(self, name: str, after: str, frames: int, data: bytes) -> Journal:
        """The two new files, made to last under names that nobody reads yet."""
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
            for one in (path, fresh):
                with contextlib.suppress(OSError):
                    self.disk.unlink(one)
            if journal is not None:
                journal.close()
            raise
        return journal

    def _put_in_place(self, sound: bool) -> None:
        current = self.folder / FILE
        if sound:
            self._keep_as(self.folder / PREVIOUS, current)
        elif FILE in self.disk.names(self.folder):
            # A damaged file must not push out the sound one before it.
            self._keep_as(self.folder / DAMAGED, current)
            with contextlib.suppress(OSError):  # then it is as old as what it holds
                os.utime(self.folder / DAMAGED)
        self.disk.replace(self.folder / (FILE + _NEW), current)
        self.disk.sync_folder(self.folder)

    def _id_in(self, name: str) -> str | None:
        """Id of the snapshot in a file, "" for one of version 1, None where there is no sound one."""
        try:
            return decode(self.disk.read(self.folder / name), self._seal).header.id
        except (FileNotFoundError, Damaged):
            return None

    def _keep_as(self, other: Path, current: Path) -> None:
        """`current` under the name `other` too, so that it is never away for whoever reads meanwhile."""
        spare = other.with_name(other.name + _NEW)
        self.disk.unlink(spare)
        try:
            self.disk.link(current, spare)
        except OSError:  # FAT and its like know no second names: there it is away for the moment of a rename
            spare = current
        self.disk.replace(spare, other)

    def _clean(self) -> None:
        """Remove journals of snapshots that are gone, and a damaged snapshot that nobody came for."""
        if is_expired(self.folder / DAMAGED, DAMAGED_KEPT_S):
            self.disk.unlink(self.folder / DAMAGED)
        try:
            ids = [self._current, self._id_in(PREVIOUS)]
        except StateError:  # sound and not ours: whose the journals are is not known
            return
        wanted = {journal_name(one) for one in ids if one}
        for name in self.disk.names(self.folder):
            if name.startswith(PREFIX) and name not in wanted:
                self.disk.unlink(self.folder / name)
