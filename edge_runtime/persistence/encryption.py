"""Encryption of files on disk, with AES-256-GCM of the package `cryptography`.

    sealed file   magic (8) | key id (8) | length of the owner (2) | owner | nonce (12) | ciphertext and tag

Everything before the nonce, and the file's role, are authenticated too. So a file that was changed, that has
another role than the one it was written for, or that belongs to another owner (a snapshot, a row) is refused.
An old state that was put back as a whole is not detected: for that a device needs storage that its thief
cannot write.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.persistence.errors import StateError
from engines.errors import LvmError, Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"LVMSEAL1"
KEY_BYTES = 32
NONCE_BYTES = 12
"""Drawn anew for each write: 2**32 writes with one key keep the chance of a repeated nonce below 2**-32."""
PREFIX = "lvm-edge-key-1:"
ENVIRONMENT = "LVM_EDGE_KEY"
ENVIRONMENT_FILE = "LVM_EDGE_KEY_FILE"
_MAX_KEY_FILE_BYTES = 4096
_TEXT = "expected one line made by `lvm-edge key new FILE`"
SNAPSHOT, JOURNAL = "snapshot", "journal"
"""Roles of a part: one cannot be passed off as the other."""


class SealError(LvmError):
    """A sealed file cannot be opened. It stays as it is."""


class WrongKey(SealError):
    """Sealed with another key than the given one, or no key was given."""


class Key:
    """A key that seals and opens. Raises Unavailable where the package `cryptography` is not installed."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise LvmError(f"a key has {KEY_BYTES} bytes, got {len(secret)}; {_TEXT}")
        self._cipher = _cipher(secret)
        self.id = hashlib.sha256(b"lvm-edge key id\0" + secret).digest()[:8]
        """Identifies the key in every file, and reveals nothing of it."""

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"

    def seal(self, data: bytes, *, role: str, owner: str = "") -> bytes:
        """Return `data` encrypted for a file of this `role` and `owner` (a snapshot's id), with a fresh
        nonce."""
        name = owner.encode()
        head = MAGIC + self.id + len(name).to_bytes(2, "little") + name
        nonce = secrets.token_bytes(NONCE_BYTES)
        return head + nonce + self._cipher.encrypt(nonce, data, head + role.encode())

    def open(self, sealed: bytes, *, role: str, owner: str | None = None) -> bytes:
        """Return the data that was sealed in this `role`, and for `owner` where that is given.

        Raises SealError for another key, role or owner, and for changed bytes.
        """
        key_id, sealed_owner, start = _parse(sealed)
        if key_id != self.id:
            raise WrongKey(f"sealed with key {key_id.hex()}, but the key given is {self.id.hex()}")
        if owner is not None and sealed_owner != owner:
            raise SealError(f"sealed for {sealed_owner or 'nothing'}, not for {owner}")
        from cryptography.exceptions import InvalidTag

        nonce = sealed[start : start + NONCE_BYTES]
        try:
            return self._cipher.decrypt(nonce, sealed[start + NONCE_BYTES :], sealed[:start] + role.encode())
        except (InvalidTag, ValueError):
            raise SealError(f"damaged, changed or not the {role} that it is taken for") from None


def is_sealed(data: bytes) -> bool:
    """Return whether `data` begins like a sealed file."""
    return data[: len(MAGIC)] == MAGIC


def open_sealed(data: bytes, key: Key | None, *, role: str, owner: str | None = None) -> bytes:
    """Return `data`, decrypted where it is sealed. Raises SealError."""
    if not is_sealed(data):
        return data
    if key is None:
        raise WrongKey(
            f"sealed with key {_parse(data)[0].hex()}; name its file with --key or in {ENVIRONMENT_FILE}"
        )
    return key.open(data, role=role, owner=owner)


def find_key(file: Path | None = None) -> Key | None:
    """Return the key of `file`, else of the environment (LVM_EDGE_KEY_FILE, LVM_EDGE_KEY), else None.

    Raises LvmError where a named key cannot be used; no message ever repeats any part of a key.
    """
    if file is None and os.environ.get(ENVIRONMENT_FILE):
        file = Path(os.environ[ENVIRONMENT_FILE])
    if file is not None:
        return Key(_secret(_key_text(file), str(file)))
    text = os.environ.get(ENVIRONMENT)
    return Key(_secret(text, ENVIRONMENT)) if text else None


def new_key_text() -> str:
    """Return a new random key, as the line of its file."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n"


def _parse(sealed: bytes) -> tuple[bytes, str, int]:
    """Return key id, owner and the offset of the nonce."""
    start = len(MAGIC) + 10 + int.from_bytes(sealed[len(MAGIC) + 8 : len(MAGIC) + 10], "little")
    if not is_sealed(sealed) or len(sealed) < start + NONCE_BYTES + 16:
        raise SealError("sealed and cut short")
    try:
        owner = sealed[len(MAGIC) + 10 : start].decode()
    except UnicodeDecodeError:
        raise SealError("sealed and damaged") from None
    return sealed[len(MAGIC) : len(MAGIC) + 8], owner, start


def _cipher(secret: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise Unavailable(
            'encryption needs the package cryptography: pip install "lvm-edge[encryption]"'
        ) from None
    return AESGCM(secret)


def _key_text(file: Path) -> str:
    try:
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as opened_file:
            status = os.fstat(opened_file.fileno())  # of the opened file: the name may lead elsewhere by now
            if not stat.S_ISREG(status.st_mode):
                raise LvmError(f"key {file} is no file; {_TEXT}")
            _check_private(file, status)
            data = opened_file.read(_MAX_KEY_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise LvmError(f"key {file} cannot be read: {getattr(error, 'strerror', error)}") from None
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise LvmError(f"key {file} holds no key; {_TEXT}") from None


def _check_private(file: Path, status: os.stat_result) -> None:
    # systemd passes credentials in a folder that only the unit may enter.
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and file.resolve().parent == Path(credentials).resolve():
        return
    if status.st_mode & 0o077:
        raise LvmError(
            f"key {file} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run: chmod 600 {file}"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise LvmError(f"key {file} belongs to another user ({status.st_uid}); use one of your own")


def _secret(text: str, where: str) -> bytes:
    line = text.strip()
    try:
        secret = base64.b64decode(line.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise LvmError(f"{where} holds no key; {_TEXT}") from None
    if not line.startswith(PREFIX) or len(secret) != KEY_BYTES:
        raise LvmError(f"{where} holds no key; {_TEXT}")
    return secret


class Seal:
    """Every byte that a state writes passes `seal`, every byte that it reads passes `open`.

    A part is a whole snapshot or one record of a journal; `owner` says which one. Checksums lie outside,
    around sealed bytes, so that damage is told from a wrong key. With a key, parts from before there was one
    are read too; without one, a sealed part is refused.
    """

    def __init__(self, key: Key | None = None) -> None:
        self._key = key
        self.read_unsealed = False
        """Whether a part was read that lies on the disk in the clear although there is a key."""

    def seal(self, data: bytes, *, role: str, owner: str = "") -> bytes:
        """Return the bytes for the disk."""
        return data if self._key is None else self._key.seal(data, role=role, owner=owner)

    def open(self, data: bytes, *, role: str, owner: str = "") -> bytes:
        """Return the data. Raises StateError, never Damaged, where the key does not fit."""
        self.read_unsealed |= self._key is not None and not is_sealed(data)
        try:
            return open_sealed(data, self._key, role=role, owner=owner)
        except SealError as error:
            raise StateError(f"it is {error}") from None
