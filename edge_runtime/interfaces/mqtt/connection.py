"""The connection itself: the one room that imports aiomqtt and paho, and only when MQTT is switched on.

MQTT 5, since only there a broker can be told how long a message we take (`MaximumPacketSize`): nothing larger
is ever sent to us, let alone read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_runtime.config.mqtt import BrokerTls, MqttSettings
from edge_runtime.interfaces.mqtt.outbox import Message
from edge_runtime.system.secrets import mask_secrets
from edge_runtime.system.text import printable
from engines.errors import LvmError

MqttError = aiomqtt.MqttError
ANSWER_SECONDS = 10.0
"""A broker that takes longer to confirm something is gone."""
KEEPALIVE_S = 20
"""Of silence, after which the broker is asked whether it is there."""
_ROOM_FOR_HEADERS = 4096

_REFUSALS = {
    "Not authorized": "check mqtt.username and mqtt.password",
    "Bad user name or password": "check mqtt.username and mqtt.password",
    "Client identifier not valid": "choose another mqtt.client_id",
    "Unsupported protocol version": "it must speak MQTT 5",
    "Banned": "ask whoever runs it",
}

# What goes wrong we say ourselves, in a sentence; the library's own lines would say it a second time.
log = logging.getLogger(__name__)
_quiet = logging.getLogger(f"{__name__}.library")
_quiet.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Received:
    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None
    correlation: bytes | None


class _Handed(asyncio.Queue[aiomqtt.Message]):
    """The library's queue of incoming messages that keeps none: each is handed over at once, so that however
    fast they come, what waits is bounded where it is understood."""

    def __init__(self, take: Callable[[Received], None]) -> None:
        super().__init__()
        self._take = take

    def put_nowait(self, item: aiomqtt.Message) -> None:
        properties = item.properties
        self._take(
            Received(
                str(item.topic),
                item.payload,
                item.retain,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )


class _Client(aiomqtt.Client):
    """The library's client; it keeps a socket open where an attempt or a goodbye got no answer."""

    async def drop(self) -> None:
        """Let it find its connection closed, which makes it tidy up."""
        for _ in range(10):
            connection = self._client.socket()
            if connection is None:
                return
            with contextlib.suppress(OSError):
                cast(socket.socket, connection).shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0.005)


class Wire:
    """One connection. `take` gets every message that comes, in the event loop; it must not raise.

    `will` is what the broker says when we are gone without a word.
    """

    def __init__(self, settings: MqttSettings, will: Message, take: Callable[[Received], None]) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = round(settings.max_query_mb * 1e6) + _ROOM_FOR_HEADERS
        self._client = _Client(
            settings.host,
            settings.port_used,
            username=settings.username,
            password=settings.password.get_secret_value() if settings.password is not None else None,
            identifier=settings.name,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain),
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_SECONDS,
            properties=properties,
            tls_context=None if settings.tls is None else tls_context(settings.tls),
            logger=_quiet,
            queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", lambda maxsize: _Handed(take)),
        )

    async def open(self) -> None:
        """Connect. Raises MqttError, OSError or ValueError."""
        try:
            await self._client.__aenter__()
        except BaseException:
            await self._client.drop()
            raise

    async def close(self, within_s: float) -> None:
        """Say goodbye, if there is still somebody, and leave nothing behind."""
        self._client.timeout = within_s
        try:
            await self._client.__aexit__(None, None, None)
        except aiomqtt.MqttError as error:
            log.debug("MQTT: no goodbye: %s", error)
        finally:
            await self._client.drop()

    async def lost(self) -> None:
        """Raises MqttError when the connection is lost; returns where it was closed."""
        try:
            async for _ in self._client.messages:
                raise AssertionError("messages are handed over, not queued")
        except aiomqtt.MqttError:
            raise aiomqtt.MqttError("the connection was lost") from None

    async def listen(self, *topics: str) -> None:
        """Raises MqttError, also where the broker refuses."""
        if not topics:
            return
        granted = await self._client.subscribe([(topic, 1) for topic in topics])
        for topic, code in zip(topics, granted, strict=False):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise aiomqtt.MqttError(f"it does not let this client read {topic}: {code}")

    async def tell(self, message: Message, qos: int = 1) -> None:
        """Returns when the broker has confirmed it (`qos` 1) or it is on its way (0). Raises MqttError."""
        properties = None
        if message.correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        await self._client.publish(message.topic, message.payload, qos, message.retain, properties)


def tls_context(tls: BrokerTls) -> ssl.SSLContext:
    """Raises LvmError where a file of it cannot be used."""
    for name, file in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if file is not None and not file.is_file():
            raise LvmError(f"mqtt.tls.{name}: there is no file {file}")
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (ssl.SSLError, OSError) as error:
        raise LvmError(f"mqtt.tls.ca: {tls.ca} holds no certificates that can be read ({error})") from None
    if tls.cert is not None:
        try:
            # A key with a passphrase would otherwise ask for it on the terminal.
            context.load_cert_chain(tls.cert, tls.key, password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            raise LvmError(
                f"mqtt.tls.cert: {tls.cert} and its key cannot be used together, expected a certificate and "
                f"its unencrypted key in PEM ({error})"
            ) from None
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def reason(error: BaseException, settings: MqttSettings) -> tuple[str, bool]:
    """One sentence why there is no connection, and whether that will hardly change by itself."""
    cause = error.__context__ if isinstance(error, aiomqtt.MqttError) else error
    refused = isinstance(error, LvmError)
    code = str(error.rc) if isinstance(error, aiomqtt.MqttCodeError) else ""
    if code in _REFUSALS:
        said, refused = f"it refuses this client ({code}); {_REFUSALS[code]}", True
    elif isinstance(cause, ssl.SSLCertVerificationError):
        said, refused = f"its certificate is not trusted ({cause.verify_message}); check mqtt.tls.ca", True
    elif isinstance(cause, ssl.SSLError):
        said, refused = f"no TLS connection ({cause.reason or cause}); check mqtt.tls and mqtt.port", True
    elif isinstance(cause, OSError) and cause.strerror:
        said = cause.strerror
    elif isinstance(error, aiomqtt.MqttError) and "timed out" in str(error):
        said = "it does not answer; check mqtt.port and mqtt.tls, and that it speaks MQTT 5"
    else:
        said = str(error) or type(error).__name__
    return printable(mask_secrets(f"MQTT broker {settings.address}: {said}"))[:400], refused
