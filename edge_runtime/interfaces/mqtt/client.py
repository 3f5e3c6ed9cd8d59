"""The door for other programs and homes: an MQTT client in a thread of its own.

It comes and goes with the broker. No camera ever waits for anything here: while the broker is away events
wait in a bounded line, and of states only the newest. What is told with QoS 1 leaves the line when the broker
has confirmed it, one after the other, so the order is kept and at most one message comes twice.
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
from edge_runtime.interfaces.mqtt.async_utils import Daemons, ended, first_of, unless
from edge_runtime.interfaces.mqtt.commands import Commands
from edge_runtime.interfaces.mqtt.observer import Follower
from edge_runtime.interfaces.mqtt.outbox import Line, Message
from edge_runtime.interfaces.mqtt.payloads import OFFLINE
from edge_runtime.interfaces.mqtt.publisher import CLOSE_S, Talk
from edge_runtime.interfaces.mqtt.queries import Question, Questions
from edge_runtime.interfaces.mqtt.topics import Names, Topics
from edge_runtime.service.runtime import Service
from edge_runtime.system.backoff import Backoff
from engines.errors import LvmError, Unavailable

if TYPE_CHECKING:
    from edge_runtime.interfaces.mqtt.connection import Received

log = logging.getLogger(__name__)

STOP_S = 1.8
"""Until the thread is left to itself; a stop takes less than 2 s."""
STEADY_S = 10.0
"""Of being connected, after which the next outage begins with short waits again."""
SAY_AGAIN_S = 600.0
"""Between two lines of the log that say the same."""
MAX_REPLIES, MAX_REPLY_BYTES = 1000, 8_000_000


@dataclass(frozen=True)
class Waits:
    """Seconds between attempts: `first` doubles up to `most`, each shortened at random by up to half."""

    first: float = 0.5
    most: float = 10.0
    refused: float = 60.0
    """After what will hardly change by itself: a wrong password, a certificate."""


class MqttDoor:
    """Open within `with`. Raises Unavailable without aiomqtt, LvmError where a file of `tls` cannot be used.

    A broker that is not there raises nothing, ever: it is tried again.
    """

    def __init__(self, service: Service, settings: MqttSettings, waits: Waits | None = None) -> None:
        try:
            from edge_runtime.interfaces.mqtt import connection as wire
        except ImportError:
            raise Unavailable('MQTT needs the package aiomqtt: pip install "lvm-edge[mqtt]"') from None
        if settings.tls is not None:
            wire.tls_context(settings.tls)
        self._wire, self._settings, self._waits = wire, settings, waits or Waits()
        self._topics, self._names = Topics(settings.topic_prefix), Names()
        self._follower = Follower(service, settings, self._topics, self._names, self._news)
        self._replies = Line(MAX_REPLIES, MAX_REPLY_BYTES)
        self._questions = Questions(service, settings, self._topics, self._names, self._reply)
        self._commands = Commands(service, self._follower.look_soon)
        self._talk: Talk | None = None
        self._connections = self._ignored = 0
        self._said, self._said_at = "", 0.0
        self._began = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(Daemons(thread_name_prefix="mqtt "))
        self._held = contextlib.ExitStack()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self.connected = threading.Event()
        """Set while the broker has been told that we are here."""

    @property
    def address(self) -> str:
        """The broker, for people."""
        return self._settings.address

    def __enter__(self) -> MqttDoor:
        with contextlib.ExitStack() as held:
            held.enter_context(self._follower.subscribed(self._loop))
            self._thread.start()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the thread has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_S)
        self._held.close()
        if self._thread.is_alive():
            log.warning("MQTT: the goodbye takes too long; the broker will tell others that we are gone")

    def counters(self) -> dict[str, Any]:
        """How it goes, as `PREFIX/stats` tells it; from any thread."""
        return {
            "uptime_s": round(time.monotonic() - self._began, 1),
            "mqtt": {
                "connections": self._connections,
                "events": self._follower.as_json(),
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
        """The library leaves a task of its own where a connection was cut."""
        current = asyncio.current_task()
        await ended(task for task in asyncio.all_tasks() if task is not current)

    async def _main(self) -> None:
        """Follow, answer and stay connected until `_stopping`; a fault in one of them ends all."""
        follow = asyncio.ensure_future(self._follower.run())
        answer = asyncio.ensure_future(self._questions.work())
        connect = asyncio.ensure_future(self._stay_connected(follow))
        try:
            going = {follow, answer, connect}
            while not connect.done():
                done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    if not one.cancelled():
                        one.result()
        finally:
            await ended((follow, answer, connect))

    async def _stay_connected(self, follow: asyncio.Future[None]) -> None:
        backoff = Backoff(self._waits.first, self._waits.most)
        await unless(self._stopping, self._follower.seen.wait())
        while not self._stopping.is_set():
            began, refused = time.monotonic(), False
            try:
                await self._connection(follow)
            except (self._wire.MqttError, LvmError, OSError, ValueError) as error:
                said, refused = self._wire.reason(error, self._settings)
                self._say(said)
            finally:
                self.connected.clear()
                self._talk = None
            if time.monotonic() - began >= STEADY_S:
                backoff.reset()
            await unless(self._stopping, asyncio.sleep(self._waits.refused if refused else backoff.next()))

    async def _connection(self, follow: asyncio.Future[None]) -> None:
        """One, from the first attempt to its end. Raises MqttError, LvmError, OSError or ValueError."""
        will = Message(self._topics.available, OFFLINE, retain=True)
        wire = self._wire.Wire(self._settings, will, self._received)
        if not await unless(self._stopping, wire.open()):
            return
        talk = self._talk = Talk(
            wire, self._topics, self._follower.board.states, self._replies, self._follower.events,
            lambda: self._follower.stats(self.counters()), self._settings.stats_interval_s,
        )  # fmt: skip
        try:
            if await unless(self._stopping, first_of(talk.run(self._listen(), self._ready), wire.lost())):
                return
            await ended([follow])  # the last events are in the line then
            self._follower.board.leave()
            await talk.goodbye()
        finally:
            await wire.close(CLOSE_S)

    # -- what the connection says --------------------------------------------------------------------------

    def _listen(self) -> list[str]:
        topics = [self._topics.cameras]
        topics += [self._topics.request] if self._settings.queries else []
        return topics + ([self._topics.pause_filter] if self._settings.commands else [])

    def _ready(self) -> None:
        self._connections += 1
        self.connected.set()
        log.info("MQTT: connected to %s", self._settings.address)
        self._said = ""

    def _received(self, message: Received) -> None:
        """In the event loop, between two of its steps: nothing here may take long or raise."""
        if message.topic == self._topics.cameras:
            if message.retained:
                self._follower.board.found(message.payload)
                self._news()
        elif message.retained:
            # Somebody left it there long ago, and it would come again at each connection.
            self._ignored += 1
        elif message.topic == self._topics.request and self._settings.queries:
            self._questions.put(Question(message.payload, message.response_topic, message.correlation))
        elif self._settings.commands:
            name = self._topics.paused_camera(message.topic)
            self._commands.put(self._names.real(name) if name else None, message.payload)

    def _reply(self, message: Message) -> None:
        self._replies.put(message)
        self._news()

    def _news(self) -> None:
        if self._talk is not None:
            self._talk.news()

    def _say(self, said: str) -> None:
        now = time.monotonic()
        if said != self._said or now - self._said_at >= SAY_AGAIN_S:
            self._said, self._said_at = said, now
            log.warning("%s; it is tried again", said)
