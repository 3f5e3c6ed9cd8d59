"""The progress of a worker in a mapped file, which outlives the worker."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

# cases, began (monotonic ns, 0: between cases), ready (ns), findings, slowest (ns), memory, length
_FIELDS = struct.Struct("<7Q")


class Progress:
    """Written by one worker, read by its supervisor."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(_FIELDS.size + max_bytes)
            self._map = mmap.mmap(file.fileno(), 0)
        self._max_bytes = max_bytes
        self.cases = self.began = self.ready_at = self.findings = self.slowest = self.too_much = 0
        self._length = 0

    # -- the worker --

    def ready(self, now: int) -> None:
        self.ready_at = now
        self._write()

    def begin(self, data: bytes) -> None:
        self._length = min(len(data), self._max_bytes)
        self._map[_FIELDS.size : _FIELDS.size + self._length] = data[: self._length]
        self.began = time.monotonic_ns()
        self._write()

    def end(self) -> None:
        self.slowest = max(self.slowest, time.monotonic_ns() - self.began)
        self.cases += 1
        self.began = 0
        self._write()

    def finding(self) -> None:
        self.findings += 1

    def memory(self) -> None:
        """Report that this case has passed the memory limit; the supervisor ends the process."""
        self.too_much = 1
        self._write()
        time.sleep(60)

    def _write(self) -> None:
        fields = self.cases, self.began, self.ready_at, self.findings
        _FIELDS.pack_into(self._map, 0, *fields, self.slowest, self.too_much, self._length)

    # -- the supervisor --

    def read(self) -> None:
        fields = _FIELDS.unpack_from(self._map, 0)
        self.cases, self.began, self.ready_at, self.findings = fields[:4]
        self.slowest, self.too_much, self._length = fields[4:]

    def case(self) -> bytes:
        return self._map[_FIELDS.size : _FIELDS.size + self._length]
