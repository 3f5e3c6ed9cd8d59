"""Questions typed while the panel runs: keys are read one by one, so that redrawing does not tear them."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import TracebackType

from edge_runtime.query.schema import MAX_QUESTION_BYTES

_POLL_S = 0.1
MAX_TYPED_BYTES = 10_000
"""Of a line that is typed; a question in words is not longer (queries.py)."""


class KeyReader:
    """Calls `on_change(line so far)` after each key and `on_line(line)` at Enter, in a thread of its own.

    Only for a terminal; the terminal's mode is restored on exit. Ctrl-C stays a signal.
    """

    def __init__(self, on_change: Callable[[str], None], on_line: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._on_line = on_line
        self._line = b""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)

    def __enter__(self) -> KeyReader:
        self._mode = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=1)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._mode)

    def _read(self) -> None:
        descriptor = sys.stdin.fileno()
        while not self._done.is_set():
            if not select.select([descriptor], [], [], _POLL_S)[0]:
                continue
            data = os.read(descriptor, 1024)
            if not data:
                return
            if data.startswith(b"\x1b"):
                continue  # an arrow or function key comes as one sequence, and there is nowhere to go
            for key in data:
                self._key(bytes([key]))

    def _key(self, key: bytes) -> None:
        if key in b"\r\n":
            line, self._line = self._line.decode(errors="replace").strip(), b""
            self._on_change("")
            if line:
                self._on_line(line)
            return
        if key in b"\x7f\x08":
            # A letter, which in UTF-8 is one byte and those that continue it.
            while self._line and self._line[-1] & 0xC0 == 0x80:
                self._line = self._line[:-1]
            self._line = self._line[:-1]
        elif key == b"\x15":  # Ctrl-U empties the line
            self._line = b""
        elif key >= b" " and len(self._line) < MAX_TYPED_BYTES:
            self._line += key
        self._on_change(self._line.decode(errors="replace"))


class LineReader:
    """Whole lines from a pipe, each to `on_line`. The end of the pipe ends nothing else.

    Of a line longer than `most` bytes only so many and one more are kept, so that whoever takes it refuses it
    for its length; a pipe without a line break costs no more memory than that.
    """

    def __init__(self, on_line: Callable[[str], None], most: int = MAX_QUESTION_BYTES) -> None:
        self._on_line = on_line
        self._most = most
        self._begun = bytearray()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, name="lines", daemon=True)

    def __enter__(self) -> LineReader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=1)

    def _read(self) -> None:
        # Not sys.stdin: a thread that waits inside it makes Python abort when the process ends.
        if sys.stdin is None:
            return
        descriptor = sys.stdin.fileno()
        while not self._done.is_set():
            if not select.select([descriptor], [], [], _POLL_S)[0]:
                continue
            data = os.read(descriptor, 1 << 16)
            first, *others = data.split(b"\n")
            self._add(first)
            for following in others:
                self._said()
                self._add(following)
            if not data:
                self._said()
                return

    def _add(self, part: bytes) -> None:
        self._begun += part[: self._most + 1 - len(self._begun)]

    def _said(self) -> None:
        line, self._begun = self._begun.decode(errors="replace").strip(), bytearray()
        if line and not self._done.is_set():
            self._on_line(line)
