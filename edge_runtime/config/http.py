"""What a person may say about the HTTP door in the YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from edge_runtime.config.access_tokens import (
    HASH,
    LEAST_CHARACTERS,
    MOST_CHARACTERS,
    Holder,
    Role,
    Tokens,
    hash_of,
)
from edge_runtime.system.secrets import keep_secret
from edge_runtime.system.validation import StrictModel

MAX_TOKENS = 64


def _text(value: Any) -> Any:
    # The usual error would show what was written, which may be most of the secret.
    if not isinstance(value, (str, SecretStr)):
        raise ValueError("a token must be text; got something else, put it in quotes")
    return value


class TokenSettings(StrictModel):
    """One who may come in. `token_hash` is what `lvm-edge token new` prints beside the token."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]{0,63}$", description="for the log and for limits")
    role: Role = "viewer"
    token: Annotated[SecretStr, BeforeValidator(_text)] | None = Field(
        default=None, description="the token itself, best as ${NAME} of the environment"
    )
    token_hash: str | None = Field(default=None, pattern=rf"^{HASH}[0-9a-f]{{64}}$")

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenSettings:
        if (self.token is None) == (self.token_hash is None):
            raise ValueError("name token_hash (see lvm-edge token new) or token, one of both")
        if self.token is not None:
            value = self.token.get_secret_value()
            if not LEAST_CHARACTERS <= len(value) <= MOST_CHARACTERS:
                raise ValueError(
                    f"a token has {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters, got {len(value)}; "
                    "lvm-edge token new makes one"
                )
            keep_secret(value)
        return self

    @property
    def hash(self) -> str:
        if self.token_hash is not None:
            return self.token_hash
        assert self.token is not None
        return hash_of(self.token.get_secret_value())


class TlsSettings(StrictModel):
    cert: Path = Field(description="certificate with its chain, PEM")
    key: Path = Field(description="its private key, PEM")


class HttpSettings(StrictModel):
    """Without `tokens` it listens on loopback only, and whoever is on this machine may do everything."""

    enabled: bool = True
    listen: str = "127.0.0.1:8971"
    tokens: tuple[TokenSettings, ...] = Field(default=(), max_length=MAX_TOKENS)
    tls: TlsSettings | None = None
    hosts: tuple[str, ...] = Field(
        default=(), max_length=64, description="names under which clients may reach it, beside addresses"
    )
    queries_per_s: float | None = Field(
        default=20.0, gt=0, le=1e6, description="of one token; null: as many as it can"
    )
    failed_logins_per_minute: int = Field(default=10, ge=1, le=1000, description="of one address")
    allow_sources: tuple[str, ...] = Field(
        default=(),
        max_length=256,
        description="patterns (* and ?) of sources that PUT /api/v1/config may name; empty: none that is new",
    )

    @model_validator(mode="after")
    def _names_once(self) -> HttpSettings:
        names = [one.name for one in self.tokens]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"each token has a name of its own, {min(twice)!r} has two")
        return self

    def holders(self) -> Tokens:
        return Tokens((one.hash, Holder(one.name, one.role)) for one in self.tokens)
