"""`Gate`: the outermost layer. Key, limits and load are judged before anything is parsed.

Under overload most requests end here, or before, in `Connection`: turning them away has to cost little of
what the model needs.
"""

from __future__ import annotations

import asyncio
import hmac
import json

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from optkit.serving.http.batch_queue import QueueFull
from optkit.serving.http.crowd import Crowd, room
from optkit.serving.http.errors import BUSY, answer_to
from optkit.serving.http.hosts import Hosts
from optkit.serving.http.logs import log
from optkit.serving.http.metrics import Metrics
from optkit.serving.http.routes import Way
from optkit.serving.http.settings import ServeSettings
from optkit.serving.http.tracing import TRACING

#: What needs no key: whether the server lives, and the page, which asks for the key itself.
OPEN = ("/v2/health/live", "/v2/health/ready", "/", "/docs", "/page.js", "/page.css", "/favicon.ico")


class Gate:
    """ASGI. `draining` ends connections with their answer; `ways` are the paths that lead to models.

    A connection ends after `requests_per_connection`. Each model says whether it has
    room, by what waits for it. A request waits once its body is there: until then it takes no room but that
    of its bytes, which all unfinished bodies share.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._key = (settings.api_key or "").encode()
        self._max_body, self._timeout_s = settings.max_body, settings.timeout_s
        self._unfinished = 0  # bytes of bodies that are not whole yet
        self._most_unfinished = (settings.queue + settings.streams * settings.max_batch) * settings.max_body
        self._log = settings.log_requests
        # Clients that connect at once often meet the same worker; later the idle one is the first to accept.
        self.requests_per_connection = settings.connection_requests or (
            100 if settings.workers > 1 else 10_000
        )
        self.crowd = Crowd(room(settings.max_connections))
        self.hosts = Hosts(settings.host, settings.allowed_hosts)
        self.draining = False
        self.ways: dict[str, Way] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted = self._counted(scope, send)
        headers = dict(scope["headers"])
        if (refusal := scope.get("optkit.refusal")) is not None:
            code, message = refusal
            await refuse(counted, code, message, [(b"connection", b"close")])
        elif self._key and scope["path"] not in OPEN and not self._knows(headers):
            challenge = [(b"www-authenticate", b"Bearer")]
            await refuse(counted, 401, "An API key is needed: Authorization: Bearer KEY.", challenge)
        elif scope["method"] == "HEAD":  # the connection sends no body of it
            await self._app({**scope, "method": "GET"}, receive, counted)
        elif scope["method"] in ("GET", "OPTIONS"):
            await self._app(scope, receive, counted)
        else:
            await self._with_body(scope, headers, receive, counted)

    def turn_away(self, path: str) -> int | None:
        """Whole seconds until there may be room for a request at `path`; None where there is."""
        way = self.ways.get(path)
        return way.turn_away() if way else None

    def responded(self, method: str, path: str, code: int) -> None:
        """Count an answer, and log it where that was asked for."""
        self._metrics.responded(code)
        if self._log:
            log("info", "request", method=method, path=path[:200], code=code)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        given = given.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._key)

    async def _with_body(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body:
            await refuse(send, 413, f"A body may have {self._max_body} bytes.", [(b"connection", b"close")])
            return
        seconds = self.turn_away(scope["path"]) if scope["method"] == "POST" else None
        if seconds is not None:
            await refuse(send, 429, BUSY, [(b"retry-after", b"%d" % seconds)])
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._body(receive)
        except TimeoutError:
            await refuse(send, 408, "The body came too slowly.", [(b"connection", b"close")])
        except QueueFull as full:
            way = self.ways.get(scope["path"])
            seconds = way.refuse() if way else full.retry_after_s
            await refuse(send, 429, BUSY, [(b"retry-after", b"%d" % seconds), (b"connection", b"close")])
        else:
            if body is None:
                message = f"A body may have {self._max_body} bytes."
                await refuse(send, 413, message, [(b"connection", b"close")])
            else:
                with TRACING.span(f"{scope['method']} {scope['path']}", headers):
                    await self._answer(scope, _replay(body, receive), send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """By the way to a model where the path is one, else by the application."""
        way = self.ways.get(scope["path"]) if scope["method"] == "POST" else None
        if way is None:
            await self._app(scope, receive, send)
            return
        task = asyncio.current_task()
        scope["optkit.leave"] = task.cancel if task else None  # for a connection that is lost
        try:
            response = await way.endpoint(Request(scope, receive))
        except asyncio.CancelledError:
            if not scope.get("optkit.left"):
                raise
            return
        except Exception as error:
            response = answer_to(error)
        scope["optkit.leave"] = None
        await response(scope, receive, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """All of it; None where it is too large. Raises QueueFull where too much of others is unfinished."""
        parts: list[bytes] = []
        size = counted = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return b"".join(parts)
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._max_body:
                    return None
                if not message.get("more_body"):
                    return b"".join(parts)
                self._unfinished += size - counted
                counted = size
                if self._unfinished > self._most_unfinished:
                    raise QueueFull(1)
        finally:
            self._unfinished -= counted

    def _counted(self, scope: Scope, send: Send) -> Send:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.responded(scope["method"], scope["path"], message["status"])
                if self.draining:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        return counting


async def refuse(send: Send, code: int, message: str | bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """`message` becomes JSON, unless it is JSON already."""
    body = message if isinstance(message, bytes) else json.dumps({"error": message}).encode()
    plain = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": plain + headers})
    await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body again, for the application; after it whatever the connection says."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return left.pop() if left else await receive()

    return replaying
