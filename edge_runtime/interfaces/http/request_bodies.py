"""Bodies of requests: bounded one by one, and all together as long as anything is done with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from edge_runtime.interfaces.http.errors import Busy, TooLarge
from edge_runtime.query.schema import MAX_QUESTION_BYTES
from engines.errors import LvmError

MAX_BODY_BYTES = MAX_QUESTION_BYTES
"""Of a question."""
MAX_SMALL_BYTES = 4096
"""Of everything that needs no pictures, unless its route says otherwise."""
MAX_HELD_BYTES = 100_000_000
"""Of all bodies that are being read and worked on together: the largest one and many small ones."""


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
