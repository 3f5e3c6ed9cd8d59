"""Read bodies of requests, and the forms with photos in them.

Each body is bounded, and so are all together for as long as one of them is in use. A form is read from a body
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
from edge_runtime.interfaces.http.errors import Busy, TooLarge
from edge_runtime.query.schema import MAX_QUESTION_BYTES
from edge_runtime.system.errors import QueryError
from edge_runtime.system.validation import describe_first_problem
from engines.errors import LvmError

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = MAX_QUESTION_BYTES
"""Of a question."""
MAX_SMALL_BYTES = 4096
"""Of everything that needs no pictures, unless its route says otherwise."""
MAX_HELD_BYTES = 100_000_000
"""Of all bodies that are being read and worked on together: the largest one and many small ones."""
MAX_FIELD_BYTES = 65536
"""Of a field of a form."""


class Held:
    """What all requests together hold in memory. For one event loop, which is one thread."""

    def __init__(self) -> None:
        self.bytes = 0

    @asynccontextmanager
    async def body(self, request: Request, most: int = MAX_SMALL_BYTES) -> AsyncIterator[bytes]:
        """The body of at most `most` bytes, counted until it is left.

        Raises TooLarge, Busy where others leave no room for it, LvmError where the client goes.
        """
        parts: list[bytes] = []
        try:
            try:
                await self._read(request, parts, most)
            except ClientDisconnect:
                # Nobody is left to be told; unhandled it would be a page of traceback in the log, each time.
                raise LvmError("the client went before its question was whole") from None
            yield b"".join(parts)
        finally:
            self.bytes -= sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes], most: int) -> None:
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said[:20]) > most:  # not a byte of it is read
            raise TooLarge(f"this has at most {most} bytes")
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise TooLarge(f"this has at most {most} bytes")
            if self.bytes + len(part) > MAX_HELD_BYTES:
                raise Busy("other large questions are being answered; ask again")
            self.bytes += len(part)
            parts.append(part)


def parse_body(model: type[M], data: bytes) -> M:
    """Read a body of JSON. Raises as `validated`."""
    return validated(lambda: model.model_validate_json(data))


def validated(make: Callable[[], T]) -> T:
    """Return what `make` returns. Raises LvmError with one sentence where data does not fit a model."""
    try:
        return make()
    except ValidationError as error:
        raise LvmError(f"not understood: {describe_first_problem(error)}") from None


class _InMemory(MultiPartParser):
    """No photo is ever written to a disk, not even to a temporary file."""

    spool_max_size = MAX_HELD_BYTES


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
