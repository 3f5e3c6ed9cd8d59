"""A question with the camera that it is put to: `{"camera": "lane1", "type": …}` through every door."""

from __future__ import annotations

import json
from dataclasses import dataclass

from edge_runtime.query.schema import MAX_QUESTION_BYTES, AnyQuery, parse_query
from edge_runtime.system.errors import QueryError


@dataclass(frozen=True)
class Addressed:
    """`camera` None is the only camera that there is."""

    query: AnyQuery
    camera: str | None = None


def parse_addressed(text: str | bytes) -> Addressed:
    """A question from JSON. Raises QueryError with the first thing that is wrong, in one sentence."""
    data = text.encode() if isinstance(text, str) else text
    if b'"camera"' not in data or len(data) > MAX_QUESTION_BYTES:
        return Addressed(parse_query(text))
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return Addressed(parse_query(text))  # which says what is wrong
    camera = fields.pop("camera", None) if isinstance(fields, dict) else None
    if camera is not None and not isinstance(camera, str):
        raise QueryError("camera must be the name of a camera")
    return Addressed(parse_query(json.dumps(fields)), camera)
