"""HTTP itself, over every route of a server in a process of its own, spoken byte by byte."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from optkit.serving.http import page
from optkit.serving.http.body import FLAG, NUMBER, record
from optkit.tasks.base import task_type
from tests.serving.http.processes import running

NAMES = {"cls": "text-classification", "emb": "embeddings", "lm": "causal-lm", "img": "image-classification"}
NAMES["rank"] = "rerank"
METHODS = ("GET", "POST")
PAGES = ("/", "/docs", "/page.js", "/page.css", "/favicon.ico", "/metrics", "/openapi.json")
MARK = "Zq7Marker"


@pytest.fixture(scope="module")
def server(folders):
    models = [f"{name}={folders[task]}" for name, task in NAMES.items()]
    with running(*models, "--allowed-host", "named.example", "--log-requests") as server:
        server.version = json.loads(ask(server, get("/v1/models/cls"))[0][2])["version"]
        yield server
        assert "Traceback" not in server.log()
        lines = [json.loads(line) for line in server.log().splitlines()]
        assert MARK not in str([{k: v for k, v in line.items() if k != "path"} for line in lines])


def paths(method: str, version: str) -> list[str]:
    """Of every route that answers `method`; of the models, those of a text classifier and OpenAI's."""
    v1, v2 = "/v1/models/cls", "/v2/models/cls"
    both = [v2, f"{v2}/versions/{version}"]
    if method == "POST":
        others = (
            "/v1/embeddings",
            "/embed",
            "/v1/completions",
            "/v1/chat/completions",
            "/v1/rerank",
            "/v2/rerank",
            "/rerank",
        )
        return [f"{v1}:predict", *(f"{x}/infer" for x in both), *others]
    health = ["/v2", "/v2/health/live", "/v2/health/ready"]
    return [*PAGES, *health, "/v1/models", v1, *both, *(f"{x}/ready" for x in both)]


def test_no_route_is_left_out(server):
    there = {("GET", path) for path in ("/openapi.json", *(r.path for r in page.routes(None).routes))}
    described = json.loads(ask(server, get("/openapi.json"))[0][2])["paths"]
    there |= {(method.upper(), path) for path, methods in described.items() for method in methods}
    others = {(method, path) for method, path in there if re.search("/models/(?!cls)", path)}
    listed = {
        (m, path.replace(server.version, "{version}")) for m in METHODS for path in paths(m, server.version)
    }
    assert there - others == listed


def body_of(path: str) -> bytes:
    kinds = {
        ":predict": {"instances": ["a fine film"]},
        "/infer": {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a fine film"]}]},
        "/rerank": {"query": "who?", "documents": ["a fine film", "dull"]},
        "/embeddings": {"model": "emb", "input": "a fine film"},
        "/embed": {"inputs": "a fine film"},
        "/chat/completions": {
            **{"model": "lm", "max_tokens": 2, "temperature": 0},
            "messages": [{"role": "user", "content": "a fine film"}],
        },
        "/completions": {"model": "lm", "prompt": "a fine film", "max_tokens": 2, "temperature": 0},
    }
    return json.dumps(
        next(value for end, value in kinds.items() if path.partition("?")[0].endswith(end))
    ).encode()


def post(path: str, *headers: str, body: bytes | None = None, version: str = "1.1", host: str = "localhost"):
    body = body_of(path) if body is None else body
    head = [f"POST {path} HTTP/{version}", f"host: {host}", "content-type: application/json"]
    return "\r\n".join([*head, f"content-length: {len(body)}", *headers, "\r\n"]).encode() + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", *(headers or ["host: localhost"]), "\r\n"]).encode()


def ask(server, *parts: bytes, shut: bool = True, heads: int = 0) -> list[tuple[int, dict[str, str], bytes]]:
    """All that a connection answers to `parts`, each sent at once: status, headers and body of each answer.

    With `shut` this side ends behind them. The first `heads` answers are to HEAD, and have no body.
    """
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        with suppress(OSError):  # the answer may be there before all was sent
            for part in parts:
                connection.sendall(part)
            if shut:
                connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = 0 if len(found) < heads else int(headers.get("content-length", 0))
        found.append((int(first.split()[1]), headers, received[:size]))
        received = received[size:]
    return found


def steady(body: bytes) -> bytes:
    """An answer without what differs each time."""
    found = json.loads(body)
    if isinstance(found, list):
        return body
    return json.dumps({k: v for k, v in found.items() if k not in ("id", "created")}).encode()


def test_head_says_what_get_says_and_sends_no_body(server):
    for path in paths("GET", server.version):
        [whole] = ask(server, get(path))
        head, behind = ask(server, get(path, method="HEAD") + get("/v2"), heads=1)
        assert whole[0] == head[0] in (200, 204), path
        assert behind[0] == 200
        for name in ("content-type", "content-length"):
            if path != "/metrics":  # which counts these very requests
                assert head[1].get(name) == whole[1].get(name), path


def test_a_method_that_a_path_has_not_is_405_and_says_which_it_has(server):
    for right, others in (
        ("GET", ("OPTIONS", "DELETE", "POST")),
        ("POST", ("OPTIONS", "GET", "PUT", "HEAD")),
    ):
        for path in paths(right, server.version):
            for method in others:
                [(code, headers, _)] = ask(server, get(path, method=method), heads=int(method == "HEAD"))
                assert (code, right in headers["allow"].upper()) == (405, True), (path, method)
                assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["content-type: text/plain"],
        ["content-type: application/x-www-form-urlencoded"],
        ["content-type: multipart/form-data; boundary=x"],
        ["content-type: application/json; charset=utf-16"],
        ["content-type: application/json, text/plain"],
        ["content-type: application/jsonx"],
        ["content-type: application/json", "content-type: text/plain"],
        ["content-type: application/json", "content-encoding: gzip"],
        ["content-type: text/plain", "inference-header-content-length: 2"],
    ],
)
def test_only_json_is_read_by_every_route(wrong, server):
    for path in paths("POST", server.version):
        body = body_of(path)
        head = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *wrong, "\r\n"]
        [(code, _, said)] = ask(server, "\r\n".join(head).encode() + body)
        assert code == 415, (path, said)


def test_json_may_say_its_charset(server):
    for path in paths("POST", server.version):
        for kind in (
            "Application/JSON",
            'application/json; charset="UTF-8"',
            "application/json;charset=utf-8",
        ):
            request = post(path).replace(b"application/json", kind.encode())
            assert ask(server, request)[0][0] == 200, (path, kind)


def test_every_way_to_send_a_request_gets_the_same_answer(server):
    """It shuts its sending side, chunks, pipelines, speaks HTTP/1.0, waits for 100, names the host."""
    for path in paths("POST", server.version):
        [(code, _, said)] = ask(server, post(path))
        assert code == 200, said
        expected = steady(said)
        body = body_of(path)
        chunks = b"%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\nx: y\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])
        length = b"content-length: %d" % len(body)
        chunked = post(path).replace(length, b"transfer-encoding: chunked").removesuffix(body) + chunks
        ways = {
            "chunked": [chunked],
            "in pieces": [bytes([x]) for x in post(path)],
            "pipelined": [post(path) * 3 + chunked + post(path)],
            "1.0": [post(path, version="1.0")],
            "1.0 kept": [post(path, "connection: keep-alive", version="1.0") * 2],
            "1.0 expects": [post(path, "expect: 100-continue", version="1.0")],
            "absolute": [post(f"http://LocalHost:1{path}")],
            "query": [post(f"{path}?a=b")],
        }
        for name, parts in ways.items():
            answers = ask(server, *parts)
            assert len(answers) == (5 if name == "pipelined" else 1), (name, path)
            for code, _, said in answers:
                assert (code, steady(said)) == (200, expected), (name, path)
        head = post(path, "expect: 100-continue").removesuffix(body)
        (first, _, _), (code, _, said) = ask(server, head, body)
        assert (first, code, steady(said)) == (100, 200, expected)


def test_one_zero_ends_its_connection_by_itself(server):
    [(code, headers, _)] = ask(server, post(paths("POST", "x")[0], version="1.0"), shut=False)
    assert (code, headers["connection"]) == (200, "close")


RIGHT = ("localhost", "LOCALHOST:1", "localhost.", "127.0.0.1:65535", "[::1]", "[::1]:80", "Named.Example.:8")
FOREIGN = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", "[::2]", "127.1")
BROKEN = (
    "",
    "a b",
    "localhost:x",
    "localhost:65536",
    "u@localhost",
    "localhost/",
    "[::1",
    "localhost, localhost",
)


def test_every_route_answers_to_its_own_hosts_only(server):
    for path in paths("GET", server.version) + paths("POST", server.version):
        posts = path in paths("POST", server.version)

        def code(*hosts, path=path, posts=posts):
            lines = [f"host: {host}" for host in hosts]
            body = body_of(path) if posts else b""
            method = "POST" if posts else "GET"
            more = ["content-type: application/json", f"content-length: {len(body)}"] if posts else []
            head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, *more, "\r\n"]).encode()
            return ask(server, head + body)[0][0]

        assert {code(host) for host in RIGHT} <= {200, 204}, path
        assert {code(host) for host in FOREIGN} == {421}, path
        assert {code(host) for host in BROKEN} == {400}, path
        assert code() == code("localhost", "localhost") == 400
        target = get(path, method="POST" if posts else "GET").replace(b" /", b" http://evil.example/", 1)
        assert ask(server, target)[0][0] == 421


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 2\r\ntransfer-encoding: chunked",
        "content-length: 2\r\ncontent-length: 3",
        "content-length: 2, 2",
        "content-length: +2",
        "content-length : 2",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        "x: a\rb",
    ],
)
def test_a_length_that_two_parsers_could_read_in_two_ways_is_refused(head, server):
    request = f"POST /v1/models/cls:predict HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n0\r\n\r\n"
    answers = ask(server, request.encode() + get("/v2"), shut=False)
    assert len(answers) == 1
    assert 400 <= answers[0][0] < 500


def broken(path: str):
    """Requests that are refused, with a client's own words in each place that there is."""
    yield get(f"/{MARK}?{MARK}")
    yield get(f"/{MARK}:predict", method="POST")
    yield get(path, method=MARK)
    yield get(path, f"host: {MARK}")
    yield get(path, f"host: localhost:{MARK}")
    yield get(f"http://{MARK}{path}")
    yield get(path, "host: localhost", f"{MARK} : x")
    yield post(path, f"x-timeout-ms: {MARK}")
    yield post(path).replace(b"application/json", f"text/{MARK}".encode())
    yield post(path, f"inference-header-content-length: {MARK}")
    yield post(path, f"content-encoding: {MARK}")
    yield post(path, f"transfer-encoding: {MARK}")
    yield post(f"/v2/models/{MARK}/infer")
    yield post(f"/v2/models/cls/versions/{MARK}/infer", body=b"{}")
    yield post("/v2/models/img/infer", body=body_of(path))
    yield from (post(path, body=content) for content in contents(json.loads(body_of(path))))
    yield from (
        post("/v1/models/img:predict", body=json.dumps({"instances": [x]}).encode())
        for x in ({"b64": MARK}, {"b64": MARK + "=="}, {MARK: 1}, MARK)
    )


def contents(good: dict):
    yield MARK.encode()
    yield b'{"' + MARK.encode()
    yield b'{"x": "\xff' + MARK.encode() + b'"}'
    yield json.dumps({MARK: MARK}).encode()
    for key, value in good.items():
        for other in (MARK, [MARK], {MARK: MARK}, [{MARK: MARK}], [[MARK, MARK, MARK]], MARK * 20_000):
            if key not in ("prompt", "input"):
                yield json.dumps({**good, key: other}).encode()
        if isinstance(value, list) and isinstance(value[0], dict):
            for name in value[0]:
                yield json.dumps({**good, key: [{**value[0], name: MARK}]}).encode()
                yield json.dumps({**good, key: [{**value[0], name: [MARK]}]}).encode()
            yield json.dumps({**good, "outputs": [{"name": MARK}]}).encode()
    for name in ("parameters", "stop", "temperature", "dimensions", "encoding_format", "stream_options"):
        yield json.dumps({**good, name: {MARK: MARK}}).encode()
        yield json.dumps({**good, name: MARK}).encode()


def test_errors_repeat_nothing_of_the_request(server):
    refused = 0
    for path in paths("POST", server.version):
        for request in broken(path):
            for code, headers, said in ask(server, request):
                if code != 200:  # what a protocol does not know of it ignores
                    assert 400 <= code < 500, (request, said)
                    assert MARK.lower() not in f"{headers}{said.decode()}".lower(), request
                    refused += 1
    assert refused > 150


@pytest.mark.parametrize("value", [True, "1", "true"])
def test_what_is_no_number_is_not_taken_for_one(value):
    kind = record("Seeded", seed=(Annotated[int, NUMBER] | None, None))
    assert kind(seed=1).seed == 1
    with pytest.raises(ValidationError):
        kind(seed=value)


@pytest.mark.parametrize("value", [1, "true"])
def test_what_is_no_flag_is_not_taken_for_one(value):
    kind = record("Flagged", flag=(FLAG | None, None))
    assert kind(flag=True).flag is True
    with pytest.raises(ValidationError):
        kind(flag=value)


@pytest.mark.parametrize(
    ("task", "part", "good", "bad"),
    [
        ("layout-token-classification", "boxes", [[0, 0, 9, 9]], [[True, 0, 9, 9]]),
        ("layout-token-classification", "boxes", [[1, 0, 9, 9]], [["1", 0, 9, 9]]),
        ("zero-shot-classification", "multi_label", True, 1),
    ],
)
def test_the_inputs_of_tasks_hold_numbers_and_flags_alone(task, part, good, bad):
    kind = TypeAdapter(task_type(task).json_type(None, str)[part])
    assert kind.validate_python(good) == good
    with pytest.raises(ValidationError):
        kind.validate_python(bad)
