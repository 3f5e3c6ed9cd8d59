"""Write and read the activity log of one camera: an SQLite file beside its memory, bounded in rows and age.

    activities.sqlite   rows (id, begin, finish, text, ongoing, body)

`body` is the whole row as JSON, sealed where the state has a key; then `begin`, `finish` and `text`, by which
SQLite searches, are empty and rows are searched one by one. Each commit survives a power cut (WAL with
synchronous FULL: there are a few a minute). Deleted rows are overwritten with zeros (secure_delete), and the
write-ahead log is emptied after forgetting. There is no full-text index: a search of all rows takes
milliseconds, and an index would keep words of what was forgotten.

While a disk is full or read-only, rows wait in RAM and are written when it works again.
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
    LogFilter,
    aside_path,
    decode_row,
    encode_row,
    find_rows,
    move_aside,
    open_file,
    seal_all,
)
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.persistence.encryption import Key, SealError
from edge_runtime.system.retention import is_expired, is_misdated
from engines.errors import LvmError

log = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Rows in RAM while the file cannot be written."""
DELETE_BATCH = 200
"""Rows that are deleted in one step: no step takes long."""
MAX_TIMES = 10_000
"""Rows among which the surest times of an activity are looked for, the newest."""
VACUUM_PAGES = 64
"""Pages given back to the file system in one step."""


class ActivityLog:
    """The log, for several threads. Only `forget` raises for a bad disk or file; else see `problem`."""

    def __init__(
        self, folder: Path, settings: ActivitySettings | None = None, key: Key | None = None
    ) -> None:
        self.file = folder / FILE
        self._aside = aside_path(self.file)
        self.problem: str | None = None
        """One sentence while the file cannot be written."""
        self.lost = 0
        """Rows that were dropped because the file could not be written for too long."""
        self._settings = settings or ActivitySettings()
        self._key = key
        self._lock = threading.RLock()
        self._waiting: dict[int, Row] = {}
        self._rows = 0
        self._next = 1
        self._db: sqlite3.Connection | None = None
        self._locked_out = False
        with self._lock:
            if self.file.exists():  # made with the first row: a source that never came leaves nothing
                self._try(self._open)

    # -- writing -------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        """Return the id of a new row: larger than any before, also across restarts."""
        with self._lock:
            self._next += 1
            return self._next - 1

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows. A row replaces the one with its id."""
        now = time.time()
        with self._lock:
            for row in rows:
                self._waiting.pop(row.id, None)
                self._waiting[row.id] = dataclasses.replace(row, written_at=now)
            self._try(self._flush)
            while len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
                self.lost += 1

    def forget(self, start: float, end: float) -> int:
        """Remove the rows that share time with [start, end). Returns how many.

        Raises LvmError where that fails: nothing may be reported as forgotten that is still there. A damaged
        file that was moved aside is removed, as its contents are unknown.
        """
        with self._lock:
            waiting = [row.id for row in self._waiting.values() if row.matches((), start, end)]
            for id in waiting:
                del self._waiting[id]
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

    def find(self, log_filter: LogFilter) -> tuple[list[Row], bool]:
        """Return rows, newest first, and whether there are more than `log_filter.limit`."""
        with self._lock:
            words, limit = log_filter.words(), log_filter.limit
            fresh = [
                row
                for row in sorted(self._waiting.values(), key=lambda row: -row.id)
                if row.matches(words, log_filter.start, log_filter.end)
            ]
            rows = fresh[: limit + 1]

            def add_written() -> None:
                if self._db is None:
                    return
                for row in find_rows(self._db, self._key, log_filter):
                    if len(rows) > limit:
                        return
                    if row.id not in self._waiting:
                        rows.append(row)

            self._try(add_written)
            return rows[:limit], len(rows) > limit

    def __len__(self) -> int:
        with self._lock:
            return self._rows + len(self._waiting)

    # -- inside --------------------------------------------------------------------------------------------

    def _try(self, step: Callable[[], None]) -> None:
        """Do a step that a bad disk may fail; the problem becomes one sentence, logged once."""
        if self._locked_out:
            self._waiting.clear()
            return
        try:
            step()
        except sqlite3.OperationalError as error:
            self._set_problem(f"{self.file} cannot be written: {error}; rows wait in memory")
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # a mistake of ours, not of the file
                raise
            self._replace_file(error)
        except OSError as error:
            self._set_problem(f"{self.file} cannot be written: {error.strerror}; rows wait in memory")
        except SealError as error:
            self._locked_out = True
            self._set_problem(f"{self.file} is left as it is: {error}; nothing is logged")
        else:
            if self.problem is not None:
                log.warning("%s is written again", self.file)
            self.problem = None

    def _set_problem(self, sentence: str) -> None:
        if self.problem is None:
            log.warning("%s", sentence)
        self.problem = sentence

    def _replace_file(self, error: sqlite3.DatabaseError) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        try:
            aside = move_aside(self.file)
            log.warning(
                "%s is damaged (%s): moved aside as %s, a new one is begun", self.file, error, aside.name
            )
            self._open()
            self._flush()
        except (OSError, sqlite3.Error) as again:
            self._set_problem(f"{self.file} is damaged and cannot be replaced: {again}; rows wait in memory")

    def _open(self) -> None:
        self._db = None
        db = open_file(self.file)
        try:
            if self._key is not None and seal_all(db, self._key):
                self._aside.unlink(missing_ok=True)
            next(
                find_rows(db, self._key, LogFilter()), None
            )  # raises for another key: nothing is changed then
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
        if self._db is None and not self.file.exists():
            return []
        if self._db is None:
            self._try(self._open)  # a damaged file is moved aside
        if self._db is None:
            raise LvmError(f"its activities cannot be forgotten: {self.problem}")
        ids = [row.id for row in find_rows(self._db, self._key, LogFilter(start=start, end=end))]
        for first in range(0, len(ids), DELETE_BATCH):
            self._delete(self._db, ids[first : first + DELETE_BATCH])
        busy, *_ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("the file is being read by another process; forget again")
        return ids

    def _flush(self) -> None:
        if self._db is None:
            if not self._waiting and not self.file.exists():
                return
            self._open()
        db = self._db
        assert db is not None
        if self._waiting:
            with db:
                db.executemany(
                    "INSERT INTO rows (id, begin, finish, text, ongoing, body) VALUES (?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET begin = excluded.begin, finish = excluded.finish, "
                    "text = excluded.text, ongoing = excluded.ongoing, body = excluded.body",
                    [encode_row(row, self._key) for row in self._waiting.values()],
                )
            self._waiting.clear()
            self._rows = db.execute("SELECT count(*) FROM rows").fetchone()[0]
        self._tidy(db)

    def _tidy(self, db: sqlite3.Connection) -> None:
        """Remove what exceeds the bounds, oldest first, in small steps."""
        while self._rows > self._settings.max_rows:
            count = min(DELETE_BATCH, self._rows - self._settings.max_rows)
            self._delete(
                db, [id for (id,) in db.execute("SELECT id FROM rows ORDER BY id LIMIT ?", (count,))]
            )
        now, keep_s = time.time(), self._settings.keep_days * 86400
        expired, misdated = [], []
        for id, body in db.execute("SELECT id, body FROM rows ORDER BY id LIMIT ?", (DELETE_BATCH,)):
            row = decode_row(body, self._key, id)
            if is_misdated(row.written_at, now):
                misdated.append(row)
            elif row.written_at >= now - keep_s:
                break
            else:
                expired.append(id)
        if misdated:  # by a clock that was corrected since: they age from now, and delay no other
            bodies = [
                (encode_row(dataclasses.replace(row, written_at=now), self._key)[-1], row.id)
                for row in misdated
            ]
            with db:
                db.executemany("UPDATE rows SET body = ? WHERE id = ?", bodies)
        if expired:
            self._delete(db, expired)
        if is_expired(self._aside, keep_s):
            self._aside.unlink(missing_ok=True)
        db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()

    def _delete(self, db: sqlite3.Connection, ids: list[int]) -> None:
        with db:
            self._rows -= db.executemany("DELETE FROM rows WHERE id = ?", [(id,) for id in ids]).rowcount


def forget_in_log(folder: Path, start: float, end: float, key: Key | None = None) -> int:
    """Do `ActivityLog.forget` for a log that this process does not have open; 0 where there is none."""
    if not (folder / FILE).exists():
        return 0
    activities = ActivityLog(folder, ActivitySettings(max_rows=1_000_000, keep_days=3650), key)
    try:
        return activities.forget(start, end)
    finally:
        activities.close()


def find_times(log: ActivityLog, activity: str, start: float, end: float) -> list[tuple[float, float, float]]:
    """Return start, end and confidence of an activity's rows in [start, end) seconds, the surest first."""
    rows, _ = log.find(LogFilter(start, end, limit=MAX_TIMES))
    return choose_times(rows, activity)


def choose_times(rows: Iterable[Row], activity: str) -> list[tuple[float, float, float]]:
    """Return start, end and confidence of the rows that are of an activity, or may be, the surest first."""
    named = [row for row in rows if activity in (row.activity, *row.alternatives)]
    # A row that is named after another activity comes later: of what it may be besides it says no confidence.
    named.sort(key=lambda row: (row.activity != activity, -row.confidence))
    return [(row.start, row.end, row.confidence) for row in named]
