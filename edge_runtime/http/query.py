"""The route of questions: JSON, or a form with photos as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from edge_runtime.addressed import Addressed, parse_addressed
from edge_runtime.answers import Answer
from edge_runtime.http import bodies
from edge_runtime.http.document import QUESTION, takes, told
from edge_runtime.queries import MAX_PHOTOS, QueryError, query_of
from edge_runtime.service import Service

AT_ONCE = 4
"""Questions that are answered side by side; more only wait for one another, and for the cameras' frames."""
MAX_FIELD_BYTES = 65536


def add_query_routes(app: FastAPI, service: Service, held: bodies.Held) -> None:
    turns = CapacityLimiter(AT_ONCE)

    @app.post("/api/v1/query", **told(Answer), **takes(QUESTION))
    async def query(request: Request) -> JSONResponse:
        """What was done with an object, where something was done, or when."""
        async with held.body(request, bodies.MAX_BODY_BYTES) as body:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            form = kind == "multipart/form-data"
            asked = await _from_form(request, body) if form else parse_addressed(body)
            # The reader runs in a thread, so that everybody else is answered meanwhile.
            answer = await to_thread.run_sync(service.ask, asked.query, asked.camera, limiter=turns)
        return JSONResponse(answer.model_dump(mode="json"))


class _InMemory(MultiPartParser):
    """No photo is ever written to a disk, not even to a temporary file."""

    spool_max_size = bodies.MAX_HELD_BYTES


async def _from_form(request: Request, body: bytes) -> Addressed:
    """Field `query`, the question as JSON without its object, and files `photos`. Raises QueryError."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(
        request.headers, whole(), max_files=MAX_PHOTOS, max_fields=4, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, UnicodeDecodeError, KeyError) as error:
        raise QueryError(f"the form is damaged: {str(error)[:100]!a}") from None
    try:
        return await _question(form)
    finally:
        await form.close()


async def _question(form: FormData) -> Addressed:
    if set(form) - {"query", "photos"}:
        raise QueryError("a form has the field query and files photos, and nothing else")
    said, photos = form.getlist("query"), form.getlist("photos")
    if len(said) != 1 or not isinstance(said[0], str):
        raise QueryError("a form has the field query once: the question as JSON, without its object")
    try:
        fields: Any = json.loads(said[0])
    except (ValueError, RecursionError):
        raise QueryError("the field query is not JSON") from None
    if not isinstance(fields, dict) or "object" in fields:
        raise QueryError('the field query is like {"type": "activity", "from": 0}: the photos are its object')
    camera = fields.pop("camera", None)
    if camera is not None and not isinstance(camera, str):
        raise QueryError("camera must be the name of a camera")
    if photos:
        fields["object"] = {"photos": [await _bytes(one) for one in photos]}
    return Addressed(query_of(fields), camera)


async def _bytes(photo: UploadFile | str) -> bytes:
    if isinstance(photo, str):
        raise QueryError("photos must be files: photos=@photo.jpg")
    return await photo.read()
