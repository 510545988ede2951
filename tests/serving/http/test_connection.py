"""What is answered before the application sees it: heads without end, and requests that find no room."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest
import uvicorn
from uvicorn.server import ServerState

from optkit.serving.http import connection
from optkit.serving.http.connection import MAX_SKIPPED, Connection
from optkit.serving.http.crowd import Crowd
from optkit.serving.http.hosts import Hosts

BODY = b'{"instances": ["a fine film"]}'


class App:
    """Answers with the length of the body; `seconds` is when to come back, None where there is room."""

    draining = False
    requests_per_connection: int | None = None
    hosts = Hosts("0.0.0.0")

    def __init__(self) -> None:
        self.seconds: int | None = None
        self.crowd = Crowd(100)
        self.delay_s, self.size, self.given_up = 0.0, 0, 0
        self.connect = None
        self.codes: list[int] = []
        #: What is answered without a look at the body, and the headers of that answer.
        self.refusal: int | None = None
        self.extra: list[tuple[bytes, bytes]] = []

    def turn_away(self, path):
        assert path == "/v1/models/m:predict"
        return self.seconds

    def responded(self, method, path, code):
        self.codes.append(code)

    async def __call__(self, scope, receive, send):
        if "optkit.refusal" in scope:
            await send({"type": "http.response.start", "status": 421, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if self.refusal is not None:
            headers = [(b"content-length", b"2"), *self.extra]
            await send({"type": "http.response.start", "status": self.refusal, "headers": headers})
            await send({"type": "http.response.body", "body": b"no"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if self.delay_s:
            scope["optkit.leave"] = asyncio.current_task().cancel
            try:
                await asyncio.sleep(self.delay_s)
            except asyncio.CancelledError:
                self.given_up += scope["optkit.left"]
                return
        said = b"x" * self.size or b"%d" % len(body)
        headers = [(b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})


class Client:
    def __init__(self, reader, writer) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        content = await self._reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, content

    def shut(self) -> None:
        """As a client does that sends no more, and reads on."""
        self._writer.write_eof()

    def pause(self) -> None:
        self._writer.transport.pause_reading()

    def vanish(self) -> None:
        """With a reset, as when its process is killed with an answer unread."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def ended(self) -> bool:
        return await asyncio.wait_for(self._reader.read(), 10) == b""


def converse(talk) -> App:
    """`talk(app, client)` on a connection of its own; the application, for what it counted."""
    app = App()

    async def run():
        config = uvicorn.Config(app, log_config=None, proxy_headers=False, timeout_keep_alive=1)
        config.load()
        loop, state = asyncio.get_running_loop(), ServerState()
        state.default_headers = [(b"date", b"today")]
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()

        async def connect():
            return Client(*await asyncio.open_connection(*address))

        app.connect = connect
        reader, writer = await asyncio.open_connection(*address)
        try:
            await talk(app, Client(reader, writer))
        finally:
            writer.close()
            server.close()

    asyncio.run(run())
    return app


def post(body: bytes = BODY, *headers: str) -> bytes:
    head = ["POST /v1/models/m:predict?x=1 HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*head, "\r\n"]).encode() + body


def test_a_request_without_room_is_told_when_to_come_back():
    async def talk(app, client):
        app.seconds = 7
        await client.send(post())
        code, headers, said = await client.answer()
        assert (code, headers["retry-after"], headers["date"]) == (429, "7", "today")
        assert json.loads(said) == {"error": "The server is busy.", "hint": "Try again later."}
        app.seconds = None
        await client.send(post())
        assert (await client.answer())[::2] == (200, b"30")

    assert converse(talk).codes == [429]


@pytest.mark.parametrize("size", [30, MAX_SKIPPED])
def test_its_body_may_come_in_pieces_and_the_next_request_with_it(size):
    async def talk(app, client):
        app.seconds = 1
        request = post(b"x" * size)
        await client.send(request[:-size])  # the head alone is answered
        assert (await client.answer())[0] == 429
        await client.send(request[-size:-5])
        await asyncio.sleep(0.02)
        app.seconds = None
        await client.send(request[-5:] + post() + post(b""))
        assert (await client.answer())[::2] == (200, b"30")
        assert (await client.answer())[::2] == (200, b"0")
        app.seconds = 1
        await client.send(post() * 2)
        assert [(await client.answer())[0] for _ in range(2)] == [429, 429]
        assert await client.ended()  # after the time that an idle connection is kept

    assert converse(talk).codes == [429] * 3


@pytest.mark.parametrize(
    "request_",
    [
        post(b"x" * (MAX_SKIPPED + 1)),
        post(BODY, "connection: close"),
        post().replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(BODY, "connection: upgrade", "upgrade: h2c"),
        post(b"1\r\nx\r\n0\r\n\r\n").replace(b"content-length: 11", b"transfer-encoding: chunked"),
        b"GET /v1/models/m:predict HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_whatever_is_not_plain_is_left_to_the_application(request_):
    async def talk(app, client):
        app.seconds = 1
        await client.send(request_)
        assert (await client.answer())[0] == 200

    assert converse(talk).codes == []


def test_answers_go_out_in_the_order_of_their_requests():
    async def talk(app, client):
        await client.send(post()[:-5])  # waits for the rest of its body
        await asyncio.sleep(0.02)
        app.seconds = 1
        await client.send(post()[-5:] + post())
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]

    converse(talk)


@pytest.mark.parametrize("busy", [None, 1])
def test_a_connection_may_have_so_many_requests(busy):
    async def talk(app, client):
        app.requests_per_connection = 3
        app.seconds = busy
        for i in range(3):
            await client.send(post())
            code, headers, _ = await client.answer()
            assert code == (429 if busy and i < 2 else 200)  # the last one goes the ordinary way
            assert ("connection" in headers) == (i == 2)
        assert headers["connection"] == "close"
        assert await client.ended()

    converse(talk)


def test_a_connection_that_says_nothing_ends_without_an_answer(monkeypatch):
    """A client may open connections before it needs them, and would take an answer for its own."""
    monkeypatch.setattr(connection, "HEAD_S", 0.05)

    async def talk(app, client):
        assert await client.ended()

    assert converse(talk).codes == []


def test_slow_and_endless_heads_are_ended(monkeypatch):
    monkeypatch.setattr(connection, "HEAD_S", 0.05)

    async def slow(app, client):
        await client.send(b"POST / HTTP/1.1\r\nx: ")
        code, headers, said = await client.answer()
        assert (code, json.loads(said)) == (400, {"error": "The request's head came too slowly."})
        assert headers["content-type"] == "application/json"
        assert await client.ended()
        assert app.codes == [400]

    async def endless(app, client):
        await client.send(b"GET / HTTP/1.1\r\nx: " + b"a" * 500_000)
        code, _, said = await client.answer()
        assert code == 400
        assert json.loads(said)["error"]
        assert await client.ended()
        assert app.codes == [400]

    async def slow_body_of_a_refused_request(app, client):
        app.seconds = 1
        await client.send(post()[:-5])
        assert (await client.answer())[0] == 429
        assert await client.ended()

    for talk in (slow, endless, slow_body_of_a_refused_request):
        converse(talk)


@pytest.mark.parametrize("size", [1_000, 200_000])
def test_a_body_that_comes_after_its_refusal_is_skipped_and_the_connection_stays_in_step(size, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_S", 0.2)

    async def talk(app, client):
        app.refusal = 401
        request = post(b"x" * size)
        await client.send(request[:-size])
        assert (await client.answer())[::2] == (401, b"no")
        await client.send(request[-size:])
        await asyncio.sleep(0.4)  # nothing is sent that nobody asked for
        app.refusal = None
        await client.send(post())
        assert (await client.answer())[::2] == (200, b"30")
        assert await client.ended()  # after the time that an idle connection is kept

    converse(talk)


@pytest.mark.parametrize("head", [[], ["expect: 100-continue"]])
def test_a_body_that_never_comes_ends_its_connection(head, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_S", 0.1)

    async def talk(app, client):
        app.refusal = 401
        await client.send(post(b"x" * 1_000, *head)[:-1_000])
        assert (await client.answer())[::2] == (401, b"no")
        assert await client.ended()

    converse(talk)


def test_a_broken_body_behind_its_refusal_gets_no_second_answer():
    async def talk(app, client):
        app.refusal = 401
        await client.send(post(b"1").replace(b"content-length: 1", b"transfer-encoding: chunked")[:-1])
        assert (await client.answer())[::2] == (401, b"no")
        await client.send(b"no chunk\r\n")
        assert await client.ended()

    assert converse(talk).codes == []


def test_an_answer_that_ends_its_connection_arrives_though_the_body_is_still_sent():
    """Closing at once would reset the connection, and the answer could be lost on its way."""

    async def talk(app, client):
        app.refusal, app.extra = 413, [(b"connection", b"close")]
        request = post(b"x" * 2_000_000)
        await client.send(request[:1_000])
        await asyncio.sleep(0.05)
        await client.send(request[1_000:])
        assert (await client.answer())[::2] == (413, b"no")
        assert await client.ended()

    converse(talk)


def test_who_goes_on_sending_behind_an_end_is_closed(monkeypatch):
    monkeypatch.setattr(connection, "LINGER_S", 0.1)

    async def talk(app, client):
        app.refusal, app.extra = 413, [(b"connection", b"close")]
        await client.send(post().replace(b"content-length: 30", b"content-length: 1000000000"))
        assert (await client.answer())[0] == 413
        with pytest.raises(ConnectionError):
            for _ in range(200):
                await client.send(b"x" * 1_000)
                await asyncio.sleep(0.01)

    converse(talk)


@pytest.mark.parametrize("count", [1, 3])
def test_a_client_that_shuts_its_sending_side_gets_its_answers(count):
    async def talk(app, client):
        app.delay_s = 0.05
        await client.send(post() * count)
        client.shut()
        for _ in range(count):
            assert (await client.answer())[::2] == (200, b"30")
        assert await client.ended()

    converse(talk)


def test_a_request_that_ends_within_its_body_ends_the_connection():
    async def talk(app, client):
        await client.send(post()[:-5])
        client.shut()
        assert await client.ended()

    converse(talk)


def test_what_a_lost_connection_waits_for_is_given_up():
    async def talk(app, client):
        app.delay_s = 30
        await client.send(post())
        await asyncio.sleep(0.05)
        client.vanish()
        await asyncio.sleep(0.1)
        assert app.given_up == 1

    converse(talk)


def test_a_full_server_ends_an_idle_connection_and_refuses_where_all_are_busy():
    async def talk(app, client):
        app.crowd.most = 1
        await client.send(post())
        assert (await client.answer())[0] == 200
        app.delay_s = 0.2
        second = await app.connect()
        assert await client.ended()  # it was idle
        await second.send(post())
        await asyncio.sleep(0.05)
        third = await app.connect()
        code, headers, _ = await third.answer()
        assert (code, headers["retry-after"]) == (503, "1")
        assert await third.ended()
        assert (await second.answer())[0] == 200

    converse(talk)


def test_a_client_that_does_not_read_is_cut_off(monkeypatch):
    monkeypatch.setattr(connection, "UNREAD_S", 0.1)

    async def talk(app, client):
        app.size = 50_000_000
        client.pause()
        await client.send(post())
        deadline = asyncio.get_running_loop().time() + 10
        while app.crowd._count and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        assert app.crowd._count == 0

    converse(talk)


def test_a_foreign_host_is_refused_before_the_application_and_in_order():
    async def talk(app, client):
        app.hosts = Hosts("127.0.0.1")
        await client.send(post().replace(b"host: x", b"host: localhost") + post())
        assert (await client.answer())[0] == 200
        assert (await client.answer())[0] == 421

    converse(talk)
