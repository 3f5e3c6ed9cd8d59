"""Send events as they happen over a WebSocket, each as the JSON object of `Event.as_json`."""

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
"""At once; the next is closed with 1013, try again later."""
SEND_S = 10.0
"""Time for a listener to take an event; a slower one, or one 256 events behind, is cut off."""
PING_S = 20.0
TRY_AGAIN, NOT_UNDERSTOOD = 1013, 1008


class Slow(Exception):
    """A listener that does not keep up."""


@dataclass
class Listeners:
    """Counts of listeners: `now`, and those cut off so far."""

    now: int = 0
    cut_off: int = 0


def add_event_routes(app: FastAPI, service: Service, listeners: Listeners) -> None:
    @app.websocket("/api/v1/events")
    async def events(socket: WebSocket, kinds: str = "") -> None:
        selected = {kind for kind in kinds.split(",") if kind}
        if selected - KINDS:
            await socket.close(NOT_UNDERSTOOD, f"kinds are {', '.join(sorted(KINDS))}")
            return
        if listeners.now >= MAX_LISTENERS:
            await socket.close(TRY_AGAIN, "as many listen as may; come again later")
            return
        listeners.now += 1
        try:
            await socket.accept()
            await _send_events(socket, service, selected or KINDS)
        except Slow:
            listeners.cut_off += 1
            log.warning("a listener of events was too slow and is cut off")
            with contextlib.suppress(asyncio.TimeoutError, RuntimeError):
                await asyncio.wait_for(socket.close(TRY_AGAIN, "too slow"), 1.0)
        except WebSocketDisconnect:
            pass  # it left while an event was sent
        finally:
            listeners.now -= 1


async def _send_events(socket: WebSocket, service: Service, kinds: set[str]) -> None:
    """Send events until the listener leaves. Raises Slow."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(ready.set)

    gone = asyncio.create_task(_wait_until_gone(socket))
    try:
        with service.events.subscribe(on_event=wake) as subscription:
            while not gone.done():
                ready.clear()
                await _send(socket, subscription, kinds)
                waiting = asyncio.create_task(ready.wait())
                await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
    finally:
        gone.cancel()


async def _send(socket: WebSocket, subscription: Subscription, kinds: set[str]) -> None:
    while (event := subscription.get(0)) is not None:
        if subscription.lost:
            raise Slow
        if event.kind in kinds:
            try:
                await asyncio.wait_for(socket.send_text(json.dumps(event.as_json())), SEND_S)
            except asyncio.TimeoutError:
                raise Slow from None


async def _wait_until_gone(socket: WebSocket) -> None:
    """Wait until the listener leaves; what it sends is ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
