"""The activity log of one camera: an SQLite file beside its memory, bounded in rows, age and bytes.

    activities.sqlite   rows (id, begin, finish, text, ongoing, body)

`body` is the whole row as JSON, sealed where the state has a key; then `begin`, `finish` and `text`, by which
SQLite searches, are empty and rows are searched one by one. Each commit survives a power cut (WAL with
synchronous FULL: there are a few a minute). What is deleted is overwritten with zeros (secure_delete), and
the write-ahead log is emptied after forgetting. There is no full-text index: a search of all rows takes
milliseconds, and an index keeps words of what was forgotten.

A disk that is full or read-only costs no row for a while: rows wait in RAM and are written when it works.
"""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_runtime.activity.row import Row
from edge_runtime.activity.sqlite_store import (
    FILE,
    Wanted,
    decoded,
    encoded,
    matching,
    name_aside,
    open_file,
    put_aside,
    seal_all,
)
from edge_runtime.config.activities import ActivitySettings
from edge_runtime.persistence.encryption import Key, SealError
from edge_runtime.system.retention import is_expired, is_misdated
from engines.errors import LvmError

log = logging.getLogger(__name__)

WAITING = 1000
"""Rows in RAM at most while the file cannot be written."""
DELETED_AT_ONCE = 200
"""Rows of one step of tidying: no step takes long."""
FREED_AT_ONCE = 64
"""Pages given back to the file system in one step."""


class ActivityLog:
    """For several threads. Nothing here raises for a bad disk or a bad file: `problem` says what is wrong."""

    def __init__(
        self, folder: Path, settings: ActivitySettings | None = None, key: Key | None = None
    ) -> None:
        self.file = folder / FILE
        self._aside = name_aside(self.file)
        self.problem: str | None = None
        """One sentence while the file cannot be written."""
        self.lost = 0
        """Rows that could not be kept because the file could not be written for long."""
        self._settings = settings or ActivitySettings()
        self._key = key
        self._lock = threading.RLock()
        self._waiting: dict[int, Row] = {}
        self._rows = 0
        self._next = 1
        self._db: sqlite3.Connection | None = None
        self._locked_out = False
        with self._lock:
            self._try(self._open)

    # -- writing -------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        """Of a row that is about to be written: larger than any before, across restarts."""
        with self._lock:
            self._next += 1
            return self._next - 1

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows, new ones or others in the place of those of their ids."""
        now = time.time()
        with self._lock:
            for row in rows:
                self._waiting.pop(row.id, None)
                self._waiting[row.id] = dataclasses.replace(row, written_at=now)
            self._try(self._flush)
            while len(self._waiting) > WAITING:
                del self._waiting[next(iter(self._waiting))]
                self.lost += 1

    def forget(self, start: float, end: float) -> int:
        """Remove the rows that share time with [start, end). Returns how many.

        Raises LvmError where that cannot be done: nobody may be told of forgetting that did not happen. A
        file that was damaged is removed, as nobody can tell what is in it.
        """
        with self._lock:
            waiting = [row.id for row in self._waiting.values() if row.matches((), start, end)]
            for one in waiting:
                del self._waiting[one]
            try:
                ids = self._forget(start, end)
                self._aside.unlink(missing_ok=True)
            except (sqlite3.OperationalError, OSError) as error:
                raise LvmError(f"{self.file}: its activities cannot be forgotten: {error}") from None
            return len({*ids, *waiting})

    def close(self) -> None:
        with self._lock:
            self._try(self._flush)
            if self._db is not None:
                self._db.close()
            self._db = None

    # -- reading -------------------------------------------------------------------------------------------

    def find(self, wanted: Wanted) -> tuple[list[Row], bool]:
        """Rows, newest first, and whether there are more than `wanted.limit`."""
        with self._lock:
            words = wanted.words()
            fresh = [
                row
                for row in sorted(self._waiting.values(), key=lambda row: -row.id)
                if row.matches(words, wanted.start, wanted.end)
            ]
            found = fresh[: wanted.limit + 1]

            def written() -> None:
                if self._db is None:
                    return
                for row in matching(self._db, self._key, wanted):
                    if len(found) > wanted.limit:
                        return
                    if row.id not in self._waiting:
                        found.append(row)

            self._try(written)
            return found[: wanted.limit], len(found) > wanted.limit

    def __len__(self) -> int:
        with self._lock:
            return self._rows + len(self._waiting)

    # -- inside --------------------------------------------------------------------------------------------

    def _try(self, step: Callable[[], None]) -> None:
        """Do what may fail for the disk's sake; what is wrong becomes one sentence, said once."""
        if self._locked_out:
            self._waiting.clear()
            return
        try:
            step()
        except sqlite3.OperationalError as error:
            self._trouble(f"{self.file} cannot be written: {error}; rows wait in memory")
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # a mistake of ours, not of the file
                raise
            self._damaged(error)
        except OSError as error:
            self._trouble(f"{self.file} cannot be written: {error.strerror}; rows wait in memory")
        except SealError as error:
            self._locked_out = True
            self._trouble(f"{self.file} is left as it is: {error}; nothing is logged")
        else:
            if self.problem is not None:
                log.warning("%s is written again", self.file)
            self.problem = None

    def _trouble(self, sentence: str) -> None:
        if self.problem is None:
            log.warning("%s", sentence)
        self.problem = sentence

    def _damaged(self, error: sqlite3.DatabaseError) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        try:
            aside = put_aside(self.file)
            log.warning(
                "%s is damaged (%s): put aside as %s, a new one is begun", self.file, error, aside.name
            )
            self._open()
            self._flush()
        except (OSError, sqlite3.Error) as again:
            self._trouble(f"{self.file} is damaged and cannot be replaced: {again}; rows wait in memory")

    def _open(self) -> None:
        self._db = None
        db = open_file(self.file)
        try:
            if self._key is not None and seal_all(db, self._key):
                self._aside.unlink(missing_ok=True)
            next(matching(db, self._key, Wanted()), None)  # of another key it raises, and all is left alone
            # What went on when the process was killed has ended since.
            with db:
                db.execute("UPDATE rows SET ongoing = 0 WHERE ongoing")
            self._rows = db.execute("SELECT count(*) FROM rows").fetchone()[0]
            last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'rows'").fetchone()
        except BaseException:
            db.close()
            raise
        self._next = max(self._next, (last[0] if last else 0) + 1)
        self._db = db

    def _forget(self, start: float, end: float) -> list[int]:
        if self._db is None:
            self._try(self._open)  # what is damaged is put aside
        if self._db is None:
            raise LvmError(f"its activities cannot be forgotten: {self.problem}")
        ids = [row.id for row in matching(self._db, self._key, Wanted(start=start, end=end))]
        for first in range(0, len(ids), DELETED_AT_ONCE):
            self._delete(self._db, ids[first : first + DELETED_AT_ONCE])
        _empty_wal(self._db)
        return ids

    def _flush(self) -> None:
        if self._db is None:
            self._open()
        db = self._db
        assert db is not None
        if self._waiting:
            with db:
                db.executemany(
                    "INSERT INTO rows (id, begin, finish, text, ongoing, body) VALUES (?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET begin = excluded.begin, finish = excluded.finish, "
                    "text = excluded.text, ongoing = excluded.ongoing, body = excluded.body",
                    [encoded(row, self._key) for row in self._waiting.values()],
                )
            self._waiting.clear()
            self._rows = db.execute("SELECT count(*) FROM rows").fetchone()[0]
        self._tidy(db)

    def _tidy(self, db: sqlite3.Connection) -> None:
        """Remove what is beyond the bounds, oldest first, in small steps."""
        while self._rows > self._settings.max_rows:
            count = min(DELETED_AT_ONCE, self._rows - self._settings.max_rows)
            self._delete(
                db, [one for (one,) in db.execute("SELECT id FROM rows ORDER BY id LIMIT ?", (count,))]
            )
        now, keep_s = time.time(), self._settings.keep_days * 86400
        late, wrong = [], []
        for one, body in db.execute("SELECT id, body FROM rows ORDER BY id LIMIT ?", (DELETED_AT_ONCE,)):
            row = decoded(body, self._key, one)
            if is_misdated(row.written_at, now):
                wrong.append(row)
            elif row.written_at >= now - keep_s:
                break
            else:
                late.append(one)
        if wrong:  # by a clock that was set right since: they age from now, and hold up no other
            bodies = [
                (encoded(dataclasses.replace(row, written_at=now), self._key)[-1], row.id) for row in wrong
            ]
            with db:
                db.executemany("UPDATE rows SET body = ? WHERE id = ?", bodies)
        if late:
            self._delete(db, late)
        if is_expired(self._aside, keep_s):
            self._aside.unlink(missing_ok=True)
        db.execute(f"PRAGMA incremental_vacuum({FREED_AT_ONCE})").fetchall()

    def _delete(self, db: sqlite3.Connection, ids: list[int]) -> None:
        with db:
            self._rows -= db.executemany("DELETE FROM rows WHERE id = ?", [(one,) for one in ids]).rowcount


def forget_in_log(folder: Path, start: float, end: float, key: Key | None = None) -> int:
    """As `ActivityLog.forget`, for a log that no thread of this process has open; 0 where there is none."""
    if not (folder / FILE).exists():
        return 0
    activities = ActivityLog(folder, ActivitySettings(max_rows=1_000_000, keep_days=3650), key)
    try:
        return activities.forget(start, end)
    finally:
        activities.close()


def _empty_wal(db: sqlite3.Connection) -> None:
    busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("the file is being read by another process; forget again")
