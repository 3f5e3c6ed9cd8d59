"""Close HTTP connections whose client does not finish its request or does not read the response.

uvicorn limits only the pause between two requests. A client that opens connections and sends nothing, or a
byte now and then, would take all of them and shut everybody else out.
"""

from __future__ import annotations

import asyncio
import logging

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

BROKEN = "a client broke the rules of HTTP"
HEAD_S = 10.0
"""From the start of a connection, or the first byte of a later request, to the end of the request's head."""
BODY_S = 30.0
"""From the end of the head to the end of the body."""
READ_S = 30.0
"""Longest pause in which a client reads nothing of a response."""
MAX_PER_ADDRESS = 64
"""Connections of one address at once, a quarter of all."""


class TimeoutProtocol(H11Protocol):
    """uvicorn's protocol with time limits for a request's head and body and for reading the response."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            clients = [getattr(connection, "client", None) for connection in self.connections]
            if [client and client[0] for client in clients].count(self.client[0]) > MAX_PER_ADDRESS:
                transport.abort()
        self._start_deadline(HEAD_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_unread()

    def _cancel_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            self._start_deadline(HEAD_S)
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            # uvicorn answers a broken body with a text, which the response to HEAD may not have.
            log.warning(BROKEN)
            self.transport.close()
            return
        state = self.conn.their_state
        if state is h11.SEND_BODY and not self._in_body:
            self._start_deadline(BODY_S)
        elif state not in (h11.IDLE, h11.SEND_BODY):  # the request is whole
            self._cancel_deadline()
        self._in_body = state is h11.SEND_BODY

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._cancel_unread()
        super().connection_lost(exc)

    def _start_deadline(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
