"""The record of a soak, as JSON lines in its folder; a soak that was stopped continues from it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class SoakRecord:
    """`samples`, `events` and `objections`, each in a file of that name."""

    KINDS = ("samples", "events", "objections")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {kind: folder / f"{kind}.jsonl" for kind in self.KINDS}
        self._rows = {kind: _read(file) for kind, file in self._files.items()}
        self._lock = threading.Lock()

    def append(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append a row; a torn last line is dropped when the file is read again."""
        with self._lock, self._files[kind].open("a") as file:
            self._rows[kind].append(dict(row))
            file.write(json.dumps(row) + "\n")

    def rows(self, kind: str) -> list[Row]:
        with self._lock:
            return list(self._rows[kind])

    @property
    def until(self) -> float:
        """Seconds of soak on record."""
        return max((row["t"] for kind in self.KINDS for row in self.rows(kind)), default=0.0)


def _read(file: Path) -> list[Row]:
    if not file.exists():
        return []
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]
