"""Describe the routes in the OpenAPI document: responses, request bodies, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.interfaces.http.schemas import Error
from edge_runtime.query.schema import Query

_REF = "#/components/schemas/{model}"
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
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


class ReadRoute(APIRoute):
    """A route that answers HEAD wherever it answers GET: the server leaves the body out."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL and self._is_head(scope) else match), child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.app if self._is_head(scope) else super().handle)(scope, receive, send)

    def _is_head(self, scope: Scope) -> bool:
        return scope["method"] == "HEAD" and "GET" in (self.methods or ())


def documented(model: Any, **more: Any) -> dict[str, Any]:
    """Return keyword arguments of a route that answers like `model`: documented, not enforced."""
    return {"response_model": None, "responses": {200: {"model": model}}, **more}


def accepts(content: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments of a route that reads its body itself, from schemas by media type."""
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return a JSON body for `accepts`, from a model without nested models."""
    return {"application/json": {"schema": model.model_json_schema()}}


def form_body(fields: dict[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """Return a form for `accepts`: files `photos` and other `fields`, by their schemas."""
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


QUESTION_BODY = {
    "application/json": {"schema": {"$ref": _REF.format(model="Question")}, "examples": EXAMPLES},
    **form_body(
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


def add_openapi(app: FastAPI) -> None:
    """Serve the document. Called last, after all routes are added."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title="lvm-edge",
                version="1",
                description="Questions to the memory of cameras. docs/http.md has examples.",
                routes=app.routes,
            )
            schema["components"]["schemas"] |= _question_schemas()
            schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _question_schemas() -> dict[str, Any]:
    """Return the schemas of a question and its parts; each kind may name its camera."""
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
