"""One recognised occurrence of an activity, as it is logged, told and exported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

COLUMNS = (
    "id", "camera", "activity", "description", "alternatives",
    "from", "to", "from_at", "to_at", "confidence", "ongoing",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """`start` and `end` are seconds of the camera's stream; while `ongoing`, `end` is what was seen so far.

    `alternatives` are activities that rest on the same evidence and could be meant as well. `epoch` is the
    wall-clock time of the stream's second 0, None for a recording; `written_at` is seconds since 1970.
    """

    id: int
    camera: str
    activity: str
    description: str
    start: float
    end: float
    confidence: float
    ongoing: bool = True
    alternatives: tuple[str, ...] = ()
    epoch: float | None = None
    written_at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For doors; `from_at` and `to_at` are null for a recording."""
        at = (None, None) if self.epoch is None else (self.epoch + self.start, self.epoch + self.end)
        return {
            "id": self.id,
            "camera": self.camera,
            "activity": self.activity,
            "description": self.description,
            "alternatives": list(self.alternatives),
            "from": round(self.start, 3),
            "to": round(self.end, 3),
            "from_at": at[0],
            "to_at": at[1],
            "confidence": round(self.confidence, 4),
            "ongoing": self.ongoing,
        }

    def text(self) -> str:
        """What a search looks into: lower case, so that it finds either."""
        return "\n".join((self.activity, *self.alternatives, self.description)).casefold()

    def matches(self, words: Iterable[str], start: float | None, end: float | None) -> bool:
        """Whether it has all `words`, lower case, and shares time with [start, end)."""
        text = self.text()
        inside = (start is None or self.end > start) and (end is None or self.start < end)
        return inside and all(word in text for word in words)


def row_to_bytes(row: Row) -> bytes:
    return json.dumps(vars(row), ensure_ascii=False, separators=(",", ":")).encode()


def row_from_bytes(data: bytes) -> Row:
    """Raises ValueError where it is none."""
    try:
        fields = json.loads(data)
        return Row(**{**fields, "alternatives": tuple(fields["alternatives"])})
    except (TypeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a row of the activity log: {error}") from None


def as_csv(rows: Iterable[dict[str, Any]], *, head: bool = True) -> str:
    """Rows as `Row.as_json` gives them, as CSV (RFC 4180) with a line of names."""
    out = io.StringIO()
    writer = csv.writer(out)
    if head:
        writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = " ".join(value)
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    # A name that a spreadsheet would take for a formula stays a name.
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
