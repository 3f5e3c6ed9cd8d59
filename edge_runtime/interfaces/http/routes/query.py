"""The route of questions: JSON, or a form with photos as they are."""

from __future__ import annotations

import json
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData

from edge_runtime.interfaces.http import request_bodies as bodies
from edge_runtime.interfaces.http.openapi import QUESTION, takes, told
from edge_runtime.interfaces.http.request_bodies import form_of, is_form, photos_of
from edge_runtime.query.answers import Answer
from edge_runtime.query.schema import QueryRequest, make_request, parse_request
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError

AT_ONCE = 4
"""Questions that are answered side by side; more only wait for one another, and for the cameras' frames."""


def add_query_routes(app: FastAPI, service: Service, held: bodies.Held) -> None:
    turns = CapacityLimiter(AT_ONCE)

    @app.post("/api/v1/query", **told(Answer), **takes(QUESTION))
    async def query(request: Request) -> JSONResponse:
        """What was done with an object, where something was done, or when."""
        async with held.body(request, bodies.MAX_BODY_BYTES) as body:
            if is_form(request):
                async with form_of(request, body) as form:
                    question = await _from_form(form)
            else:
                question = parse_request(body)
            # The reader runs in a thread, so that everybody else is answered meanwhile.
            answer = await to_thread.run_sync(service.ask, question, limiter=turns)
        return JSONResponse(answer.json_fields)


async def _from_form(form: FormData) -> QueryRequest:
    """Read a form: field `query`, the question as JSON without its object, and files `photos`.

    Raises QueryError.
    """
    if set(form) - {"query", "photos"}:
        raise QueryError("a form has the field query and files photos, and nothing else")
    said, photos = form.getlist("query"), await photos_of(form)
    if len(said) != 1 or not isinstance(said[0], str):
        raise QueryError("a form has the field query once: the question as JSON, without its object")
    try:
        fields: Any = json.loads(said[0])
    except (ValueError, RecursionError):
        raise QueryError("the field query is not JSON") from None
    if not isinstance(fields, dict) or "object" in fields:
        raise QueryError('the field query is like {"type": "activity", "from": 0}: the photos are its object')
    return make_request(fields | ({"object": {"photos": photos}} if photos else {}))
