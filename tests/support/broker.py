"""A real mosquitto on loopback for the tests, and a subscriber that records its messages."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


def need_mosquitto() -> None:
    pytest.importorskip("aiomqtt", reason="aiomqtt is not installed")
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")


def wait_until(condition, what: str, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what() if callable(what) else what} did not come in {seconds:g} s"
        time.sleep(0.01)
    return value


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Broker:
    """mosquitto at a port that stays the same over restarts; it stores nothing over them."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        wanted = [
            f"listener {self.port} 127.0.0.1",
            "persistence false",
            "max_queued_messages 0",
            "user root",
            *lines,
        ]
        if not any(line.startswith(("allow_anonymous", "password_file")) for line in lines):
            wanted.append("allow_anonymous true")
        self._file.write_text("\n".join(wanted) + "\n")
        self._process: subprocess.Popen | None = None

    def start(self) -> Broker:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._file], stdout=out, stderr=out)

        def listens() -> bool:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(listens, "the broker")
        return self

    def stop(self) -> None:
        """Stop it as `systemctl stop` does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the end of its log, for the message of a test that fails."""
        return self._log.read_text(errors="replace")[-1500:]

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
                self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


class Subscriber:
    """Subscribes to every topic; `messages` are (topic, payload, retained), in order. It can publish, too."""

    def __init__(self, port: int, **more) -> None:
        import paho.mqtt.client as paho

        self.messages: list[tuple[str, bytes, bool]] = []
        self.properties: dict[str, object] = {}
        self._subscribed = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.max_queued_messages_set(0)
        if "username" in more:
            self._client.username_pw_set(more["username"], more["password"])
        if "ca" in more:
            self._client.tls_set(str(more["ca"]))
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._add_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _add_message(self, client, userdata, message) -> None:
        self.properties[message.topic] = message.properties
        self.messages.append((message.topic, message.payload, bool(message.retain)))

    def publish(
        self, topic: str, payload: bytes, qos: int = 1, retain: bool = False, properties=None
    ) -> None:
        self._client.publish(topic, payload, qos, retain, properties).wait_for_publish(20)

    def publish_later(self, topic: str, payload: bytes, qos: int = 1) -> None:
        self._client.publish(topic, payload, qos)

    def all(self, topic: str) -> list[bytes]:
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def last(self, topic: str) -> bytes | None:
        return next(iter(reversed(self.all(topic))), None)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        # The thread may end, and forget itself, between paho's look at it and its waiting for it.
        with contextlib.suppress(AttributeError):
            self._client.loop_stop()


def read_retained(port: int, **more) -> dict[str, bytes]:
    """Return the retained messages by topic, as a new subscriber gets them."""
    with Subscriber(port, **more) as subscriber:
        # Retained messages come before the echo of what is published after subscribing.
        subscriber.publish("end/of/retained", b"x")
        wait_until(lambda: subscriber.last("end/of/retained"), "the echo")
        return {topic: payload for topic, payload, retained in subscriber.messages if retained}


def make_certificates(folder: Path) -> None:
    """Make ca.pem, server.pem, server.key, client.pem, client.key and other.pem of an unknown issuer."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.timezone.utc)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def made(name: str, signer=None, *, ca: bool = False):
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, signing = signer or (named(name), key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
            )
        )
        if ca:
            usage = dict.fromkeys(
                ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                 "key_agreement", "encipher_only", "decipher_only"), False)  # fmt: skip
            builder = builder.add_extension(
                x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True
            )
        else:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(signing, hashes.SHA256()), key

    def write(name: str, certificate, key) -> None:
        pem = serialization.Encoding.PEM
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / f"{name}.key").write_bytes(key.private_bytes(pem, *plain))

    authority, signing = made("test authority", ca=True)
    write("ca", authority, signing)
    for name in ("server", "client"):
        write(name, *made(name, (authority.subject, signing)))
    write("other", *made("somebody else", ca=True))
