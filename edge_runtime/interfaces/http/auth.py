"""Decide before any route which requests are allowed: hosts, tokens, sessions, roles, browsers, limits.

The role follows from the method, so that no route can be forgotten: a viewer may read and ask, an operator
may write; the configuration, forgetting and tokens need an admin. Without tokens everything is allowed, and
the server listens on loopback only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import secrets
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime.config.access_tokens import Holder, Role, role_allows
from edge_runtime.config.http import HttpSettings
from edge_runtime.interfaces.http.errors import HttpError, error_response
from edge_runtime.interfaces.http.proxies import make_origin
from edge_runtime.system.text import printable

log = logging.getLogger(__name__)

READ_METHODS = {"GET", "HEAD", "OPTIONS"}
PUBLIC_PATHS = {"/", "/favicon.ico", "/healthz", "/readyz", "/api/v1/session"}
"""Allowed without a token: health, signing in, and the page, which holds no data before that."""
PUBLIC_PREFIX = "/page/"
QUERY_PATH = "/api/v1/query"
ADMIN_ROUTES = {("PUT", "/api/v1/config"), ("POST", "/api/v1/forget")}
ADMIN_PATHS = ("/api/v1/tokens", "/api/v1/log")
"""For admins whatever the method."""
CSRF_HEADER = "x-lvm-edge"
MAX_KEYS = 1024
"""Clients whose rate is limited one by one."""
COOKIE = "lvm_session"
SESSION_S = 12 * 3600
LOG_EVERY_S = 60.0
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
"""Headers of every response that sets no others. No Strict-Transport-Security: a device with a self-made
certificate would shut browsers out of everything else under its name."""


class Unauthorized(HttpError):
    """There is no token, or it is not known."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(HttpError):
    """The role, the browser or the host name does not allow this."""

    status = 403


class TooManyRequests(HttpError):
    """`wait_s` until the next one is allowed."""

    status = 429

    def __init__(self, sentence: str, wait_s: float) -> None:
        super().__init__(sentence)
        self.wait_s = max(math.ceil(wait_s), 1)

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.wait_s)}


@dataclass(frozen=True)
class RequestInfo:
    """What access depends on. `method` is GET for a WebSocket, `client` the address of the client.

    `headers` has the host, and `scheme` the scheme, that the client used; `forwarded` says whether a trusted
    proxy told us of them.
    """

    method: str
    path: str
    client: str
    headers: Mapping[str, str]
    websocket: bool = False
    scheme: str = "http"
    forwarded: bool = False


def required_role(method: str, path: str) -> Role | None:
    """Return the lowest role that may do this; None where no token is needed."""
    if path in PUBLIC_PATHS or (path.startswith(PUBLIC_PREFIX) and method in READ_METHODS):
        return None
    if (method, path) in ADMIN_ROUTES or f"{path}/".startswith(tuple(f"{admin}/" for admin in ADMIN_PATHS)):
        return "admin"
    if method in READ_METHODS or (method, path) == ("POST", QUERY_PATH):
        return "viewer"
    return "operator"


class AllowedHosts:
    """Host names under which a client may reach this server.

    They stop a page whose own name was bound to our address (DNS rebinding). An IP address is always allowed,
    since it cannot be bound to anything.
    """

    def __init__(self, *, loopback: bool, names: Iterable[str] = ()) -> None:
        self._loopback = loopback
        self._names = {name.lower().rstrip(".") for name in names} | {"localhost"}
        if not loopback:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own}.local"}

    def check(self, host: str | None, *, forwarded: bool = False) -> None:
        """Raise Forbidden for a Host header of another name. A request without one comes from no browser.

        `forwarded`: it was sent to a trusted proxy, which listens at other addresses than we do.
        """
        if host is None:
            return
        name = _without_port(host)
        if name in self._names:
            return
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            raise Forbidden(
                f"this server is not {name[:100]!a}; call it by its address, or add the name to http.hosts"
            ) from None
        if self._loopback and not forwarded and not address.is_loopback:
            raise Forbidden(f"this server listens on loopback only and is not {name[:100]!a}")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower().rstrip(".")


class RateLimiter:
    """A token bucket for each key: `burst` at once, then `per_s` a second. `per_s` None sets no limit.

    Beyond `max_keys` keys the one unseen for longest is dropped, which can only allow it more. For use in one
    event loop.
    """

    def __init__(
        self,
        per_s: float | None,
        burst: float,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._burst, self._max_keys, self._clock = per_s, burst, max_keys, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Return the seconds until `take` is allowed again, 0 for now. Changes nothing."""
        if self._per_s is None:
            return 0.0
        return max(1.0 - self._now(key), 0.0) / self._per_s

    def take(self, key: str) -> float:
        """Count one call if it is allowed. Returns the seconds to wait: 0 where it was."""
        wait = self.wait_s(key)
        if wait == 0.0 and self._per_s is not None:
            self._left[key] = (self._now(key) - 1.0, self._clock())
            self._left.move_to_end(key)
            if len(self._left) > self._max_keys:
                self._left.popitem(last=False)
        return wait

    def __len__(self) -> int:
        return len(self._left)

    def _now(self, key: str) -> float:
        left, at = self._left.get(key, (self._burst, self._clock()))
        return min(left + (self._clock() - at) * (self._per_s or 0.0), self._burst)


def address_key(address: str) -> str:
    """Return the key of a client in limits: its IPv4 address, or the /64 network of an IPv6 subscriber."""
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
    """Sessions of the page: a cookie stands for a token, so that no script ever holds one.

    In RAM only, by the hash of the cookie. For use in one event loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holders: OrderedDict[bytes, tuple[Holder, float]] = OrderedDict()

    def begin(self, holder: Holder) -> str:
        """Begin a session. Returns the value of its cookie."""
        value = secrets.token_urlsafe(32)
        self._holders[_digest(value)] = (holder, self._clock() + SESSION_S)
        while len(self._holders) > MAX_SESSIONS:
            self._holders.popitem(last=False)
        return value

    def holder(self, value: str) -> Holder | None:
        """Return the holder of a session; None where it has ended or never was."""
        digest = _digest(value)
        holder, until = self._holders.get(digest, (None, 0.0))
        if holder is not None and self._clock() >= until:
            del self._holders[digest]
            return None
        return holder

    def end(self, value: str) -> None:
        self._holders.pop(_digest(value), None)

    def __len__(self) -> int:
        return len(self._holders)


def _digest(value: str) -> bytes:
    return hashlib.sha256(value[:200].encode()).digest()


class AccessControl:
    """Checks every request with `authorize`. For use in one event loop."""

    def __init__(self, settings: HttpSettings, hosts: AllowedHosts | None = None) -> None:
        """Without `hosts` every host name is allowed."""
        self.tokens = settings.access_tokens()
        self.sessions = Sessions()
        self._hosts = hosts
        per_s = settings.queries_per_s
        self._queries = RateLimiter(per_s, max(2 * (per_s or 1.0), 1.0))
        failed = settings.failed_logins_per_minute
        self._failed = RateLimiter(failed / 60, failed)
        self._used: OrderedDict[tuple[str, str], None] = OrderedDict()
        """(address, name of the holder) of successful sign-ins, the newest last."""

    def authorize(self, request: RequestInfo) -> Holder | None:
        """Return the holder of the token; None where none is needed and none came. Raises HttpError."""
        if self._hosts is not None:
            self._hosts.check(request.headers.get("host"), forwarded=request.forwarded)
        self._check_browser(request)
        needed = required_role(request.method, request.path)
        holder = self._holder(request, strict=needed is not None)
        if needed is not None:
            if holder is None:
                raise Unauthorized("this needs a token: Authorization: Bearer …, or sign in on the page")
            if not role_allows(holder.role, needed):
                raise Forbidden(f"this is for the role {needed}, and this token has {holder.role}")
        # Without tokens every client is on this machine, and could slow it down in any other way too.
        if (request.method, request.path) == ("POST", QUERY_PATH) and self.tokens and holder is not None:
            if wait := self._queries.take(holder.name):
                raise TooManyRequests("too many questions at once; ask again in a moment", wait)
        return holder

    def sign_in(self, token: str, client: str) -> Holder:
        """Return the holder of a token. Raises Unauthorized, or TooManyRequests after too many wrong ones."""
        where = address_key(client)
        holder = self.tokens.find_holder(token)
        # After too many failures an address gets in only with a token that it has used before. Otherwise
        # guessing could go on, or other clients at the same address would be shut out.
        if wait := self._failed.wait_s(where):
            if holder is None or (where, holder.name) not in self._used:
                raise TooManyRequests("too many unknown tokens from this address; try again later", wait)
        if holder is None:
            self._failed.take(where)
            raise Unauthorized("this token is not known here")
        self._used[where, holder.name] = None
        self._used.move_to_end((where, holder.name))
        if len(self._used) > MAX_KEYS:
            self._used.popitem(last=False)
        return holder

    def _holder(self, request: RequestInfo, *, strict: bool) -> Holder | None:
        if not self.tokens:
            return Holder("", "admin")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            try:
                return self.sign_in(token.strip(), request.client)
            except HttpError:
                if strict:
                    raise
                return None
        value = session_cookie(request.headers)
        return self.sessions.holder(value) if value else None

    def _check_browser(self, request: RequestInfo) -> None:
        """Raise Forbidden for requests that a page of another origin sends, with a cookie or on loopback."""
        headers = request.headers
        origin = headers.get("origin")
        if request.websocket:
            if origin is not None and not _is_own_origin(origin, request):
                raise Forbidden(_other_origin(origin, request))
        elif request.method not in READ_METHODS and headers.get(CSRF_HEADER) != "1":
            if origin is not None or "sec-fetch-site" in headers or "cookie" in headers:
                raise Forbidden("a browser must send the header X-LVM-Edge: 1 with this")


def _is_own_origin(origin: str, request: RequestInfo) -> bool:
    """Return whether a page of this origin is ours. A proxy that keeps the host may hide the scheme."""
    host = request.headers.get("host", "")
    scheme, _, netloc = origin.partition("://")
    theirs, ours = make_origin(scheme, netloc), make_origin(request.scheme, host)
    return theirs is not None and (netloc.lower() == host.lower() or theirs == ours)


def _other_origin(origin: str, request: RequestInfo) -> str:
    """Return why a page of another origin may not listen, and what to do if it is our own behind a proxy."""
    host = request.headers.get("host", "")
    if request.forwarded:
        hint = "if a proxy shows this page there, have it send that as X-Forwarded-Host, -Proto and -Port"
    else:
        hint = "if a proxy shows this page there, add its address to http.trusted_proxies"
    both = printable(f"it is of {origin[:100]}, this is {request.scheme}://{host[:100]}")
    return f"a page of another origin may not listen here: {both}; {hint}"


def session_cookie_header(
    value: str, path: str, *, secure: bool, framed: bool, max_age_s: int = SESSION_S
) -> str:
    """Return the Set-Cookie header of a session.

    `framed`: other sites may show the page in a frame. A browser sends a strict cookie to none of them, and
    another one over HTTPS only; `Partitioned` keeps it to the site that shows the frame.
    """
    site = "SameSite=None; Secure; Partitioned" if framed and secure else "SameSite=strict"
    more = "; Secure" if secure and not framed else ""
    return f"{COOKIE}={value}; HttpOnly; Max-Age={max_age_s}; Path={path}; {site}{more}"


def session_cookie(headers: Mapping[str, str]) -> str | None:
    """Return the value of the session cookie, None without one."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")[:4096]).get(COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie is not None else None


class AccessMiddleware:
    """ASGI middleware: refuses what `access` does not allow, and sets headers of responses.

    The holder of the token is then in `scope["holder"]`, None without one.
    """

    @dataclass
    class Counts:
        """Responses so far, by status."""

        by_status: Counter[int] = field(default_factory=Counter)

    def __init__(self, app: ASGIApp, access: AccessControl, counts: Counts) -> None:
        self._app, self._access, self._counts = app, access, counts
        self._refused = ("", 0.0)
        """The sentence that was logged last, and when."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                self._counts.by_status[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                framing = "content-security-policy" in headers  # it says itself who may show it in a frame
                for name, value in HEADERS.items():
                    if not (framing and name == "X-Frame-Options"):
                        headers.setdefault(name, value)
            await send(message)

        socket = scope["type"] == "websocket"
        request = RequestInfo(
            method="GET" if socket else scope["method"],
            path=scope["path"].removeprefix(scope.get("root_path", "")),
            client=(scope.get("client") or ("unknown", 0))[0],
            headers=Headers(scope=scope),
            websocket=socket,
            scheme="https" if scope["scheme"] in ("https", "wss") else "http",
            forwarded=scope.get("forwarded", False),
        )
        try:
            scope["holder"] = self._access.authorize(request)
        except HttpError as error:
            response = error_response(error.status, str(error), error.headers)
            if socket:
                if isinstance(error, Forbidden):
                    self._log_refusal(str(error))
                await receive()
            await response(scope, receive, send_on)
            return
        await self._app(scope, receive, send_on)

    def _log_refusal(self, sentence: str) -> None:
        """Log why a WebSocket was refused, which no page can read; the same reason once a minute."""
        now = time.monotonic()
        if sentence != self._refused[0] or now - self._refused[1] >= LOG_EVERY_S:
            self._refused = sentence, now
            log.warning("a WebSocket is refused: %s", sentence)
