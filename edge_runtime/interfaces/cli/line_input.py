"""Read questions while a run goes on: keys typed into its panel, or lines from a pipe."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable

from edge_runtime.query.schema import MAX_QUESTION_BYTES

_POLL_S = 0.1
MAX_TYPED_BYTES = 10_000
"""Of a typed line; a question in words is not longer (query_text.py)."""


class KeyReader:
    """Calls `on_change(line so far)` after each key and `on_line(line)` at Enter, in a thread of its own.

    Reads key by key, so that redrawing the panel does not garble the line. Only for a terminal, whose mode is
    restored on exit. Ctrl-C stays a signal.
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

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=1)
        with contextlib.suppress(termios.error):  # the terminal was closed
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
                continue  # an arrow or function key: the cursor does not move
            for key in data:
                self._handle_key(bytes([key]))

    def _handle_key(self, key: bytes) -> None:
        if key in b"\r\n":
            line, self._line = self._line.decode(errors="replace").strip(), b""
            self._on_change("")
            if line:
                self._on_line(line)
            return
        if key in b"\x7f\x08":
            # Remove a character: in UTF-8, one byte and those that continue it.
            while self._line and self._line[-1] & 0xC0 == 0x80:
                self._line = self._line[:-1]
            self._line = self._line[:-1]
        elif key == b"\x15":  # Ctrl-U empties the line
            self._line = b""
        elif key >= b" " and len(self._line) < MAX_TYPED_BYTES:
            self._line += key
        self._on_change(self._line.decode(errors="replace"))


class LineReader:
    """Calls `on_line` with each line from a pipe. The end of the pipe ends nothing else.

    A line longer than `max_bytes` is cut to one byte more, so that `on_line` can refuse it for its length. So
    input without line breaks takes little memory.
    """

    def __init__(self, on_line: Callable[[str], None], max_bytes: int = MAX_QUESTION_BYTES) -> None:
        self._on_line = on_line
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, name="lines", daemon=True)

    def __enter__(self) -> LineReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=1)

    def _read(self) -> None:
        # Not sys.stdin.readline: a thread that waits in it makes Python abort when the process ends.
        if sys.stdin is None:
            return
        descriptor = sys.stdin.fileno()
        while not self._done.is_set():
            if not select.select([descriptor], [], [], _POLL_S)[0]:
                continue
            data = os.read(descriptor, 1 << 16)
            first, *others = data.split(b"\n")
            self._add(first)
            for part in others:
                self._finish_line()
                self._add(part)
            if not data:
                self._finish_line()
                return

    def _add(self, part: bytes) -> None:
        self._line += part[: self._max_bytes + 1 - len(self._line)]

    def _finish_line(self) -> None:
        line, self._line = self._line.decode(errors="replace").strip(), bytearray()
        if line and not self._done.is_set():
            self._on_line(line)
