"""Read bodies of requests, and the forms with photos in them.

Each body is bounded, and so are all together while they are in use. A form is read from a body
that is in memory already: no photo is ever written to a disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.interfaces.http.errors import BodyTooLarge, ServiceBusy
from edge_runtime.query.schema import MAX_QUESTION_BYTES
from edge_runtime.system.errors import QueryError
from edge_runtime.system.validation import describe_first_problem
from engines.errors import LvmError

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = MAX_QUESTION_BYTES
"""Of the body of a question."""
MAX_SMALL_BYTES = 4096
"""Of other bodies, unless their route sets another limit."""
MAX_HELD_BYTES = 100_000_000
"""Of all bodies in use together: the largest one and many small ones."""
MAX_FIELD_BYTES = 65536
"""Of a field of a form."""


class BodyReader:
    """Reads bodies, and bounds what all requests together hold in memory. For use in one event loop."""

    def __init__(self) -> None:
        self.bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, max_bytes: int = MAX_SMALL_BYTES) -> AsyncIterator[bytes]:
        """Read the body, at most `max_bytes`; it counts until the context is left.

        Raises BodyTooLarge, ServiceBusy where other bodies leave no room, LvmError where the client leaves.
        """
        parts: list[bytes] = []
        try:
            try:
                await self._receive(request, parts, max_bytes)
            except ClientDisconnect:
                # Nobody reads the answer, but unhandled it would be a page of traceback in the log each time.
                raise LvmError("the client went before its question was whole") from None
            yield b"".join(parts)
        finally:
            self.bytes -= sum(map(len, parts))

    async def _receive(self, request: Request, parts: list[bytes], max_bytes: int) -> None:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > max_bytes:  # not a byte of it is read
            raise BodyTooLarge(f"this has at most {max_bytes} bytes")
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise BodyTooLarge(f"this has at most {max_bytes} bytes")
            if self.bytes + len(part) > MAX_HELD_BYTES:
                raise ServiceBusy("other large questions are being answered; ask again")
            self.bytes += len(part)
            parts.append(part)


def parse_body(model: type[M], data: bytes) -> M:
    """Read a body of JSON. Raises as `validated`."""
    return validated(lambda: model.model_validate_json(data))


def validated(make: Callable[[], T]) -> T:
    """Return what `make` returns. Raises LvmError in one sentence where data does not fit a model."""
    try:
        return make()
    except ValidationError as error:
        raise LvmError(f"not understood: {describe_first_problem(error)}") from None


class _InMemory(MultiPartParser):
    """Keeps photos in memory, never in a temporary file."""

    spool_max_size = MAX_HELD_BYTES


def is_form(request: Request) -> bool:
    """Return whether the body is a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "multipart/form-data"


@asynccontextmanager
async def open_form(request: Request, body: bytes) -> AsyncIterator[FormData]:
    """Parse a form; its files are closed with the context. Raises QueryError where it is damaged."""

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


async def read_photos(form: FormData) -> list[bytes]:
    """Read the files `photos`. Raises QueryError where they are fields instead."""
    return [await _bytes(photo) for photo in form.getlist("photos")]


async def _bytes(photo: UploadFile | str) -> bytes:
    if isinstance(photo, str):
        raise QueryError("photos must be files: photos=@photo.jpg")
    return await photo.read()
