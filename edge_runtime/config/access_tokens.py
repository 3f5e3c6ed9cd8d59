"""Make access tokens, and look up the role of a token. Imports no server, so the command line can use it.

A token is 32 random bytes. A configuration may hold its SHA-256: no one can guess the token from it, and a
slow hash would only let strangers use up CPU time. Tokens that people make up are weaker; avoid them.
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
"""Each role may also do what the roles before it may do."""
MIN_TOKEN_CHARACTERS = 16
"""For a token that is written out in a configuration."""
MAX_TOKEN_CHARACTERS = 200
HASH_PREFIX = "sha256:"


def new_token() -> str:
    return "lvm_" + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    return HASH_PREFIX + hashlib.sha256(token.encode()).hexdigest()


def role_allows(role: Role, needed: Role) -> bool:
    """Whether `role` may do what `needed` may do."""
    return ROLES.index(role) >= ROLES.index(needed)


@dataclass(frozen=True)
class Holder:
    """The owner of a token."""

    name: str
    role: Role


class AccessTokens:
    """The holders of the configured tokens, by the hash of their token."""

    def __init__(self, holders: Iterable[tuple[str, Holder]]) -> None:
        self._holders = tuple(holders)

    def __bool__(self) -> bool:
        return bool(self._holders)

    def find_holder(self, token: str) -> Holder | None:
        """Return the holder of a token, or None. Takes the same time for every token, known or unknown."""
        token_hash = hash_token(token[:MAX_TOKEN_CHARACTERS])
        match: Holder | None = None
        for known_hash, holder in self._holders:
            if hmac.compare_digest(known_hash, token_hash):
                match = holder
        return match
