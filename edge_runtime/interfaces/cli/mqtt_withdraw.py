"""`lvm-edge mqtt-withdraw`: take back what brokers that are left retain of this device."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.config.mqtt import MqttSettings, make_broker_settings
from edge_runtime.config.paths import state_root
from edge_runtime.config.schema import Config, load_config
from edge_runtime.interfaces.mqtt.published_topics import FILE, PublishedTopics
from edge_runtime.interfaces.mqtt.withdrawal import Withdrawal
from edge_runtime.system.secrets import register_secret
from edge_runtime.system.text import printable
from engines.errors import LvmError, Unavailable

PASSWORD = "LVM_MQTT_PASSWORD"
"""Environment variable with the password at the broker."""


def mqtt_withdraw(
    broker: Annotated[
        str | None, typer.Argument(help="mqtt://HOST:PORT; default: all that are remembered and not in use")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML configuration that names the state")
    ] = None,
    username: Annotated[
        str | None, typer.Option("--username", help=f"at the broker; its password in {PASSWORD}")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="certificate to verify mqtts://… with")] = None,
) -> None:
    """Take back the retained topics and Home Assistant entries of a broker that is left."""
    settings = Config() if config is None else load_config(config)
    folder = settings.state.directory or state_root()
    if not (folder / FILE).is_file():
        raise LvmError(f"no broker is remembered: there is no {folder / FILE}; name the state with --config")
    with contextlib.closing(PublishedTopics(folder)) as published:
        if not published.writable:
            raise LvmError(f"{folder} is in use by another lvm-edge, or is read only; stop that first")
        left = [at for at in published.brokers if not settings.mqtt.enabled or at != settings.mqtt.address]
        if broker is not None and broker.rstrip("/") not in left:
            known = ", ".join(left) or "none"
            raise LvmError(f"broker must be one that is left, {known}; got {printable(broker[:100])!r}")
        for address in left if broker is None else [broker.rstrip("/")]:
            _take_back(_make_settings(address, settings.mqtt, username, ca), published)
        if not left:
            print("nothing is to be taken back")


def _make_settings(
    address: str, configured: MqttSettings, username: str | None, ca: Path | None
) -> MqttSettings:
    if username is None and ca is None and address == configured.address:
        return configured  # switched off, but still with its user and certificates
    password = os.environ.get(PASSWORD) if username else None
    register_secret(password or "")
    return make_broker_settings(address, username=username, password=password, ca=ca)


def _take_back(settings: MqttSettings, published: PublishedTopics) -> None:
    """Print what was taken back. Raises LvmError where nothing could be, Unavailable without aiomqtt."""
    try:
        withdrawal = Withdrawal(settings, published)
    except ImportError:
        raise Unavailable('MQTT needs the package aiomqtt: pip install "lvm-edge[mqtt]"') from None
    for prefix, count in withdrawal.take_back().items():
        if count is None:
            raise LvmError(
                f"{settings.address}: nothing can be read at {prefix}/cameras; it is gone already, or this "
                f"user may not read it: name one with --username and {PASSWORD}"
            )
        taken = f"{count} topics were taken back" if count else "another device uses it now, it is left alone"
        print(f"{settings.address}: {prefix}/…: {taken}")
