"""Take retained topics back from a broker that is not used any more: MQTT was switched off or moved."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.outbox import Message
from edge_runtime.interfaces.mqtt.published_topics import PublishedTopics
from edge_runtime.interfaces.mqtt.retained_states import read_owner
from edge_runtime.system.backoff import Backoff
from engines.errors import LvmError

if TYPE_CHECKING:
    from edge_runtime.interfaces.mqtt.connection import Received

log = logging.getLogger(__name__)

LISTING_S = 3.0
"""Time for the retained listings to arrive."""
STOP_S = 1.0


class Withdrawal:
    """Runs within `with`, in a thread, until a broker was reached and what is ours there was taken back.

    A missing broker is tried again; so is one that refuses, unless `on_refusal` is called then. Raises
    ImportError without aiomqtt.
    """

    def __init__(
        self,
        settings: MqttSettings,
        published: PublishedTopics,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        from edge_runtime.interfaces.mqtt import connection

        self._library, self._settings, self._published = connection, settings, published
        self._listings: dict[str, bytes] = {}
        self._on_refusal = on_refusal
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt withdrawal", daemon=True)

    def __enter__(self) -> Withdrawal:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(STOP_S)

    def take_back(self) -> dict[str, int | None]:
        """Take back now: topics by prefix, 0 where another device uses it, None where nothing was readable.

        Raises LvmError where the broker cannot be reached or refuses.
        """
        try:
            return asyncio.run(self._take_back())
        except (self._library.MqttError, OSError, ValueError) as error:
            raise LvmError(self._library.explain(error, self._settings)[0]) from None

    def _run(self) -> None:
        backoff, logged = Backoff(1.0, 60.0), False
        while not self._stop.is_set():
            try:
                asyncio.run(self._take_back())
                return
            except (self._library.MqttError, LvmError, OSError, ValueError) as error:
                reason, refused = self._library.explain(error, self._settings)
                if refused and self._on_refusal is not None:
                    self._on_refusal(reason)
                    return
                if not logged:
                    log.warning("%s; old topics there are taken back later", reason)
                logged = True
            self._stop.wait(backoff.next())

    def _receive(self, message: Received) -> None:
        if message.retained:
            self._listings[message.topic] = message.payload

    async def _take_back(self) -> dict[str, int | None]:
        connection = self._library.Connection(self._settings, None, self._receive)
        await connection.open()
        try:
            broker = self._settings.address
            prefixes = self._published.prefixes(broker)
            taken: dict[str, int | None] = dict.fromkeys(prefixes)
            await connection.try_to_listen(*(f"{prefix}/cameras" for prefix in prefixes))
            until = asyncio.get_running_loop().time() + LISTING_S
            while len(self._listings) < len(prefixes) and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(0.05)
            for prefix in prefixes:
                listing = self._listings.get(f"{prefix}/cameras")
                if listing is None or self._stop.is_set():
                    continue
                taken[prefix] = 0
                if read_owner(listing) == self._published.id:
                    topics = self._published.topics(broker, prefix)
                    taken[prefix] = len(topics)
                    for topic in topics:
                        await connection.send(Message(topic, b"", retain=True))
                    log.info("MQTT: the topics under %s were taken back", prefix)
                self._published.forget(broker, prefix)
            return taken
        finally:
            await connection.close(STOP_S)
