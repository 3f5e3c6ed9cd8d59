"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """`ok`; `note`: it works, and something is worth knowing; `problem`: something will not work."""

    what: str
    state: Literal["ok", "note", "problem"]
    found: str
    do: str | None = None

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))
