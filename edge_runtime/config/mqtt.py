"""The `mqtt:` section of a configuration. It connects nowhere unless a person switches it on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from edge_runtime.system.validation import StrictModel

MAX_TOPIC = 100
"""Bytes of a prefix: a topic may have 65,535, and ours add two names to it."""


def _topic_prefix(text: str) -> str:
    levels = text.split("/")
    plain = text.isprintable() and not set("+#") & set(text) and not text.startswith("$")
    if not plain or not all(levels) or not 0 < len(text.encode()) <= MAX_TOPIC:
        raise ValueError("a topic prefix is one or more names with / between them, without +, # and $")
    return text


TopicPrefix = Annotated[str, AfterValidator(_topic_prefix)]


class BrokerTls(StrictModel):
    """`ca` checks the broker (without it the system's own authorities do); `cert` and `key` prove this device
    to it. `insecure` encrypts and does not check who the broker is."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _pair(self) -> BrokerTls:
        if self.key is not None and self.cert is None:
            raise ValueError("key needs cert, the certificate that it belongs to")
        return self


class DiscoverySettings(StrictModel):
    """Home Assistant finds the cameras by itself below `prefix`."""

    enabled: bool = False
    prefix: TopicPrefix = "homeassistant"


class MqttSettings(StrictModel):
    """`queries` and `commands` say whether others may ask, and pause cameras; `answers` whether what was
    asked through any door is told to all who read `lvm/events`. `response_topics` are where an MQTT 5 asker
    may have its answers beside `lvm/query/response/`."""

    enabled: bool = False
    host: str = Field(default="localhost", min_length=1, max_length=255)
    port: int | None = Field(
        default=None, ge=1, le=65535, description="1883, with tls 8883 unless said otherwise"
    )
    username: str | None = Field(default=None, max_length=200)
    password: SecretStr | None = Field(default=None, description="best as ${NAME} of the environment")
    tls: BrokerTls | None = None
    topic_prefix: TopicPrefix = Field(default="lvm", description="of this device alone, not of several")
    client_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    stats_interval_s: float = Field(default=60.0, ge=1, le=86_400)
    queries: bool = True
    commands: bool = True
    answers: bool = False
    response_topics: tuple[TopicPrefix, ...] = Field(default=(), max_length=16)
    max_query_mb: float = Field(
        default=8.0, ge=0.01, le=64, description="the broker sends us nothing that is longer"
    )
    buffer_events: int = Field(
        default=1000, ge=1, le=100_000, description="kept while the broker is away; the oldest go"
    )
    buffer_mb: float = Field(default=4.0, ge=0.1, le=256, description="the same in MB")
    discovery: DiscoverySettings = DiscoverySettings()

    @model_validator(mode="after")
    def _user(self) -> MqttSettings:
        if self.password is not None and self.username is None:
            raise ValueError("password needs username, whose password it is")
        return self

    @property
    def name(self) -> str:
        """What the broker knows this client by; two with one name throw each other out."""
        return self.client_id or f"lvm-edge-{socket.gethostname()}"[:64]

    @property
    def address(self) -> str:
        """The broker, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port_used}"

    @property
    def port_used(self) -> int:
        return self.port or (8883 if self.tls else 1883)
