"""Hold one recognised occurrence of an activity as a row of the log, and format it as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edge_runtime.query.timestamps import format_clock_span

COLUMNS = (
    "id", "camera", "activity", "description", "alternatives",
    "from", "to", "from_at", "to_at", "confidence", "ongoing",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One occurrence. `start` and `end` are seconds of the camera's stream; `end` grows while `ongoing`.

    `alternatives` are activities with the same evidence, which it may be as well. `epoch` is the
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
        """Return the row for the interfaces; `from_at` and `to_at` are null for a recording, which has no
        clock times `clock_from` and `clock_to` either."""
        epoch = self.epoch
        at = (None, None) if epoch is None else (epoch + self.start, epoch + self.end)
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
            **({} if epoch is None else format_clock_span(self.start, self.end, epoch)),
        }

    def text(self) -> str:
        """Return the text that is searched: in lower case, so that a search ignores case."""
        return "\n".join((self.activity, *self.alternatives, self.description)).casefold()

    def matches(self, words: Iterable[str], start: float | None, end: float | None) -> bool:
        """Whether the row has all `words`, lower case, and shares time with [start, end)."""
        text = self.text()
        inside = (start is None or self.end > start) and (end is None or self.start < end)
        return inside and all(word in text for word in words)


def row_to_bytes(row: Row) -> bytes:
    return json.dumps(vars(row), ensure_ascii=False, separators=(",", ":")).encode()


def row_from_bytes(data: bytes) -> Row:
    """Return the row of `row_to_bytes`. Raises ValueError for other bytes."""
    try:
        fields = json.loads(data)
        return Row(**{**fields, "alternatives": tuple(fields["alternatives"])})
    except (TypeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a row of the activity log: {error}") from None


def format_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Format rows of `Row.as_json` as CSV (RFC 4180), with a line of names."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = " ".join(value)
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    # A quote keeps a spreadsheet from taking a name for a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
