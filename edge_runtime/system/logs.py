"""The one place that sets up logging: standard error, and a file of bounded size where one is wanted.

No record leaves with a credential in it: texts pass `redacted`, tracebacks too. A log that cannot be written
(a full disk, a folder that is gone) never ends the run that it tells of.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.system.secrets import masked, redacted
from engines.durable import fsync_folder
from engines.errors import LvmError

MAX_RECORD_CHARS = 4000
"""Of one record with its traceback: what is longer is cut, so that no input can write the log full."""
FILE_MODE = 0o600
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PIECE_BYTES = 64 << 10
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))")


class LogSettings(BaseModel):
    """`file` is kept below `max_mb`, and so is each of the `kept` older ones beside it."""

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

    def bytes(self) -> int:
        """The most that all files take together."""
        return (self.kept + 1) * round(self.max_mb * 1e6)


def set_up(settings: LogSettings | None = None) -> None:
    """Log as `settings` say, instead of as was said before. Raises LvmError if the file cannot be written."""
    settings = settings or LogSettings()
    root, form = logging.getLogger(), _JsonLines() if settings.json_lines else _Lines()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if settings.file is not None:
        handlers.append(BoundedFile(settings.file, settings.max_mb, settings.kept))
    for old in [one for one in root.handlers if getattr(one, "of_lvm_edge", False)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(form)
        handler.of_lvm_edge = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(_LEVELS[settings.level])


class BoundedFile(RotatingFileHandler):
    """A file that is put aside when it is full; readable by its owner only."""

    def __init__(self, file: Path, max_mb: float, kept: int) -> None:
        self.lost = 0
        """Records that could not be written."""
        try:
            super().__init__(file, maxBytes=round(max_mb * 1e6), backupCount=kept, encoding="utf-8")
        except OSError as error:
            raise LvmError(f"log {file} cannot be written: {error.strerror}; name another file") from None

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return open(os.open(self.baseFilename, flags, FILE_MODE), "a", encoding="utf-8", errors="replace")

    def emit(self, record: logging.LogRecord) -> None:
        """Into the file that has the name now: forgetting, here or elsewhere, puts a new one there."""
        stream = self.stream
        try:
            if stream is not None and not self._is_in_place(stream):
                self.stream = None  # whatever comes of closing it: the one above opens, and counts what fails
                stream.close()
        except OSError:  # the folder may not be read any more, or what was left of a record has no room
            self.handleError(record)
            return
        super().emit(record)

    def _is_in_place(self, stream: TextIOWrapper) -> bool:
        if stream.closed:  # the one above could not put it aside
            return False
        try:
            return os.path.samestat(os.stat(self.baseFilename), os.fstat(stream.fileno()))
        except FileNotFoundError:
            return False

    def handleError(self, record: logging.LogRecord) -> None:
        """Counted and not told: the handler's own way is a traceback a record on standard error."""
        self.lost += 1


class _Lines(logging.Formatter):
    """`2026-11-22T14:05:06.789+00:00 WARNING edge_runtime.sources: text`; what follows is indented."""

    def format(self, record: logging.LogRecord) -> str:
        first, *rest = _text(record).splitlines() or [""]
        head = f"{_stamp(record.created)} {record.levelname} {record.name}: {first}"
        return "\n".join([head, *(f"    {line}" for line in rest)])


class _JsonLines(logging.Formatter):
    """{"time", "level", "logger", "message"} a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": _stamp(record.created),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": _text(record),
            }
        )


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as error:  # a wrong % in a message is no reason to lose the message
        text = f"{record.msg} ({type(error).__name__} while it was filled in)"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        text += "\n" + record.stack_info
    return without_secrets(text)


def without_secrets(text: str) -> str:
    """`text` without credentials and secrets, cut to `MAX_RECORD_CHARS`."""
    if len(text) <= MAX_RECORD_CHARS:
        return masked(redacted(text))
    # Cut before it is searched, which takes the square of the length; and between two words, since half an
    # address would no longer be known as one, and its password stay.
    head = text[: max(text.rfind(gap, 0, MAX_RECORD_CHARS) for gap in " \n") + 1]
    return f"{masked(redacted(head))}… ({len(text) - len(head)} more characters)"


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


# -- forgetting --------------------------------------------------------------------------------------------


def forget_lines(file: Path, start: float, end: float) -> int:
    """Remove what was logged in [start, end) seconds of the wall clock, from `file` and its older ones.

    Returns how many lines that were. What stands without a stamp belongs to the line before it. Raises
    LvmError where a file cannot be rewritten. Safe while this process logs to it.
    """
    with contextlib.ExitStack() as held:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, BoundedFile) and Path(handler.baseFilename) == file.absolute():
                handler.acquire()
                held.callback(handler.release)
                handler.flush()
        try:
            return sum(_rewrite(path, start, end) for path in _files(file))
        except OSError as error:
            raise LvmError(f"log {file} cannot be rewritten: {error.strerror}") from None


def log_file() -> Path | None:
    """The file that this process logs to, None where it has none."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, BoundedFile):
            return Path(handler.baseFilename)
    return None


def _files(file: Path) -> list[Path]:
    aside = re.compile(re.escape(file.name) + r"\.\d{1,3}$")
    folder = file.absolute().parent
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name == file.name or aside.match(path.name)]


def _rewrite(path: Path, start: float, end: float) -> int:
    """Line by line into a new file, which takes the place of `path` at once: a log may be 1 GB, and a power
    cut leaves one or the other. It stays its owner's, who may be another than forgets. Raises OSError; then
    `path` is as it was."""
    path = path.resolve()  # where it is a link, that stays one
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a process that was killed at this
    with path.open("rb") as file:
        gone = sum(drop and first for _, drop, first in _judged(file, start, end))
        if not gone:
            return 0
        file.seek(0)
        before = os.fstat(file.fileno())
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, FILE_MODE), "wb") as new:
                _give(new, before)
                os.fchmod(new.fileno(), before.st_mode & 0o777)
                new.writelines(piece for piece, drop, _ in _judged(file, start, end) if not drop)
                new.flush()
                os.fsync(new.fileno())
            os.replace(fresh, path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
    fsync_folder(path.parent)
    return gone


def _give(new: BinaryIO, before: os.stat_result) -> None:
    """To the owner of the log before: who writes it must be able to. Raises OSError."""
    now = os.fstat(new.fileno())
    if (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid):
        return
    try:
        os.fchown(new.fileno(), before.st_uid, before.st_gid)
    except PermissionError:
        owner = f"{before.st_uid}:{before.st_gid}"
        reason = f"it belongs to user and group {owner}; forget as that user or as root"
        raise PermissionError(errno.EPERM, reason) from None


def _judged(file: BinaryIO, start: float, end: float) -> Iterator[tuple[bytes, bool, bool]]:
    """Pieces of lines, whether each is to go, and whether it is the first of its line."""
    drop, first = False, True
    while piece := file.readline(_PIECE_BYTES):
        if first and (stamp := _STAMP.search(piece[:64].decode("utf-8", "replace"))) is not None:
            with contextlib.suppress(ValueError):  # the 99th of a month is no stamp of ours
                at = datetime.fromisoformat(stamp[1].replace("Z", "+00:00")).timestamp()
                drop = start <= at < end
        yield piece, drop, first
        first = piece.endswith(b"\n")
