"""Set up logging: standard error, and a file of bounded size if one is configured; forget parts of it.

No record contains a credential: texts and tracebacks pass `redact`. A log that cannot be written (a full
disk, a folder that is gone) never ends the run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.system.secrets import mask_secrets, redact
from engines.errors import LvmError
from engines.fsync import fsync_folder

MAX_RECORD_CHARS = 4000
"""Of one record with its traceback: a longer one is cut, so that no input can fill the log."""
MAX_RECENT = 500
"""Records that are kept in RAM, for the page."""
FILE_MODE = 0o600
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CHUNK_BYTES = 64 << 10
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))")


class LogSettings(BaseModel):
    """`file` stays below `max_mb`, and so does each of the `kept` older files beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path | None = Field(default=None, description="beside standard error; its folder must be there")
    level: str = Field(
        default="warning",
        pattern="^(debug|info|warning|error)$",
        description="debug, info, warning or error",
    )
    json_lines: bool = Field(default=False, description="one JSON object a line")
    max_mb: float = Field(default=2.0, ge=0.01, le=1000, description="size at which a new file is begun")
    kept: int = Field(default=4, ge=1, le=100, description="older files: FILE.1 the newest of them")

    def max_bytes(self) -> int:
        """Return the maximum size of all files together."""
        return (self.kept + 1) * round(self.max_mb * 1e6)


def set_up_logging(settings: LogSettings | None = None) -> None:
    """Log as `settings` say and end earlier set-ups. Raises LvmError if the file cannot be written."""
    settings = settings or LogSettings()
    root = logging.getLogger()
    formatter = _JsonLineFormatter() if settings.json_lines else _LineFormatter()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr), RecentLog()]
    if settings.file is not None:
        handlers.append(BoundedFile(settings.file, settings.max_mb, settings.kept))
    for old in [handler for handler in root.handlers if getattr(handler, "of_lvm_edge", False)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.of_lvm_edge = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(_LEVELS[settings.level])


@dataclass(frozen=True)
class LogRecord:
    """A record without secrets; `at` is in seconds since 1970."""

    at: float
    level: str
    logger: str
    message: str


class RecentLog(logging.Handler):
    """Keeps the newest records in RAM."""

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[LogRecord] = deque(maxlen=MAX_RECENT)

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        self._records.append(LogRecord(record.created, level, record.name, _format_text(record)))

    def newest(self, limit: int) -> list[LogRecord]:
        """Return the newest records, oldest first, without what has become a secret since."""
        with self._locked():
            records = list(self._records)[-limit:]
        return [replace(record, message=remove_secrets(record.message)) for record in records]

    def forget(self, start: float, end: float) -> int:
        """Remove what was logged in [start, end) seconds of the wall clock; return how many records."""
        with self._locked():
            kept = [record for record in self._records if not start <= record.at < end]
            removed = len(self._records) - len(kept)
            self._records.clear()
            self._records.extend(kept)
        return removed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


def recent_log() -> RecentLog | None:
    """Return what keeps this process's newest records, None before `set_up_logging`."""
    return next((one for one in logging.getLogger().handlers if isinstance(one, RecentLog)), None)


class BoundedFile(RotatingFileHandler):
    """A file that is rotated when it is full; readable by its owner only."""

    def __init__(self, file: Path, max_mb: float, max_backups: int) -> None:
        self.lost = 0
        """Records that could not be written."""
        try:
            super().__init__(file, maxBytes=round(max_mb * 1e6), backupCount=max_backups, encoding="utf-8")
        except OSError as error:
            raise LvmError(f"log {file} cannot be written: {error.strerror}; name another file") from None

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return open(os.open(self.baseFilename, flags, FILE_MODE), "a", encoding="utf-8", errors="replace")

    def emit(self, record: logging.LogRecord) -> None:
        """Write to the file that has the name now: `forget_lines`, in any process, replaces the file."""
        stream = self.stream
        try:
            if stream is not None and not self._is_in_place(stream):
                self.stream = (
                    None  # even where closing fails: super().emit opens it again and counts failures
                )
                stream.close()
        except OSError:  # the folder is not readable any more, or there is no room for the rest of a record
            self.handleError(record)
            return
        super().emit(record)

    def _is_in_place(self, stream: TextIOWrapper) -> bool:
        if stream.closed:  # the base class failed to rotate it
            return False
        try:
            return os.path.samestat(os.stat(self.baseFilename), os.fstat(stream.fileno()))
        except FileNotFoundError:
            return False

    def handleError(self, record: logging.LogRecord) -> None:
        """Count the record as lost, silently; the base class would print a traceback for each."""
        self.lost += 1


class _LineFormatter(logging.Formatter):
    """`2026-11-22T14:05:06.789+00:00 WARNING edge_runtime.sources: text`; further lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = _format_text(record).splitlines() or [""]
        head = f"{_format_time(record.created)} {record.levelname} {record.name}: {first}"
        return "\n".join([head, *(f"    {line}" for line in rest)])


class _JsonLineFormatter(logging.Formatter):
    """{"time", "level", "logger", "message"} a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": _format_time(record.created),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": _format_text(record),
            }
        )


def _format_text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as error:  # a wrong % in a message must not lose the message
        text = f"{record.msg} ({type(error).__name__} while it was filled in)"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        text += "\n" + record.stack_info
    return remove_secrets(text)


def remove_secrets(text: str) -> str:
    """Return `text` without credentials and secrets, cut to `MAX_RECORD_CHARS`."""
    if len(text) <= MAX_RECORD_CHARS:
        return mask_secrets(redact(text))
    # Cut first: searching takes the square of the length. Cut between two words: half an address would not be
    # recognised as one, and its password would stay.
    head = text[: max(text.rfind(gap, 0, MAX_RECORD_CHARS) for gap in " \n") + 1]
    return f"{mask_secrets(redact(head))}… ({len(text) - len(head)} more characters)"


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


# -- forgetting --------------------------------------------------------------------------------------------


def forget_lines(file: Path, start: float, end: float) -> int:
    """Remove what was logged in [start, end) seconds of the wall clock, from `file` and its older ones.

    Returns the number of removed lines. A line without a time belongs to the line before it. Raises LvmError
    where a file cannot be rewritten. Safe while this process logs to it.
    """
    with contextlib.ExitStack() as locks:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, BoundedFile) and Path(handler.baseFilename) == file.absolute():
                handler.acquire()
                locks.callback(handler.release)
                handler.flush()
        try:
            return sum(_rewrite(path, start, end) for path in _list_files(file))
        except OSError as error:
            raise LvmError(f"log {file} cannot be rewritten: {error.strerror}") from None


def log_file() -> Path | None:
    """Return the file that this process logs to, None where it has none."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, BoundedFile):
            return Path(handler.baseFilename)
    return None


def _list_files(file: Path) -> list[Path]:
    rotated = re.compile(re.escape(file.name) + r"\.\d{1,3}$")
    folder = file.absolute().parent
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name == file.name or rotated.match(path.name)]


def _rewrite(path: Path, start: float, end: float) -> int:
    """Copy the remaining lines to a new file and replace `path` with it atomically; return the removed lines.

    It works line by line, since a log may be 1 GB. The owner of the file stays the same. Raises OSError; then
    `path` is unchanged.
    """
    path = path.resolve()  # a link stays a link
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # left by a process that was killed here
    with path.open("rb") as file:
        removed = sum(drop and first for _, drop, first in _mark_chunks(file, start, end))
        if not removed:
            return 0
        file.seek(0)
        before = os.fstat(file.fileno())
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, FILE_MODE), "wb") as new:
                _keep_owner(new, before)
                os.fchmod(new.fileno(), before.st_mode & 0o777)
                new.writelines(chunk for chunk, drop, _ in _mark_chunks(file, start, end) if not drop)
                new.flush()
                os.fsync(new.fileno())
            os.replace(fresh, path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
    fsync_folder(path.parent)
    return removed


def _keep_owner(new: BinaryIO, before: os.stat_result) -> None:
    """Give the new file to the owner of the old log, who has to write it. Raises OSError."""
    now = os.fstat(new.fileno())
    if (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid):
        return
    try:
        os.fchown(new.fileno(), before.st_uid, before.st_gid)
    except PermissionError:
        owner = f"{before.st_uid}:{before.st_gid}"
        reason = f"it belongs to user and group {owner}; forget as that user or as root"
        raise PermissionError(errno.EPERM, reason) from None


def _mark_chunks(file: BinaryIO, start: float, end: float) -> Iterator[tuple[bytes, bool, bool]]:
    """Yield chunks of lines, whether each is to be removed, and whether it is the first of its line."""
    drop, first = False, True
    while chunk := file.readline(_CHUNK_BYTES):
        if first and (stamp := _TIMESTAMP.search(chunk[:64].decode("utf-8", "replace"))) is not None:
            with contextlib.suppress(ValueError):  # like the 99th of a month: not written by us
                at = datetime.fromisoformat(stamp[1].replace("Z", "+00:00")).timestamp()
                drop = start <= at < end
        yield chunk, drop, first
        first = chunk.endswith(b"\n")
