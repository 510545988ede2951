"""`Connection`: uvicorn's HTTP protocol with bounds that it lacks, and a short way out when there is no room.

A head has a largest size and a longest time: without them one client could keep a connection open for ever,
or fill the memory with one header. A request that would find no room is answered with 429 at its head, before
there is a task or a body of it: at three times the capacity that is two requests of three.

A body that nobody waited for is read and dropped behind its answer, so that the next request is found where
it begins. A connection that ends within a body is shut on this side first: closing it would reset it, and the
answer could be lost on its way (RFC 9112, section 9.6).

A client may shut its own sending side once its request is sent; it gets its answers, and then the end. When a
connection is lost, what it waits for is given up. Whoever reads its answers too slowly is cut off.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import Transport
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from optkit.serving.http.errors import BUSY

#: Bytes of request line and headers, and seconds until they are complete.
MAX_HEAD = 65_536
HEAD_S = 10.0
#: How long a client may go on sending behind the end of its connection.
LINGER_S = 5.0
#: Longest body behind a 429 at the head; a request with a longer one goes the ordinary way.
MAX_SKIPPED = 65_536
#: A client reads so many bytes per second of what waits for it, looked at every UNREAD_S seconds.
LEAST_READ = 1024
UNREAD_S = 30.0
_BUSY_HEAD = b"content-type: application/json\r\ncontent-length: %d\r\nretry-after: " % len(BUSY)
_REFUSED_HEAD = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    app: Any
    entered = False  # among the connections that are counted
    _timer: asyncio.TimerHandle | None
    _reading_timer: asyncio.TimerHandle | None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = self._requests = self._unread = 0
        self._owed: deque[RequestResponseCycle] = deque()
        self._skipping = self._lingering = False
        self._seen_by_cycles = _Seen(transport, self._end)
        self._timer = self._reading_timer = None
        self._expect_head()
        if not self.app.crowd.enter(self):
            self._refuse(503, "The server has as many connections as it may have.", b"retry-after: 1\r\n")

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()  # the next request of a connection that was kept
        if self._timer is not None:
            self._head += len(data)
        super().data_received(data)
        if self._timer is not None and self._head > MAX_HEAD and not self._skipping:
            self.send_400_response("The request's head is too large.")

    def on_headers_complete(self) -> None:
        self._requests += 1
        path = self.url.partition(b"?")[0].decode("latin-1")
        refusal = self.app.hosts.refusal(self.url, self.headers, self.parser.get_http_version())
        if refusal is not None:
            self.scope["optkit.refusal"] = refusal  # type: ignore[typeddict-unknown-key]
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # an interim answer would be the answer there
        seconds = self.app.turn_away(path) if refusal is None and self._is_plain() else None
        self._skipping = seconds is not None
        if seconds is not None:
            self._answer_busy(path, seconds)
        else:
            self._head_is_there()
            self.app.crowd.busy(self)
            super().on_headers_complete()
            self._owed.append(self.cycle)
            self.cycle.transport = self._seen_by_cycles  # type: ignore[assignment]
            if self._is_last():
                self.cycle.keep_alive = False  # uvicorn says so in the answer

    def _is_last(self) -> bool:
        most = self.app.requests_per_connection
        return most is not None and self._requests >= most

    def on_body(self, body: bytes) -> None:
        if not self._skipping:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._skipping:
            super().on_message_complete()
            return
        self._skipping = False
        self._head_is_there()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._owed:
            self._owed.popleft()
        if not self._owed:
            self.app.crowd.idle(self)
        if self._owes_body() and not self._lingering and not self.transport.is_closing():
            self._skipping = True
            self._expect_head()  # for the body that is skipped
            if self.expect_100_continue:  # the client may send it or not; nobody knows where it would end
                self._linger()

    def send_400_response(self, msg: str) -> None:
        """As every other error: JSON, and counted. uvicorn's own words may repeat what came."""
        self._refuse(400, msg if msg.startswith("The request's head") else "The request is no valid HTTP.")

    def _refuse(self, code: int, message: str, more: bytes = b"") -> None:
        if self.transport.is_closing() or self._lingering:
            return
        if not self._skipping:  # a request that is answered gets no second answer
            self.app.responded("", "", code)
            self.transport.write(_refused(self.server_state.default_headers, code, message, more))
        if self.cycle is None or self.cycle.response_complete:
            self._linger()
        else:
            self.transport.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps this side open, for answers that are owed. Not with TLS, where asyncio ends both."""
        if not self._owed or self.cycle.more_body or self.scheme == "https":
            return None
        self.cycle.keep_alive = False  # the last one: with its answer the connection ends
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def _watch_reading(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._reading_timer = self.loop.call_later(UNREAD_S, self._check_reading)

    def _check_reading(self) -> None:
        if self.transport.get_write_buffer_size() > self._unread - UNREAD_S * LEAST_READ:
            self.transport.abort()
        else:
            self._watch_reading()

    def give_way(self) -> None:
        """End, for a connection that has more to say than this idle one."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        self.app.crowd.leave(self)
        for cycle in self._owed:
            cycle.disconnected = True
            cycle.message_event.set()
            leave = cast("Callable[[], None] | None", cycle.scope.get("optkit.leave"))
            cycle.scope["optkit.left"] = True  # type: ignore[typeddict-unknown-key]
            if leave is not None:
                leave()
        self._owed.clear()
        super().connection_lost(exc)

    def _is_plain(self) -> bool:
        """Whether this POST's body can be skipped, on a connection that is kept and owes no answer."""
        owes = self.cycle is not None and not self.cycle.response_complete
        if owes or self.app.draining or self.expect_100_continue or self._is_last():
            return False
        if self.parser.get_method() != b"POST":
            return False
        length = dict(self.headers).get(b"content-length", b"")
        short = length.isdigit() and int(length) <= MAX_SKIPPED
        return short and self.parser.should_keep_alive() and not self.parser.should_upgrade()

    def _answer_busy(self, path: str, seconds: int) -> None:
        """429. The timer of the head goes on, for the body that is skipped."""
        self._head = 0
        self.app.crowd.idle(self)
        self.app.responded("POST", path, 429)
        self.server_state.total_requests += 1
        general = [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
        parts = [STATUS_LINE[429], *general, _BUSY_HEAD, b"%d\r\n\r\n" % seconds, BUSY]
        self.transport.write(b"".join(parts))

    def _owes_body(self) -> bool:
        """Whether the client is within the body of a request that is answered."""
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

    def _end(self) -> None:
        """For a cycle that ends the connection."""
        if self._owes_body():
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        self._lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._head_is_there()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _expect_head(self) -> None:
        self._head_is_there()
        self._head = 0
        self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _head_is_there(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._skipping or not self._head:  # nobody asked: an answer could meet the first question
            self.transport.close()
        else:
            self.send_400_response("The request's head came too slowly.")


class _Seen:
    """The transport as a request's cycle sees it: the connection decides how it ends."""

    def __init__(self, transport: Transport, close: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, close


def _refused(headers: list[tuple[bytes, bytes]], code: int, message: str, more: bytes) -> bytes:
    body = json.dumps({"error": message}).encode()
    general = [b"%s: %s\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[code], *general, more, _REFUSED_HEAD % len(body), body])
