"""MQTT client in a thread of its own: publishes states, events and answers, takes questions and commands.

It reconnects to the broker by itself, and no camera ever waits for it: while the broker is away events wait
in a bounded outbox, and of each state only the newest is stored. Messages with QoS 1 leave the outbox one by
one when the broker has confirmed them, so the order is kept and at most one message comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.commands import Commands
from edge_runtime.interfaces.mqtt.observer import Observer
from edge_runtime.interfaces.mqtt.outbox import Message, Outbox
from edge_runtime.interfaces.mqtt.payloads import OFFLINE
from edge_runtime.interfaces.mqtt.published_topics import PublishedTopics
from edge_runtime.interfaces.mqtt.publisher import CLOSE_S, Publisher
from edge_runtime.interfaces.mqtt.queries import QueryMessage, QueryQueue
from edge_runtime.interfaces.mqtt.tasks import DaemonThreadExecutor, cancel_all, wait_first, wait_unless
from edge_runtime.interfaces.mqtt.topics import TopicNames, Topics
from edge_runtime.service.runtime import Service
from edge_runtime.system.backoff import Backoff
from engines.errors import LvmError, Unavailable

if TYPE_CHECKING:
    from edge_runtime.interfaces.mqtt.connection import Received

log = logging.getLogger(__name__)

STOP_S = 1.8
"""After that the thread is abandoned: a stop takes less than 2 s."""
STEADY_S = 10.0
"""After a connection of that length the next outage begins with short delays again."""
REPEAT_LOG_S = 600.0
"""Between two equal lines of the log."""
MAX_REPLIES, MAX_REPLY_BYTES = 1000, 8_000_000


@dataclass(frozen=True)
class RetryDelays:
    """Seconds between attempts: `first` doubles up to `longest`, each shortened at random by up to half."""

    first: float = 0.5
    longest: float = 10.0
    refused: float = 60.0
    """After errors that rarely go away by themselves: a wrong password, a certificate."""


class MqttClient:
    """Runs within `with`. Raises Unavailable without aiomqtt, LvmError where a file of `tls` cannot be used.

    A missing broker raises nothing: the client tries again.
    """

    def __init__(
        self,
        service: Service,
        settings: MqttSettings,
        delays: RetryDelays | None = None,
        published: PublishedTopics | None = None,
    ) -> None:
        try:
            from edge_runtime.interfaces.mqtt import connection as library
        except ImportError:
            raise Unavailable('MQTT needs the package aiomqtt: pip install "lvm-edge[mqtt]"') from None
        if settings.tls is not None:
            library.tls_context(settings.tls)
        self._library, self._settings, self._delays = library, settings, delays or RetryDelays()
        self._topics, self._names = Topics(settings.topic_prefix), TopicNames()
        self._observer = Observer(service, settings, self._topics, self._names, self._on_change, published)
        self._replies = Outbox(MAX_REPLIES, MAX_REPLY_BYTES)
        self._questions = QueryQueue(service, settings, self._topics, self._names, self._reply)
        self._commands = Commands(service, self._observer.observe_soon)
        self._publisher: Publisher | None = None
        self._old_listings: list[str] = []
        self._connections = self._ignored = 0
        self._logged, self._logged_at = "", 0.0
        self._started = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(DaemonThreadExecutor(thread_name_prefix="mqtt "))
        self._resources = contextlib.ExitStack()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self.connected = threading.Event()
        """Set while the broker knows this device as available."""

    @property
    def address(self) -> str:
        """The broker, for people."""
        return self._settings.address

    def __enter__(self) -> MqttClient:
        with contextlib.ExitStack() as resources:
            resources.enter_context(self._observer.subscribed(self._loop))
            self._thread.start()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the thread has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_S)
        self._resources.close()
        if self._thread.is_alive():
            log.warning("MQTT: the goodbye takes too long; the broker will tell others that we are gone")

    def counters(self) -> dict[str, Any]:
        """Return the counters for `PREFIX/stats`; from any thread."""
        return {
            "uptime_s": round(time.monotonic() - self._started, 1),
            "mqtt": {
                "connections": self._connections,
                "events": self._observer.as_json(),
                "queries": self._questions.as_json(),
                "replies": self._replies.as_json(),
                "ignored": self._ignored + self._commands.refused,
            },
        }

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except Exception:
            log.exception("MQTT has ended because of a fault in it; everything else goes on")
        finally:
            self.connected.clear()
            self._loop.run_until_complete(self._end_rest())
            self._loop.close()

    async def _end_rest(self) -> None:
        """Cancel what the library leaves where a connection was cut."""
        current = asyncio.current_task()
        await cancel_all(task for task in asyncio.all_tasks() if task is not current)

    async def _main(self) -> None:
        """Observe, answer and stay connected until `_stopping`; an error in one of them ends all."""
        observe = asyncio.ensure_future(self._observer.run())
        answer = asyncio.ensure_future(self._questions.work())
        connect = asyncio.ensure_future(self._stay_connected(observe))
        try:
            running = {observe, answer, connect}
            while not connect.done():
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if not task.cancelled():
                        task.result()
        finally:
            await cancel_all((observe, answer, connect))

    async def _stay_connected(self, observe: asyncio.Future[None]) -> None:
        backoff = Backoff(self._delays.first, self._delays.longest)
        await wait_unless(self._stopping, self._observer.seen.wait())
        while not self._stopping.is_set():
            began, refused = time.monotonic(), False
            try:
                await self._connection(observe)
            except (self._library.MqttError, LvmError, OSError, ValueError) as error:
                reason, refused = self._library.explain(error, self._settings)
                self._log_outage(reason)
            finally:
                self.connected.clear()
                self._publisher = None
            if time.monotonic() - began >= STEADY_S:
                backoff.reset()
            await wait_unless(
                self._stopping, asyncio.sleep(self._delays.refused if refused else backoff.next())
            )

    async def _connection(self, observe: asyncio.Future[None]) -> None:
        """Run one connection from the first attempt to its end.

        Raises MqttError, LvmError, OSError or ValueError.
        """
        will = Message(self._topics.available, OFFLINE, retain=True)
        connection = self._library.Connection(self._settings, will, self._received)
        if not await wait_unless(self._stopping, connection.open()):
            return
        self._old_listings = self._observer.states.list_old_listings()
        publisher = self._publisher = Publisher(
            connection, self._topics, self._old_listings,
            self._observer.states.outbox, self._replies, self._observer.events,
            lambda: self._observer.stats(self.counters()), self._settings.stats_interval_s,
        )  # fmt: skip
        try:
            if await wait_unless(
                self._stopping, wait_first(publisher.run(self._listen(), self._ready), connection.lost())
            ):
                return
            await cancel_all([observe])  # which puts the last events into the outbox
            self._observer.states.set_offline()
            await publisher.goodbye()
        finally:
            await connection.close(CLOSE_S)

    # -- callbacks of the connection -----------------------------------------------------------------------

    def _listen(self) -> list[str]:
        topics = [self._topics.cameras]
        topics += [self._topics.request] if self._settings.queries else []
        return topics + ([self._topics.pause_filter] if self._settings.commands else [])

    def _ready(self) -> None:
        self._connections += 1
        self.connected.set()
        log.info("MQTT: connected to %s", self._settings.address)
        self._logged = ""

    def _received(self, message: Received) -> None:
        """Take a message, in the event loop: this must not block or raise."""
        if message.topic == self._topics.cameras:
            if message.retained:
                self._observer.states.take_listing(message.payload)
                self._on_change()
        elif message.topic in self._old_listings:
            if message.retained:
                self._observer.states.take_old_listing(message.topic, message.payload)
                self._on_change()
        elif message.retained:
            # An old message, which would come again at each connection.
            self._ignored += 1
        elif message.topic == self._topics.request and self._settings.queries:
            self._questions.put(QueryMessage(message.payload, message.response_topic, message.correlation))
        elif self._settings.commands:
            name = self._topics.paused_camera(message.topic)
            self._commands.put(self._names.camera(name) if name else None, message.payload)

    def _reply(self, message: Message) -> None:
        self._replies.put(message)
        self._on_change()

    def _on_change(self) -> None:
        if self._publisher is not None:
            self._publisher.notify()

    def _log_outage(self, reason: str) -> None:
        now = time.monotonic()
        if reason != self._logged or now - self._logged_at >= REPEAT_LOG_S:
            self._logged, self._logged_at = reason, now
            log.warning("%s; it is tried again", reason)
