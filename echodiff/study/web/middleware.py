"""What stands around every request: security headers, a limit of the body, and of the rate."""

import time
from collections import OrderedDict
from collections.abc import Iterable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 256 * 1024
CONTENT_POLICY = "; ".join(
    [
        "default-src 'none'", "img-src 'self'", "style-src 'self'", "script-src 'self'",
        "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    ]
)  # fmt: skip
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-robots-tag": "noindex, nofollow",
}
TRANSPORT = ("strict-transport-security", "max-age=31536000")


class SecurityHeaders:
    """Add the headers, and forbid caching wherever the page did not say otherwise."""

    def __init__(self, app: ASGIApp, *, is_https: bool = False) -> None:
        self.app = app
        headers = [*HEADERS.items(), *([TRANSPORT] if is_https else [])]
        self.headers = [(name.encode(), value.encode()) for name, value in headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.setdefault("headers", [])
                if not any(name == b"cache-control" for name, _ in given):
                    given.append((b"cache-control", b"no-store"))
                given.extend(self.headers)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class BodyLimit:
    """Let `refuse` answer a body that no form of ours makes."""

    def __init__(self, app: ASGIApp, *, refuse: ASGIApp, max_bytes: int = MAX_BODY) -> None:
        self.app, self.refuse = app, refuse
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= self.max_bytes:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self.max_bytes:
            await self.refuse(scope, receive, send)
            return
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return parts.pop() if parts else await receive()

        await self.app(scope, replay, send)


class Buckets:
    """Token buckets by key: `burst` at once, `rate` a second in the long run."""

    def __init__(self, rate: float, burst: float, *, max_keys: int = 10_000) -> None:
        self.rate, self.burst, self.max_keys = rate, burst, max_keys
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, cost: float = 1.0) -> bool:
        """Whether the key may go on; `cost` 0 asks without taking."""
        moment = time.monotonic()
        level, last = self._levels.pop(key, (self.burst, moment))
        level = min(self.burst, level + (moment - last) * self.rate)
        allowed = level >= max(cost, 1.0)
        self._levels[key] = (level - cost if allowed else level, moment)
        while len(self._levels) > self.max_keys:
            self._levels.popitem(last=False)
        return allowed


class RateLimit:
    """Refuse a client that asks faster than a person reads.

    The limit holds per session cookie, because the readers of one hospital share an address, and
    ten times as high per address.
    """

    def __init__(self, app: ASGIApp, *, refuse: ASGIApp, rate: float, burst: float) -> None:
        self.app, self.refuse = app, refuse
        self.sessions = Buckets(rate, burst)
        self.addresses = Buckets(10 * rate, 10 * burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not all(self._take(scope)):
            await self.refuse(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _take(self, scope: Scope) -> Iterable[bool]:
        yield self.addresses.take(client_address(scope))
        cookie = next((value for name, value in scope["headers"] if name == b"cookie"), b"")
        if cookie:
            yield self.sessions.take(cookie[-64:].decode("latin-1"))


def client_address(scope: Scope) -> str:
    """Address of the client, after the trusted proxy if there is one."""
    client = HTTPConnection(scope).client
    return client.host if client else "?"
