"""The gate in front of all routes: lets in whom `access` lets in, and puts headers on what leaves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime.interfaces.http.auth import Access, Asking
from edge_runtime.interfaces.http.errors import Refusal, refused

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of every response that does not say otherwise. No Strict-Transport-Security: with a certificate of its own
making a device would shut browsers out of everything else under its name."""


class Gate:
    """ASGI. Who came in stands in `scope["holder"]`, None for a stranger."""

    @dataclass
    class Counts:
        """Responses so far."""

        by_status: Counter[int] = field(default_factory=Counter)

    def __init__(self, app: ASGIApp, access: Access, counts: Counts) -> None:
        self._app, self._access, self._counts = app, access, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.by_status[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        socket = scope["type"] == "websocket"
        asking = Asking(
            method="GET" if socket else scope["method"],
            path=scope["path"],
            client=(scope.get("client") or ("unknown", 0))[0],
            headers=Headers(scope=scope),
            websocket=socket,
        )
        try:
            scope["holder"] = self._access.let_in(asking)
        except Refusal as error:
            if socket:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
            else:
                await refused(error.status, str(error), error.headers)(scope, receive, send_on)
            return
        await self._app(scope, receive, send_on)
