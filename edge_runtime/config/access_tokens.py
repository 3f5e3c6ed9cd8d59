"""Tokens and roles: who may do what. Needs no server, so that the command line can make tokens.

A token is 32 random bytes, so its SHA-256 can stand in a configuration: nobody finds a token from it, and a
slow hash would only let strangers cost time. A token that a person thought of is best not used.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""Each may do what those before it may."""
LEAST_CHARACTERS = 16
"""Of a token that is written out in a configuration."""
MOST_CHARACTERS = 200
HASH = "sha256:"


def new_token() -> str:
    return "lvm_" + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    return HASH + hashlib.sha256(token.encode()).hexdigest()


def may(role: Role, needed: Role) -> bool:
    return ROLES.index(role) >= ROLES.index(needed)


@dataclass(frozen=True)
class Holder:
    """Whom a token belongs to."""

    name: str
    role: Role


class Tokens:
    """Holders by the hashes of their tokens."""

    def __init__(self, holders: Iterable[tuple[str, Holder]]) -> None:
        self._holders = tuple(holders)

    def __bool__(self) -> bool:
        return bool(self._holders)

    def holder(self, token: str) -> Holder | None:
        """Whom it belongs to. Takes the same time whichever it is, and for one that is nobody's."""
        presented = hash_of(token[:MOST_CHARACTERS])
        found: Holder | None = None
        for known, holder in self._holders:
            if hmac.compare_digest(known, presented):
                found = holder
        return found
