"""Open the SQLite file of the activity log, and encode, find and seal its rows."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edge_runtime.activity.row import Row, row_from_bytes, row_to_bytes
from edge_runtime.persistence.encryption import Key, is_sealed, open_sealed
from edge_runtime.persistence.filesystem import FILE_MODE
from engines.errors import LvmError
from engines.fsync import fsync_folder

FILE = "activities.sqlite"
ROLE = "activity"
BUSY_S = 2.0
SEAL_BATCH = 1000
_WAL_BYTES = 1 << 20
_CACHE = "PRAGMA cache_size = -256"
"""KiB of pages in a connection's cache. The default is 2 MB for each camera, which fills like a leak."""
_SCHEMA = """CREATE TABLE IF NOT EXISTS rows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    begin REAL, finish REAL, text TEXT, ongoing INTEGER NOT NULL, body BLOB NOT NULL)"""


@dataclass(frozen=True)
class LogFilter:
    """Selects the newest `limit` rows that share time with [start, end) and have all words of `text`."""

    start: float | None = None
    end: float | None = None
    text: str = ""
    limit: int = 100

    def words(self) -> list[str]:
        return self.text.casefold().split()


def open_file(file: Path) -> sqlite3.Connection:
    """Open the file for writing, or create it. Raises sqlite3.Error, OSError.

    A damaged database raises sqlite3.DatabaseError and no OperationalError.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        fsync_folder(file.parent)
    if file.stat().st_mode & 0o777 != FILE_MODE:
        file.chmod(FILE_MODE)
    # One connection for all threads: its user holds a lock.
    db = sqlite3.connect(file, timeout=BUSY_S, check_same_thread=False)
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or it never counts
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA temp_store = MEMORY")  # nothing of a row is written anywhere else
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        db.execute(_CACHE)
        result = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise sqlite3.DatabaseError(str(result).splitlines()[-1][:200])
        with db:
            db.execute(_SCHEMA)
        db.execute("SELECT id, begin, finish, text, ongoing, body FROM rows LIMIT 1").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def open_read_only(file: Path) -> sqlite3.Connection:
    """Open the file for reading, also while a process writes it. Raises sqlite3.Error."""
    # Read-write, since a reader of a write-ahead log needs its index; nothing is written.
    for mode in ("rw", "ro"):
        db = sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S)
        try:
            db.execute("PRAGMA query_only = ON")
            db.execute(_CACHE)
            db.execute("SELECT 1 FROM rows LIMIT 1").fetchall()
            return db
        except sqlite3.OperationalError:
            db.close()
            if mode == "ro":
                raise
        except BaseException:
            db.close()
            raise
    raise AssertionError("either mode returns or raises")


def encode_row(row: Row, key: Key | None) -> tuple[int, float | None, float | None, str | None, int, bytes]:
    """Return the values of a row's columns."""
    body = row_to_bytes(row)
    if key is None:
        return row.id, row.start, row.end, row.text(), int(row.ongoing), body
    return row.id, None, None, None, int(row.ongoing), key.seal(body, role=ROLE, owner=str(row.id))


def decode_row(body: bytes, key: Key | None, id: int) -> Row:
    """Return a row from its body. Raises SealError for another key, or the body of another row."""
    try:
        return row_from_bytes(open_sealed(body, key, role=ROLE, owner=str(id)))
    except ValueError as error:
        raise sqlite3.DatabaseError(str(error)) from None


def find_rows(db: sqlite3.Connection, key: Key | None, log_filter: LogFilter) -> Iterator[Row]:
    """Yield the selected rows, newest first, whatever the limit. Raises SealError, sqlite3.Error."""
    words = log_filter.words()
    conditions: list[str] = ["1"]
    values: list[str | float] = []
    for word in words:
        conditions.append("(text IS NULL OR instr(text, ?))")
        values.append(word)
    if log_filter.start is not None:
        conditions.append("(finish IS NULL OR finish > ?)")
        values.append(log_filter.start)
    if log_filter.end is not None:
        conditions.append("(begin IS NULL OR begin < ?)")
        values.append(log_filter.end)
    sql = f"SELECT id, ongoing, body FROM rows WHERE {' AND '.join(conditions)} ORDER BY id DESC"
    for id, ongoing, body in db.execute(sql, values):
        row = dataclasses.replace(decode_row(body, key, id), ongoing=bool(ongoing))
        if row.matches(words, log_filter.start, log_filter.end):
            yield row


def read_rows(folder: Path, key: Key | None, log_filter: LogFilter) -> list[Row]:
    """Return the selected rows of a folder's log, newest first, whoever writes it; nothing is changed.

    Raises LvmError where it cannot be read.
    """
    file = folder / FILE
    if not file.exists():
        return []
    try:
        with closing(open_read_only(file)) as db:
            return list(islice(find_rows(db, key, log_filter), log_filter.limit))
    except sqlite3.Error as error:
        raise LvmError(f"{file} cannot be read: {error}") from None


def seal_all(db: sqlite3.Connection, key: Key) -> bool:
    """Seal rows from before there was a key, so that no clear text stays. Returns whether there were any."""
    if db.execute("SELECT 1 FROM rows WHERE text IS NOT NULL LIMIT 1").fetchone() is None:
        return False
    while True:
        clear = db.execute(
            "SELECT id, body FROM rows WHERE text IS NOT NULL LIMIT ?", (SEAL_BATCH,)
        ).fetchall()
        if not clear:
            break
        assert not is_sealed(clear[0][1]), "a sealed row has no text column"
        with db:
            db.executemany(
                "UPDATE rows SET begin = NULL, finish = NULL, text = NULL, body = ? WHERE id = ?",
                [(key.seal(body, role=ROLE, owner=str(id)), id) for id, body in clear],
            )
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return True


def aside_path(file: Path) -> Path:
    """Return the path that a damaged file is moved to."""
    return file.with_name(file.name + ".damaged")


def move_aside(file: Path) -> Path:
    """Move a damaged file aside, in the place of an earlier one. Raises OSError."""
    aside = aside_path(file)
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    os.replace(file, aside)
    os.utime(aside)  # it ages from here on
    fsync_folder(file.parent)
    return aside
