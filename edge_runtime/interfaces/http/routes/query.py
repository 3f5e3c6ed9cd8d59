"""Route of questions: JSON, or a form with photos as files."""

from __future__ import annotations

import json
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData

from edge_runtime.interfaces.http import request_bodies
from edge_runtime.interfaces.http.openapi import QUESTION_BODY, accepts, documented
from edge_runtime.interfaces.http.request_bodies import is_form, open_form, read_photos
from edge_runtime.query.answers import Answer
from edge_runtime.query.schema import QueryRequest, make_request, parse_request
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError

MAX_CONCURRENT = 4
"""Questions answered at once; more would only wait for one another and for the cameras' frames."""


def add_query_routes(app: FastAPI, service: Service, bodies: request_bodies.BodyReader) -> None:
    limiter = CapacityLimiter(MAX_CONCURRENT)

    @app.post("/api/v1/query", **documented(Answer), **accepts(QUESTION_BODY))
    async def query(request: Request) -> JSONResponse:
        """What was done with an object, where something was done, or when."""
        async with bodies.read(request, request_bodies.MAX_BODY_BYTES) as body:
            if is_form(request):
                async with open_form(request, body) as form:
                    question = await _from_form(form)
            else:
                question = parse_request(body)
            # In a thread, so that other requests are answered meanwhile.
            answer = await to_thread.run_sync(service.ask, question, limiter=limiter)
        return JSONResponse(answer.json_fields)


async def _from_form(form: FormData) -> QueryRequest:
    """Read a form: field `query`, the question as JSON without its object, and files `photos`.

    Raises QueryError.
    """
    if set(form) - {"query", "photos"}:
        raise QueryError("a form has the field query and files photos, and nothing else")
    queries, photos = form.getlist("query"), await read_photos(form)
    if len(queries) != 1 or not isinstance(queries[0], str):
        raise QueryError("a form has the field query once: the question as JSON, without its object")
    try:
        fields: Any = json.loads(queries[0])
    except (ValueError, RecursionError):
        raise QueryError("the field query is not JSON") from None
    if not isinstance(fields, dict) or "object" in fields:
        raise QueryError('the field query is like {"type": "activity", "from": 0}: the photos are its object')
    return make_request(fields | ({"object": {"photos": photos}} if photos else {}))
