"""The OpenAPI document: every route says what it answers, what it takes and how it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.interfaces.http.schemas import Error
from edge_runtime.query.schema import Query

_REF = "#/components/schemas/{model}"
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Error, "description": "no token, or none that is known"},
    403: {"model": Error, "description": "not for this role, this browser or this host name"},
    404: {"model": Error, "description": "there is no such thing"},
    413: {"model": Error, "description": "the body is too long"},
    422: {"model": Error, "description": "not understood"},
    429: {"model": Error, "description": "too often; Retry-After says when again"},
    503: {"model": Error, "description": "no room now; ask again"},
}

EXAMPLES = {
    "when": {"value": {"type": "time", "activity": "scan", "object": {"box": [0.2, 0.3, 0.4, 0.6], "t": 95}}},
    "what": {"value": {"type": "activity", "object": {"product": "milk"}, "from": 0, "to": 60}},
    "where": {"value": {"type": "object", "activity": "scan", "camera": "lane1"}},
}


def told(model: Any, **more: Any) -> dict[str, Any]:
    """Keyword arguments of a route that answers like `model`: told in the document, not enforced."""
    return {"response_model": None, "responses": {200: {"model": model}}, **more}


def takes(content: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a route that reads its body itself: media types to schemas."""
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}


def json_of(model: type[BaseModel]) -> dict[str, Any]:
    """For `takes`: a body of JSON, after a small model without parts of its own."""
    return {"application/json": {"schema": model.model_json_schema()}}


def form(fields: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """For `takes`: a form with files `photos` and other `fields`, by their schemas."""
    photos = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_PHOTOS,
        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
    }
    schema = {
        "type": "object",
        "required": list(required),
        "properties": {"photos": photos, **fields},
        "additionalProperties": False,
    }
    return {"multipart/form-data": {"schema": schema}}


QUESTION = {
    "application/json": {"schema": {"$ref": _REF.format(model="Question")}, "examples": EXAMPLES},
    **form(
        {
            "query": {
                "type": "string",
                "description": "the question as JSON, without its object",
                "examples": ['{"type": "activity", "from": 0, "to": 60}', '{"type": "time"}'],
            }
        },
        ["query", "photos"],
    ),
}


def add_document(app: FastAPI) -> None:
    """Last: it tells of the routes that are there."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title="lvm-edge",
                version="1",
                description="Questions to the memory of cameras. docs/http.md has examples.",
                routes=app.routes,
            )
            found["components"]["schemas"] |= _questions()
            found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            found["security"] = [{"token": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _questions() -> dict[str, Any]:
    """Question and its parts; each may name its camera, as every door understands it."""
    whole = TypeAdapter(Query).json_schema(ref_template=_REF)
    parts: dict[str, Any] = whole.pop("$defs")
    for kind in ("ActivityQuery", "ObjectQuery", "TimeQuery"):
        parts[kind]["properties"]["camera"] = {
            "type": "string",
            "description": "its name, where there are several",
        }
        parts[kind].setdefault("required", [])
        if "type" not in parts[kind]["required"]:
            parts[kind]["required"].append("type")
    return {"Question": whole, **parts}
