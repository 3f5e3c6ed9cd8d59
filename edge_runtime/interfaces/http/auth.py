"""Who may come in, decided before any route: names of hosts, tokens, roles, browsers, limits.

By method, so that no route can be forgotten: reading and asking is a viewer's, any other write an operator's;
the configuration, forgetting and tokens are an admin's. Without tokens everything is allowed, and the server
listens on loopback only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime.config.access_tokens import Holder, Role, role_allows
from edge_runtime.config.http import HttpSettings
from edge_runtime.interfaces.http.errors import Refusal, refused

READS = {"GET", "HEAD", "OPTIONS"}
OPEN = {"/", "/favicon.ico", "/healthz", "/readyz", "/api/v1/session"}
"""For everybody: whether it lives, the page (which holds nothing before somebody signs in), signing in."""
OPEN_BELOW = "/page/"
QUERY = "/api/v1/query"
ADMIN = {("PUT", "/api/v1/config"), ("POST", "/api/v1/forget")}
TOKENS = "/api/v1/tokens"
CSRF_HEADER = "x-lvm-edge"
MAX_KEYS = 1024
COOKIE = "lvm_session"
LASTS_S = 12 * 3600
MAX_SESSIONS = 256
"""The oldest ends when one more begins."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of every response that does not say otherwise. No Strict-Transport-Security: with a certificate of its own
making a device would shut browsers out of everything else under its name."""


class NotKnown(Refusal):
    """No token, or none that is known."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotAllowed(Refusal):
    status = 403


class TooMany(Refusal):
    """`wait_s` until the next one is allowed."""

    status = 429

    def __init__(self, sentence: str, wait_s: float) -> None:
        super().__init__(sentence)
        self.wait_s = max(math.ceil(wait_s), 1)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.wait_s)}


@dataclass(frozen=True)
class Asking:
    """A request as far as access goes. `method` is GET for a WebSocket, `client` its address."""

    method: str
    path: str
    client: str
    headers: Mapping[str, str]
    websocket: bool = False


def needed_role(method: str, path: str) -> Role | None:
    """The least role for it; None where everybody may."""
    if path in OPEN or (path.startswith(OPEN_BELOW) and method in READS):
        return None
    if path == TOKENS or path.startswith(TOKENS + "/") or (method, path) in ADMIN:
        return "admin"
    if method in READS or (method, path) == ("POST", QUERY):
        return "viewer"
    return "operator"


class Hosts:
    """Names by which a client may call this server. A page of another name that was bound to our address
    (DNS rebinding) names itself; an address cannot be bound to anything."""

    def __init__(self, *, loopback: bool, names: Iterable[str] = ()) -> None:
        self._loopback = loopback
        self._names = {name.lower().rstrip(".") for name in names} | {"localhost"}
        if not loopback:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own}.local"}

    def check(self, host: str | None) -> None:
        """Raises NotAllowed for a Host header of another name; none at all is no browser's."""
        if host is None:
            return
        name = _without_port(host)
        if name in self._names:
            return
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            raise NotAllowed(
                f"this server is not {name[:100]!a}; call it by its address, or add the name to http.hosts"
            ) from None
        if self._loopback and not address.is_loopback:
            raise NotAllowed(f"this server listens on loopback only and is not {name[:100]!a}")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower().rstrip(".")


class Rates:
    """A bucket for each key: `burst` at once, then `per_s`. None as `per_s` is no limit.

    When there are more keys than `most`, the one unseen for longest is forgotten, which only ever allows it
    more. For one event loop.
    """

    def __init__(
        self,
        per_s: float | None,
        burst: float,
        *,
        most: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._burst, self._most, self._clock = per_s, burst, most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Seconds until one more is allowed; 0 where it is now. Takes nothing."""
        if self._per_s is None:
            return 0.0
        return max(1.0 - self._now(key), 0.0) / self._per_s

    def take(self, key: str) -> float:
        """Take one if it is allowed; returns what `wait_s` says before."""
        wait = self.wait_s(key)
        if wait == 0.0 and self._per_s is not None:
            self._left[key] = (self._now(key) - 1.0, self._clock())
            self._left.move_to_end(key)
            if len(self._left) > self._most:
                self._left.popitem(last=False)
        return wait

    def __len__(self) -> int:
        return len(self._left)

    def _now(self, key: str) -> float:
        left, at = self._left.get(key, (self._burst, self._clock()))
        return min(left + (self._clock() - at) * (self._per_s or 0.0), self._burst)


def address_key(address: str) -> str:
    """One client for limits: an IPv4 address, or the network that one IPv6 subscriber has to choose from."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return address


class Sessions:
    """In RAM only, by the hash of what the cookie holds. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: OrderedDict[bytes, tuple[Holder, float]] = OrderedDict()

    def begin(self, holder: Holder) -> str:
        """What the cookie is to hold."""
        value = secrets.token_urlsafe(32)
        self._held[_digest(value)] = (holder, self._clock() + LASTS_S)
        while len(self._held) > MAX_SESSIONS:
            self._held.popitem(last=False)
        return value

    def holder(self, value: str) -> Holder | None:
        """Whose session it is; None where it is over or never was."""
        digest = _digest(value)
        holder, until = self._held.get(digest, (None, 0.0))
        if holder is not None and self._clock() >= until:
            del self._held[digest]
            return None
        return holder

    def end(self, value: str) -> None:
        self._held.pop(_digest(value), None)

    def __len__(self) -> int:
        return len(self._held)


def _digest(value: str) -> bytes:
    return hashlib.sha256(value[:200].encode()).digest()


class Access:
    """`let_in` for every request. For one event loop."""

    def __init__(self, settings: HttpSettings, hosts: Hosts | None = None) -> None:
        """Without `hosts` any name will do."""
        self.tokens = settings.access_tokens()
        self.sessions = Sessions()
        self._hosts = hosts
        per_s = settings.queries_per_s
        self._queries = Rates(per_s, max(2 * (per_s or 1.0), 1.0))
        failed = settings.failed_logins_per_minute
        self._failed = Rates(failed / 60, failed)
        self._used: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Which address has come in with whose token."""

    def let_in(self, asking: Asking) -> Holder | None:
        """Who it is; None for a stranger where everybody may. Raises Refusal."""
        if self._hosts is not None:
            self._hosts.check(asking.headers.get("host"))
        self._check_browser(asking)
        needed = needed_role(asking.method, asking.path)
        holder = self._holder(asking, strict=needed is not None)
        if needed is not None:
            if holder is None:
                raise NotKnown("this needs a token: Authorization: Bearer …, or sign in on the page")
            if not role_allows(holder.role, needed):
                raise NotAllowed(f"this is for the role {needed}, and this token has {holder.role}")
        # Without tokens whoever asks is on this machine, and could take its time in any other way.
        if (asking.method, asking.path) == ("POST", QUERY) and self.tokens and holder is not None:
            if wait := self._queries.take(holder.name):
                raise TooMany("too many questions at once; ask again in a moment", wait)
        return holder

    def sign_in(self, token: str, client: str) -> Holder:
        """Whose token it is. Raises NotKnown, TooMany where the address has guessed too often."""
        where = address_key(client)
        holder = self.tokens.find_holder(token)
        # With too many failures behind it an address gets in only with what it came in with before: else
        # guessing could go on, or whoever shares the address with somebody who guesses would be shut out.
        if wait := self._failed.wait_s(where):
            if holder is None or (where, holder.name) not in self._used:
                raise TooMany("too many unknown tokens from this address; try again later", wait)
        if holder is None:
            self._failed.take(where)
            raise NotKnown("this token is not known here")
        self._used[where, holder.name] = None
        self._used.move_to_end((where, holder.name))
        if len(self._used) > MAX_KEYS:
            self._used.popitem(last=False)
        return holder

    def _holder(self, asking: Asking, *, strict: bool) -> Holder | None:
        if not self.tokens:
            return Holder("", "admin")
        kind, _, token = asking.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            try:
                return self.sign_in(token.strip(), asking.client)
            except Refusal:
                if strict:
                    raise
                return None
        value = session_of(asking.headers)
        return self.sessions.holder(value) if value else None

    def _check_browser(self, asking: Asking) -> None:
        """A page of another origin gets nothing done here, neither with a cookie nor on loopback."""
        headers = asking.headers
        origin = headers.get("origin")
        if asking.websocket:
            if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
                raise NotAllowed("a page of another origin may not listen here")
        elif asking.method not in READS and headers.get(CSRF_HEADER) != "1":
            if origin is not None or "sec-fetch-site" in headers or "cookie" in headers:
                raise NotAllowed("a browser must send the header X-LVM-Edge: 1 with this")


def session_of(headers: Mapping[str, str]) -> str | None:
    """What the cookie holds."""
    try:
        found = SimpleCookie(headers.get("cookie", "")[:4096]).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None else None


class Gate:
    """ASGI. Who came in stands in `scope["holder"]`, None for a stranger."""

    @dataclass
    class Counts:
        """Responses so far."""

        by_status: Counter[int] = field(default_factory=Counter)

    def __init__(self, app: ASGIApp, access: Access, counts: Counts) -> None:
        self._app, self._access, self._counts = app, access, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.by_status[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        socket = scope["type"] == "websocket"
        asking = Asking(
            method="GET" if socket else scope["method"],
            path=scope["path"],
            client=(scope.get("client") or ("unknown", 0))[0],
            headers=Headers(scope=scope),
            websocket=socket,
        )
        try:
            scope["holder"] = self._access.let_in(asking)
        except Refusal as error:
            if socket:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
            else:
                await refused(error.status, str(error), error.headers)(scope, receive, send_on)
            return
        await self._app(scope, receive, send_on)
