"""HTTP connections that do not wait for ever: who does not come to the end of a request, or does not read
what it asked for, is hung up on.

uvicorn limits only the pause between two requests. A client that opens connections and says nothing, or a
letter now and then, would take all that there are and shut everybody else out.
"""

from __future__ import annotations

import asyncio
import logging

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

BROKEN = "a client broke the rules of HTTP"
HEAD_S = 10.0
"""From a connection, or the first byte of a further request, to the end of the request's head."""
BODY_S = 30.0
"""From there to the end of its body."""
READ_S = 30.0
"""For which a client may read nothing of what it was sent."""
MAX_OF_ONE = 64
"""Connections of one address at once: a quarter of all."""


class TimedProtocol(H11Protocol):
    """uvicorn's own protocol with time limits for a request's head and body."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            clients = [getattr(one, "client", None) for one in self.connections]
            if [one and one[0] for one in clients].count(self.client[0]) > MAX_OF_ONE:
                transport.abort()
        self._begin(HEAD_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read()

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            self._begin(HEAD_S)
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            # uvicorn gives its refusal of a broken body a text, which the answer to HEAD may not have.
            log.warning(BROKEN)
            self.transport.close()
            return
        state = self.conn.their_state
        if state is h11.SEND_BODY and not self._in_body:
            self._begin(BODY_S)
        elif state not in (h11.IDLE, h11.SEND_BODY):  # the request is whole
            self._end()
        self._in_body = state is h11.SEND_BODY

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._read()
        super().connection_lost(exc)

    def _begin(self, seconds: float) -> None:
        self._end()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
