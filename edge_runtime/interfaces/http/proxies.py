"""Find out what a client asked a reverse proxy for: its address, scheme, host and the sub-path.

Headers are believed from trusted proxies only (`http.trusted_proxies`), each hop's own: a client may send
any of them too. `X-Forwarded-*` come first, else `Forwarded` (RFC 7239). The client's address is the
rightmost that is no trusted proxy; of the other headers the value counts that the outermost trusted proxy
wrote.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_runtime.config.http import ROOT_PATH

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_HOPS = 32
"""Addresses of X-Forwarded-For that are looked at, from the right."""
MAX_HINTS = 8
"""Addresses of which it is logged that their headers are ignored."""
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
OWN_PATHS = ("/api", "/page")
"""First parts of our own paths: a sub-path of that name is never taken from the front of a path."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_PAIR = re.compile(r'\s*([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;,"\s]*))\s*(;|,|$)')


class TrustedProxies:
    """Addresses and networks of the proxies whose headers are believed."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        known = parse_address(address)
        return known is not None and any(known in network for network in self._networks)


@dataclass(frozen=True)
class ForwardedRequest:
    """What a client asked a proxy for. None where the proxy does not say."""

    client: str
    scheme: str | None = None
    host: str | None = None
    """With its port, where that is not the scheme's own."""
    prefix: str | None = None


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address that may have a port, brackets or a zone; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def read_forwarded(headers: Headers, peer: str, trusted: TrustedProxies) -> ForwardedRequest:
    """Read what the trusted proxy `peer` says. Where its headers name two clients, `peer` is the client."""
    chain = _split(headers, "x-forwarded-for")
    elements = _parse_forwarded(",".join(headers.getlist("forwarded"))) if "forwarded" in headers else []
    addresses = chain or [element.get("for", "") for element in elements]
    client, hops = _find_client(addresses, peer, trusted)
    if chain and elements:
        other, _ = _find_client([element.get("for", "") for element in elements], peer, trusted)
        client = client if other == client else peer  # one of the two may be the client's own

    def from_outermost(values: Sequence[str]) -> str | None:
        return values[-min(hops, len(values))].strip() if values else None

    if elements and not any(name.startswith("x-forwarded-") for name in headers):
        element = elements[-min(hops, len(elements))]
        scheme, host, port = element.get("proto"), element.get("host"), None
    else:
        scheme, host, port = (
            from_outermost(_split(headers, f"x-forwarded-{name}")) for name in ("proto", "host", "port")
        )
    prefix = from_outermost(_split(headers, "x-forwarded-prefix"))
    scheme = scheme.lower() if scheme and scheme.lower() in DEFAULT_PORTS else None
    return ForwardedRequest(
        client, scheme, _public_host(host or headers.get("host"), port, scheme), clean_prefix(prefix)
    )


def clean_prefix(prefix: str | None) -> str | None:
    """Return a sub-path without a slash at its end, "" for the root; None for what is no path."""
    if prefix is None:
        return None
    prefix = prefix.rstrip("/")
    return prefix if not prefix or re.fullmatch(ROOT_PATH, prefix) else None


def make_origin(scheme: str, host: str) -> tuple[str, str, int | None] | None:
    """Return scheme, name and port of a host with or without port; None for what is no host."""
    found = _HOST.fullmatch(host.strip())
    if found is None:
        return None
    scheme = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme.lower())
    port = int(found[2]) if found[2] else DEFAULT_PORTS.get(scheme)
    return scheme, found[1].lower().rstrip("."), port


def _split(headers: Headers, name: str) -> list[str]:
    """Return the values of a header that may be there several times, each with several values."""
    return [part for line in headers.getlist(name) for part in line.split(",") if part.strip()]


def _find_client(addresses: Sequence[str], peer: str, trusted: TrustedProxies) -> tuple[str, int]:
    """Return the rightmost address that is no trusted proxy, and how many trusted ones come after it."""
    client = peer
    for hops, text in enumerate(reversed(addresses[-MAX_HOPS:]), 1):
        address = parse_address(text)
        if address is None:  # "unknown", an obfuscated name, rubbish: what comes before it cannot be checked
            return client, hops
        client = str(address)
        # Somebody on this machine may have sent what comes before, also where a proxy runs here too.
        if address.is_loopback or client not in trusted:
            return client, hops
    return client, max(len(addresses), 1)


def _parse_forwarded(text: str) -> list[dict[str, str]]:
    """Return the elements of a Forwarded header; none where it is damaged."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None or found.end() == at:
            return []
        name, quoted, plain, end = found.groups()
        elements[-1][name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        if end == ",":
            elements.append({})
        at = found.end()
    return elements


def _public_host(host: str | None, port: str | None, scheme: str | None) -> str | None:
    """Return the host, with `port` where the host has none and it is not that of the scheme."""
    found = _HOST.fullmatch((host or "").strip())
    if found is None:
        return None
    if found[2] or port is None or not port.isdecimal() or len(port) > 5:
        return found[0]
    return found[1] if DEFAULT_PORTS.get(scheme or "http") == int(port) else f"{found[1]}:{int(port)}"


class ProxyMiddleware:
    """ASGI middleware, the outermost: gives a request the client's address, scheme, host and path.

    The sub-path is in `scope["root_path"]`, and `scope["path"]` begins with it, whether the proxy took it
    from the path or not. `scope["forwarded"]` says whether a trusted proxy sent the request.
    """

    def __init__(self, app: ASGIApp, trusted: TrustedProxies, root_path: str = "") -> None:
        self._app, self._trusted, self._root_path = app, trusted, root_path
        self._hinted: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = dict(scope)
        peer = (scope.get("client") or ("unknown", 0))[0]
        headers, prefix = Headers(scope=scope), self._root_path
        scope["forwarded"] = peer in self._trusted
        if scope["forwarded"]:
            request = read_forwarded(headers, peer, self._trusted)
            scope["client"] = (request.client, 0)
            socket = scope["type"] == "websocket"
            if request.scheme is not None:
                secure = request.scheme in ("https", "wss")
                scope["scheme"] = ("wss" if secure else "ws") if socket else ("https" if secure else "http")
            if request.host is not None:
                changed = MutableHeaders(raw=list(scope["headers"]))
                changed["host"] = request.host
                scope["headers"] = changed.raw
            prefix = self._root_path if request.prefix is None else request.prefix
        elif "x-forwarded-for" in headers or "forwarded" in headers:
            self._hint(peer)
        path = scope["path"]
        if prefix and not prefix.startswith(OWN_PATHS) and f"{path}/".startswith(f"{prefix}/"):
            path = path[len(prefix) :]
            if not path and scope["type"] == "http":
                query = scope["query_string"].decode("latin-1")
                there = f"{prefix}/?{query}" if query else f"{prefix}/"
                await RedirectResponse(there, 308)(scope, receive, send)
                return
        scope["root_path"], scope["path"] = prefix, prefix + path
        await self._app(scope, receive, send)

    def _hint(self, peer: str) -> None:
        """Log once for each address that its headers are not believed."""
        if peer in self._hinted or len(self._hinted) >= MAX_HINTS:
            return
        self._hinted.add(peer)
        log.warning(
            "%s sends X-Forwarded-For or Forwarded, which is ignored: if it is your proxy, add it to "
            "http.trusted_proxies",
            peer,
        )
