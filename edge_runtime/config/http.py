"""The `http:` section of the configuration."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

from edge_runtime.config.access_tokens import (
    HASH_PREFIX,
    MAX_TOKEN_CHARACTERS,
    MIN_TOKEN_CHARACTERS,
    AccessTokens,
    Holder,
    Role,
    hash_token,
)
from edge_runtime.system.secrets import (
    mask_secrets,
    register_secret,
    register_source,
    show_setting,
    show_source,
)
from edge_runtime.system.validation import StrictModel, require_text

MAX_TOKENS = 64
ROOT_PATH = r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+){1,8}"
"""A sub-path: plain parts, so that it may stand in a page, a cookie and a redirect."""
FRAME_ORIGIN = r"https?://(?:\*\.)?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d{1,5})?/?"


def _check_root_path(text: str) -> str:
    path = text.rstrip("/")
    if path and not re.fullmatch(ROOT_PATH, path):
        raise ValueError(
            "root_path is a path like /kiosk, of letters, digits and . _ ~ -, "
            f"got {show_setting(text[:80])!r}"
        )
    if path.split("/")[1:2] in (["api"], ["page"]):
        raise ValueError(
            f"root_path cannot begin with /api or /page, which are paths of our own, got {path!r}"
        )
    return path


def _check_proxy(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"a trusted proxy is an address or a network like 10.0.0.0/24, got {show_setting(text[:80])!r}"
        ) from None
    if network.prefixlen == 0:
        raise ValueError(f"{text} would trust everybody, who could then claim any address; name the proxies")
    return text


def _check_frame(text: str) -> str:
    """Return an origin as `frame-ancestors` of a Content-Security-Policy has it."""
    if text == "self":
        return "'self'"
    if not re.fullmatch(FRAME_ORIGIN, text):
        raise ValueError(
            "allowed_frames has origins like https://dashboard.example:8123, or self, "
            f"got {show_setting(text[:80])!r}"
        )
    return text.rstrip("/")


class TokenSettings(StrictModel):
    """A token that lets a client in. `lvm-edge token new` prints the token and its `token_hash`."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]{0,63}$", description="for the log and for rate limits"
    )
    role: Role = "viewer"
    token: Annotated[SecretStr, BeforeValidator(require_text)] | None = Field(
        default=None, description="the token itself, best as ${NAME}, from the environment"
    )
    token_hash: str | None = Field(default=None, pattern=rf"^{HASH_PREFIX}[0-9a-f]{{64}}$")

    @model_validator(mode="after")
    def _check_token(self) -> TokenSettings:
        if (self.token is None) == (self.token_hash is None):
            raise ValueError("name token_hash (see lvm-edge token new) or token, one of both")
        if self.token is not None:
            value = self.token.get_secret_value()
            if not MIN_TOKEN_CHARACTERS <= len(value) <= MAX_TOKEN_CHARACTERS:
                raise ValueError(
                    f"a token has {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} characters, "
                    f"got {len(value)}; lvm-edge token new makes one"
                )
            register_secret(value)
        return self

    @property
    def hash(self) -> str:
        if self.token_hash is not None:
            return self.token_hash
        assert self.token is not None
        return hash_token(self.token.get_secret_value())


class TlsSettings(StrictModel):
    cert: Path = Field(description="certificate with its chain, PEM")
    key: Path = Field(description="its private key, PEM")


class HttpSettings(StrictModel):
    """Without `tokens` it listens on loopback only, and everyone on this machine may do everything."""

    enabled: bool = True
    listen: str = "127.0.0.1:8971"
    tokens: tuple[TokenSettings, ...] = Field(default=(), max_length=MAX_TOKENS)
    tls: TlsSettings | None = None
    hosts: tuple[str, ...] = Field(
        default=(), max_length=64, description="host names that clients may use, besides IP addresses"
    )
    root_path: Annotated[str, AfterValidator(_check_root_path)] = Field(
        default="",
        description="sub-path at which a proxy shows it, like /kiosk; X-Forwarded-Prefix comes first",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_check_proxy)], ...] = Field(
        default=(),
        max_length=64,
        description="addresses and networks of proxies whose X-Forwarded-… and Forwarded are believed",
    )
    allowed_frames: tuple[Annotated[str, AfterValidator(_check_frame)], ...] = Field(
        default=(),
        max_length=32,
        description="origins that may show the page in a frame, like https://dashboard.example; or self",
    )
    queries_per_s: float | None = Field(default=20.0, gt=0, le=1e6, description="per token; null: no limit")
    failed_logins_per_minute: int = Field(default=10, ge=1, le=1000, description="per client address")
    allow_sources: tuple[str, ...] = Field(
        default=(),
        max_length=256,
        description="patterns (* and ?) of sources that PUT /api/v1/config may add; empty: no new source",
    )

    @field_validator("allow_sources")
    @classmethod
    def _register_sources(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            register_source(pattern)
        return patterns

    @field_serializer("allow_sources")
    def _show_sources(self, patterns: tuple[str, ...]) -> list[str]:
        return [mask_secrets(show_source(pattern)) for pattern in patterns]

    @model_validator(mode="after")
    def _check_names(self) -> HttpSettings:
        names = [token.name for token in self.tokens]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"each token needs a name of its own, but two are named {min(twice)!r}")
        return self

    def proxy_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(ipaddress.ip_network(text) for text in self.trusted_proxies)

    def access_tokens(self) -> AccessTokens:
        return AccessTokens((token.hash, Holder(token.name, token.role)) for token in self.tokens)
