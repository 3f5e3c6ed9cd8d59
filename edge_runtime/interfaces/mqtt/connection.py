"""One connection to a broker: the only module that imports aiomqtt and paho, when MQTT is switched on.

MQTT 5, since only there a client can limit the size of messages (`MaximumPacketSize`): the broker sends
nothing larger.
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
CONFIRM_S = 10.0
"""A broker that takes longer to confirm a message counts as gone."""
KEEPALIVE_S = 20
"""After so much silence the broker is asked whether it is alive."""
_ROOM_FOR_HEADERS = 4096

_REFUSALS = {
    "Not authorized": "check mqtt.username and mqtt.password",
    "Bad user name or password": "check mqtt.username and mqtt.password",
    "Client identifier not valid": "choose another mqtt.client_id",
    "Unsupported protocol version": "it must speak MQTT 5",
    "Banned": "ask whoever runs it",
}

# Errors are logged here in one sentence; the library would log them a second time.
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


class _HandOver(asyncio.Queue[aiomqtt.Message]):
    """The library's queue of incoming messages, which hands each over at once.

    However fast messages come, the receiver bounds how many wait.
    """

    def __init__(self, on_message: Callable[[Received], None]) -> None:
        super().__init__()
        self._on_message = on_message

    def put_nowait(self, item: aiomqtt.Message) -> None:
        properties = item.properties
        self._on_message(
            Received(
                str(item.topic),
                item.payload,
                item.retain,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )


class _Client(aiomqtt.Client):
    """The library's client, which would leave a socket open after an unanswered connect or disconnect."""

    async def drop(self) -> None:
        """Shut the socket, so that the library cleans up."""
        for _ in range(10):
            connection = self._client.socket()
            if connection is None:
                return
            with contextlib.suppress(OSError):
                cast(socket.socket, connection).shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0.005)


class Connection:
    """One connection. `on_message` gets every incoming message in the event loop; it must not raise.

    `will` is what the broker publishes where we disappear without a disconnect, if anything.
    """

    def __init__(
        self, settings: MqttSettings, will: Message | None, on_message: Callable[[Received], None]
    ) -> None:
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
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain),
            keepalive=KEEPALIVE_S,
            timeout=CONFIRM_S,
            properties=properties,
            tls_context=None if settings.tls is None else tls_context(settings.tls),
            logger=_quiet,
            queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", lambda maxsize: _HandOver(on_message)),
        )

    async def open(self) -> None:
        """Connect. Raises MqttError, OSError or ValueError."""
        try:
            await self._client.__aenter__()
        except BaseException:
            await self._client.drop()
            raise

    async def close(self, within_s: float) -> None:
        """Disconnect where the broker still answers, and close the socket."""
        self._client.timeout = within_s
        try:
            await self._client.__aexit__(None, None, None)
        except aiomqtt.MqttError as error:
            log.debug("MQTT: no goodbye: %s", error)
        finally:
            await self._client.drop()

    async def lost(self) -> None:
        """Wait until the connection is closed. Raises MqttError where it is lost."""
        try:
            async for _ in self._client.messages:
                raise AssertionError("messages are handed over, not queued")
        except aiomqtt.MqttError:
            raise aiomqtt.MqttError("the connection was lost") from None

    async def listen(self, *topics: str) -> None:
        """Subscribe to topics. Raises MqttError, also where the broker refuses."""
        for refusal in await self.try_to_listen(*topics):
            raise aiomqtt.MqttError(refusal)

    async def try_to_listen(self, *topics: str) -> list[str]:
        """Subscribe to topics. Returns a sentence for each that the broker refuses. Raises MqttError."""
        if not topics:
            return []
        granted = await self._client.subscribe([(topic, 1) for topic in topics])
        return [
            f"it does not let this client read {topic}: {code}"
            for topic, code in zip(topics, granted, strict=False)
            if isinstance(code, ReasonCode) and code.is_failure
        ]

    async def send(self, message: Message, qos: int = 1) -> None:
        """Publish, and wait for the confirmation (`qos` 1) or for sending (0). Raises MqttError."""
        properties = None
        if message.correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        await self._client.publish(message.topic, message.payload, qos, message.retain, properties)


def tls_context(tls: BrokerTls) -> ssl.SSLContext:
    """Make the TLS context. Raises LvmError where a file cannot be used."""
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


def explain(error: BaseException, settings: MqttSettings) -> tuple[str, bool]:
    """Return in one sentence why there is no connection, and whether that rarely goes away by itself."""
    cause = error.__context__ if isinstance(error, aiomqtt.MqttError) else error
    refused = isinstance(error, LvmError)
    code = str(error.rc) if isinstance(error, aiomqtt.MqttCodeError) else ""
    if code in _REFUSALS:
        sentence, refused = f"it refuses this client ({code}); {_REFUSALS[code]}", True
    elif isinstance(cause, ssl.SSLCertVerificationError):
        sentence, refused = (
            f"its certificate is not trusted ({cause.verify_message}); check mqtt.tls.ca",
            True,
        )
    elif isinstance(cause, ssl.SSLError):
        sentence, refused = f"no TLS connection ({cause.reason or cause}); check mqtt.tls and mqtt.port", True
    elif isinstance(cause, OSError) and cause.strerror:
        sentence = cause.strerror
    elif isinstance(error, aiomqtt.MqttError) and "timed out" in str(error):
        sentence = "it does not answer; check mqtt.port and mqtt.tls, and that it speaks MQTT 5"
    else:
        sentence = str(error) or type(error).__name__
    return printable(mask_secrets(f"MQTT broker {settings.address}: {sentence}"))[:400], refused
