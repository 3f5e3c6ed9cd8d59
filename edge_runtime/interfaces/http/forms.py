"""Forms with photos, as browsers and curl send them: read from a body that is in memory already."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.interfaces.http import request_bodies as bodies
from edge_runtime.system.errors import QueryError

MAX_FIELD_BYTES = 65536


class _InMemory(MultiPartParser):
    """No photo is ever written to a disk, not even to a temporary file."""

    spool_max_size = bodies.MAX_HELD_BYTES


def is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "multipart/form-data"


@asynccontextmanager
async def form_of(request: Request, body: bytes) -> AsyncIterator[FormData]:
    """The form that `body` is; its files are closed after it. Raises QueryError for one that is damaged."""

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
        yield form
    finally:
        await form.close()


async def photos_of(form: FormData) -> list[bytes]:
    """The files `photos`. Raises QueryError for fields of that name."""
    return [await _bytes(one) for one in form.getlist("photos")]


async def _bytes(photo: UploadFile | str) -> bytes:
    if isinstance(photo, str):
        raise QueryError("photos must be files: photos=@photo.jpg")
    return await photo.read()
