"""What a worker is doing, in a mapped file: it outlives the worker, however that ends."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

# cases, began (monotonic ns, 0: between cases), ready (ns), findings, slowest (ns), memory, length
_FIELDS = struct.Struct("<7Q")


class Progress:
    """Written by one worker, read by its supervisor."""

    def __init__(self, path: Path, longest: int) -> None:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(_FIELDS.size + longest)
            self._map = mmap.mmap(file.fileno(), 0)
        self._longest = longest
        self.cases = self.began = self.ready_at = self.findings = self.slowest = self.too_much = 0
        self._length = 0

    # -- the worker --

    def ready(self, now: int) -> None:
        self.ready_at = now
        self._write()

    def begin(self, data: bytes) -> None:
        self._length = min(len(data), self._longest)
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
        """The process has passed its limit in this case: the supervisor ends it."""
        self.too_much = 1
        self._write()
        time.sleep(60)

    def _write(self) -> None:
        _FIELDS.pack_into(
            self._map,
            0,
            self.cases,
            self.began,
            self.ready_at,
            self.findings,
            self.slowest,
            self.too_much,
            self._length,
        )

    # -- the supervisor --

    def read(self) -> None:
        fields = _FIELDS.unpack_from(self._map, 0)
        self.cases, self.began, self.ready_at, self.findings, self.slowest, self.too_much, self._length = (
            fields
        )

    def case(self) -> bytes:
        return self._map[_FIELDS.size : _FIELDS.size + self._length]
