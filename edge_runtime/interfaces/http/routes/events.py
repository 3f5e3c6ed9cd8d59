"""Events as they happen, over a WebSocket: one JSON object each, as `Event.as_json` gives it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass

from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from edge_runtime.service.events import Subscription
from edge_runtime.service.runtime import Service

log = logging.getLogger(__name__)

KINDS = {"activity", "camera", "answer", "privacy"}
MAX_LISTENERS = 16
"""At once; the next is told to come again (1013)."""
SEND_S = 10.0
"""In which a listener must take an event; who is slower, or falls 256 events behind, is cut off."""
PING_S = 20.0
TRY_AGAIN, NOT_UNDERSTOOD = 1013, 1008


class Slow(Exception):
    """A listener that does not keep up."""


@dataclass
class Listeners:
    """How many there are, and how many were cut off so far."""

    now: int = 0
    cut_off: int = 0


def add_event_routes(app: FastAPI, service: Service, listeners: Listeners) -> None:
    @app.websocket("/api/v1/events")
    async def events(socket: WebSocket, kinds: str = "") -> None:
        wanted = {kind for kind in kinds.split(",") if kind}
        if wanted - KINDS:
            await socket.close(NOT_UNDERSTOOD, f"kinds are {', '.join(sorted(KINDS))}")
            return
        if listeners.now >= MAX_LISTENERS:
            await socket.close(TRY_AGAIN, "as many listen as may; come again later")
            return
        listeners.now += 1
        try:
            await socket.accept()
            await _tell(socket, service, wanted or KINDS)
        except Slow:
            listeners.cut_off += 1
            log.warning("a listener of events was too slow and is cut off")
            with contextlib.suppress(asyncio.TimeoutError, RuntimeError):
                await asyncio.wait_for(socket.close(TRY_AGAIN, "too slow"), 1.0)
        except WebSocketDisconnect:
            pass  # gone while it was told something
        finally:
            listeners.now -= 1


async def _tell(socket: WebSocket, service: Service, wanted: set[str]) -> None:
    """Until the listener goes. Raises Slow."""
    loop, some = asyncio.get_running_loop(), asyncio.Event()

    def woken() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: so has this
            loop.call_soon_threadsafe(some.set)

    gone = asyncio.create_task(_until_gone(socket))
    try:
        with service.events.subscribe(on_event=woken) as subscription:
            while not gone.done():
                some.clear()
                await _send(socket, subscription, wanted)
                waiting = asyncio.create_task(some.wait())
                await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
    finally:
        gone.cancel()


async def _send(socket: WebSocket, subscription: Subscription, wanted: set[str]) -> None:
    while (event := subscription.get(0)) is not None:
        if subscription.lost:
            raise Slow
        if event.kind in wanted:
            try:
                await asyncio.wait_for(socket.send_text(json.dumps(event.as_json())), SEND_S)
            except asyncio.TimeoutError:
                raise Slow from None


async def _until_gone(socket: WebSocket) -> None:
    """What a listener says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
