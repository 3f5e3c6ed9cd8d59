"""`PREFIX/CAMERA/paused/set`: ON begins a privacy pause, OFF ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edge_runtime.service.runtime import Service
from edge_runtime.system.secrets import mask_secrets
from engines.errors import LvmError

log = logging.getLogger(__name__)

_WORDS = {b"on": True, b"true": True, b"1": True, b"off": False, b"false": False, b"0": False}


class Commands:
    """For the event loop. Of several commands to one camera the last counts; one camera's driver, which a
    pause may have to wait for, delays no other camera. `done` is called after each."""

    def __init__(self, service: Service, done: Callable[[], None]) -> None:
        self._service, self._done = service, done
        self._wanted: dict[str, bool] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self.refused = 0

    def put(self, camera: str | None, payload: bytes) -> None:
        """`camera` None: there is none of that name."""
        wanted = _WORDS.get(payload.strip().lower()) if len(payload) < 16 else None
        if camera is None or wanted is None:
            self.refused += 1
            return
        self._wanted[camera] = wanted
        if camera not in self._busy:
            self._busy[camera] = asyncio.get_running_loop().create_task(self._obey(camera))

    async def _obey(self, camera: str) -> None:
        try:
            while camera in self._wanted:
                wanted = self._wanted.pop(camera)
                change = self._service.pause if wanted else self._service.resume
                try:
                    await asyncio.get_running_loop().run_in_executor(None, change, camera)
                except LvmError as error:
                    self.refused += 1
                    log.warning("MQTT: %s", mask_secrets(str(error)))
                self._done()
        finally:
            del self._busy[camera]
