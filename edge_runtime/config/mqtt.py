"""The `mqtt:` section of the configuration. Nothing is connected unless `enabled` is true."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator

from edge_runtime.system.secrets import register_label, register_secret
from edge_runtime.system.validation import StrictModel, require_text
from engines.errors import LvmError

MAX_TOPIC = 100
"""Bytes of a topic prefix. A whole topic may have 65,535; ours add two names to the prefix."""


def _check_topic_prefix(text: str) -> str:
    levels = text.split("/")
    plain = text.isprintable() and not set("+#") & set(text) and not text.startswith("$")
    if not plain or not all(levels) or not 0 < len(text.encode()) <= MAX_TOPIC:
        raise ValueError("a topic prefix is one or more names with / between them, without +, # and $")
    return text


def _check_host(text: str) -> str:
    # Not repeated: it may be an address with its password.
    if set("@/ ") & set(text):
        raise ValueError(
            "host is a name or an IP address only: got something else; set port, username, "
            "password and tls beside it"
        )
    return text


TopicPrefix = Annotated[str, AfterValidator(_check_topic_prefix)]


class BrokerTls(StrictModel):
    """`ca` verifies the broker (without it, the system's certificate authorities do). `cert` and `key`
    authenticate this device. `insecure` encrypts, but does not verify the broker."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _check_pair(self) -> BrokerTls:
        if self.key is not None and self.cert is None:
            raise ValueError("key needs cert, the certificate that it belongs to")
        return self


class DiscoverySettings(StrictModel):
    """Home Assistant discovers the cameras by the topics under `prefix`."""

    enabled: bool = False
    prefix: TopicPrefix = "homeassistant"


class MqttSettings(StrictModel):
    """`queries` lets clients ask questions, `commands` lets them pause cameras. `answers` publishes the
    questions of all interfaces and their answers on `lvm/events`. `response_topics` are the prefixes, besides
    `lvm/query/response/`, that an MQTT 5 client may name as its response topic."""

    enabled: bool = False
    host: Annotated[str, AfterValidator(_check_host)] = Field(
        default="localhost", min_length=1, max_length=255
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="default: 1883, with tls 8883")
    username: str | None = Field(default=None, max_length=200)
    password: Annotated[SecretStr, BeforeValidator(require_text)] | None = Field(
        default=None, description="best as ${NAME}, from the environment"
    )
    tls: BrokerTls | None = None
    topic_prefix: TopicPrefix = Field(default="lvm", description="each device needs its own")
    client_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    stats_interval_s: float = Field(default=60.0, ge=1, le=86_400)
    queries: bool = True
    commands: bool = True
    answers: bool = False
    response_topics: tuple[TopicPrefix, ...] = Field(default=(), max_length=16)
    max_query_mb: float = Field(
        default=8.0, ge=0.01, le=64, description="the broker does not deliver longer messages"
    )
    buffer_events: int = Field(
        default=1000, ge=1, le=100_000, description="kept while the broker is away; the oldest are dropped"
    )
    buffer_mb: float = Field(default=4.0, ge=0.1, le=256, description="the same limit in MB")
    discovery: DiscoverySettings = DiscoverySettings()

    @model_validator(mode="after")
    def _check_username(self) -> MqttSettings:
        if self.password is not None and self.username is None:
            raise ValueError("password needs username")
        return self

    @model_validator(mode="after")
    def _register_secrets(self) -> MqttSettings:
        if self.password is not None:
            register_secret(self.password.get_secret_value())
        # Some brokers take a token as the name of the user, some services have secret names of hosts.
        for name in (self.username or "", self.host):
            register_label(name)
        return self

    @property
    def name(self) -> str:
        """Client id at the broker, which disconnects the older of two clients with one id."""
        return self.client_id or f"lvm-edge-{socket.gethostname()}"[:64]

    @property
    def address(self) -> str:
        """Address of the broker, to show to people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port_used}"

    @property
    def port_used(self) -> int:
        return self.port or (8883 if self.tls else 1883)


def make_broker_settings(
    address: str, *, username: str | None = None, password: str | None = None, ca: Path | None = None
) -> MqttSettings:
    """Return settings for a broker that only its `MqttSettings.address` is known of.

    Raises LvmError where it is none.
    """
    match = re.fullmatch(r"(mqtts?)://\[?([^@/\s]+?)\]?:(\d{1,5})", address)
    fields: dict[str, object] = {"username": username, "password": password, "port": match and int(match[3])}
    fields |= {"host": match and match[2], "tls": {"ca": ca} if match and match[1] == "mqtts" else None}
    try:
        return MqttSettings.model_validate(fields)
    except ValidationError:
        raise LvmError("expected a broker as mqtt://HOST:PORT, and a user with a password") from None
