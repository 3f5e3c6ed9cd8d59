"""What pydantic finds wrong with something that a person wrote, in a sentence."""

from __future__ import annotations

from pydantic import ValidationError


def said(error: ValidationError) -> str:
    """The first complaint of pydantic, in one sentence."""
    # In a union every member complains; the one that understood most of the record says most.
    first = max(error.errors(include_url=False), key=lambda one: (len(one["loc"]), one["type"] != "missing"))
    place = ".".join(str(part) for part in first["loc"])
    words = first["msg"].removeprefix("Value error, ")
    got = (
        "" if first["type"] in ("missing", "json_invalid", "value_error") else f", got {first['input']!r:.80}"
    )
    return f"{place}: {words}{got}" if place else f"{words}{got}"
