"""Describe in one sentence what pydantic rejects in a file that a person wrote."""

from __future__ import annotations

from pydantic import ValidationError


def first_complaint(error: ValidationError) -> str:
    """Return pydantic's first complaint, in one sentence, with the value that it rejects."""
    # In a union every member complains; the member that parsed furthest has the useful complaint.
    first = max(
        error.errors(include_url=False),
        key=lambda problem: (len(problem["loc"]), problem["type"] != "missing"),
    )
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    got = (
        "" if first["type"] in ("missing", "json_invalid", "value_error") else f", got {first['input']!r:.80}"
    )
    return f"{place}: {message}{got}" if place else f"{message}{got}"
