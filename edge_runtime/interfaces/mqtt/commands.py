"""Commands that come over MQTT: `PREFIX/CAMERA/paused/set` begins (ON) or ends (OFF) a privacy pause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edge_runtime.service.runtime import Service
from edge_runtime.system.secrets import mask_secrets
from engines.errors import LvmError

log = logging.getLogger(__name__)

_SWITCH = {b"on": True, b"true": True, b"1": True, b"off": False, b"false": False, b"0": False}


class Commands:
    """For the event loop. Of several commands to one camera the last counts; `done` is called after each.

    A pause may have to wait for its camera's driver, which delays no other camera.
    """

    def __init__(self, service: Service, done: Callable[[], None]) -> None:
        self._service, self._done = service, done
        self._pending: dict[str, bool] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self.refused = 0

    def put(self, camera: str | None, payload: bytes) -> None:
        """Take a command. `camera` None means an unknown name."""
        pause = _SWITCH.get(payload.strip().lower()) if len(payload) < 16 else None
        if camera is None or pause is None:
            self.refused += 1
            return
        self._pending[camera] = pause
        if camera not in self._busy:
            self._busy[camera] = asyncio.get_running_loop().create_task(self._apply(camera))

    async def _apply(self, camera: str) -> None:
        try:
            while camera in self._pending:
                pause = self._pending.pop(camera)
                change = self._service.pause if pause else self._service.resume
                try:
                    await asyncio.get_running_loop().run_in_executor(None, change, camera)
                except LvmError as error:
                    self.refused += 1
                    log.warning("MQTT: %s", mask_secrets(str(error)))
                self._done()
        finally:
            del self._busy[camera]
