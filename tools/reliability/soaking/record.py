"""What a soak has noted, as JSON lines in its folder: there a broken-off one goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Record:
    """`samples`, `events` and `objections`, each in a file of that name."""

    KINDS = ("samples", "events", "objections")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {kind: folder / f"{kind}.jsonl" for kind in self.KINDS}
        self._rows = {kind: _read(file) for kind, file in self._files.items()}
        self._lock = threading.Lock()

    def note(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append one; a torn last line is left out when it is read again."""
        with self._lock, self._files[kind].open("a") as file:
            self._rows[kind].append(dict(row))
            file.write(json.dumps(row) + "\n")

    def rows(self, kind: str) -> list[Row]:
        with self._lock:
            return list(self._rows[kind])

    @property
    def until(self) -> float:
        """Seconds of soak that were noted so far."""
        return max((row["t"] for kind in self.KINDS for row in self.rows(kind)), default=0.0)


def _read(file: Path) -> list[Row]:
    if not file.exists():
        return []
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]
