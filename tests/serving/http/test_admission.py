from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from optkit.serving.http.settings import API_KEY

pytestmark = pytest.mark.usefixtures("fake_runtime")

PATH = "/v1/models/m:predict"
BODY = {"instances": ["a fine film"]}


def test_a_key_is_needed_where_one_is_set(fake, monkeypatch):
    monkeypatch.setenv(API_KEY, "s3cret-ключ")
    with fake({}) as client:
        for path in ("/v2/health/live", "/v2/health/ready", "/", "/docs", "/page.js"):
            assert client.get(path).status_code == 200
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v2/models/m", "/nowhere"):
            assert client.get(path).status_code == 401
        for wrong in (
            {},
            {"authorization": "Bearer s3cret"},
            {"authorization": "Basic s3cret-ключ".encode()},
        ):
            answer = client.post(PATH, json=BODY, headers=wrong)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        for right in (
            {"authorization": "Bearer s3cret-ключ".encode()},
            {"x-api-key": "s3cret-ключ".encode()},
        ):
            assert client.post(PATH, json=BODY, headers=right).status_code == 200


def test_a_body_may_be_so_large_whether_or_not_it_says_so(fake):
    with fake({}, max_body=1000) as client:
        assert client.post(PATH, json=BODY).status_code == 200
        assert client.post(PATH, content=b"x" * 1001).status_code == 413
        assert client.post(PATH, content=(b"x" * 100 for _ in range(11))).status_code == 413
        assert client.post(PATH, content=b"", headers={"content-length": "-1"}).status_code == 413


@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/form-data; boundary=x"])
def test_only_json_is_taken(fake, kind):
    with fake({}) as client:
        headers = {"content-type": kind} if kind else {}
        assert client.post(PATH, content=b'{"instances": ["a"]}', headers=headers).status_code == 415


def test_a_full_queue_says_when_to_come_back(fake):
    with fake({"delay_ms": 200}, queue=4, max_batch=2, max_inputs=4) as client:
        with ThreadPoolExecutor(24) as threads:
            answers = list(threads.map(lambda _: client.post(PATH, json=BODY), range(24)))
        codes = [a.status_code for a in answers]
        assert set(codes) == {200, 429}
        assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 429)
        assert codes.count(200) >= 4
        assert client.post(PATH, json=BODY).status_code == 200  # and it is itself again


def test_a_model_without_room_turns_nobody_away_from_another(folders, serving):
    models = dict.fromkeys(("a", "b"), folders["text-classification"])
    limits = {"queue": 4, "max_batch": 2, "max_inputs": 4}
    stop, codes = threading.Event(), []

    def ask():
        while not stop.is_set():
            codes.append(client.post("/v1/models/a:predict", json=BODY).status_code)

    with serving(models, runtime="fake", options={"delay_ms": 20}, **limits) as client:
        clients = [threading.Thread(target=ask) for _ in range(16)]
        for thread in clients:
            thread.start()
        found = [client.post("/v1/models/b:predict", json=BODY).status_code for _ in range(20)]
        stop.set()
        for thread in clients:
            thread.join()
        text = client.get("/metrics").text
    assert found == [200] * 20
    refused = codes.count(429)
    assert refused
    assert f'optkit_failures_total{{model="a",reason="full"}} {refused}.0' in text
    assert 'optkit_failures_total{model="b"' not in text


@contextmanager
def slow_bodies(client, number, part=b""):
    """So many requests of which the head and a part of the body have come; the codes that they got."""
    codes = []

    async def send(message):
        codes.append(message.get("status"))

    async def begin():
        left = [{"type": "http.request", "body": part, "more_body": True}]

        async def receive():
            return left.pop() if left else await asyncio.Event().wait()

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
        await client.gate(scope, receive, send)

    waiting = [client.portal.start_task_soon(begin) for _ in range(number)]
    client.portal.call(asyncio.sleep, 0.05)
    try:
        yield codes
    finally:
        for future in waiting:
            future.cancel()


def test_requests_whose_bodies_have_not_come_take_no_room_from_others(fake):
    with fake({}, queue=4, max_batch=2, max_inputs=4) as client, slow_bodies(client, 20) as codes:
        assert [client.post(PATH, json=BODY).status_code for _ in range(5)] == [200] * 5
        assert codes == []


def test_what_has_come_of_unfinished_bodies_is_bounded(fake):
    with fake({}, queue=4, max_batch=2, max_inputs=4, max_body=1000) as client:
        with slow_bodies(client, 9, b"x" * 1000) as codes:  # room for six of the largest
            assert [code for code in codes if code] == [429] * 3
            assert client.post(PATH, json=BODY).status_code == 200
            assert 'optkit_failures_total{model="m",reason="full"} 3.0' in client.get("/metrics").text
        client.portal.call(asyncio.sleep, 0.05)
        with slow_bodies(client, 6, b"x" * 1000) as codes:
            assert codes == []


def test_more_inputs_than_there_is_room_for_are_refused_whole(fake):
    with fake({"delay_ms": 300}, queue=4, max_batch=1, max_inputs=4) as client:
        with ThreadPoolExecutor(3) as threads:
            bodies = [{"instances": ["a"] * 4}] * 3
            codes = sorted(threads.map(lambda b: client.post(PATH, json=b).status_code, bodies))
        assert codes[0] == 200
        assert codes[-1] == 429


def test_a_deadline_that_passes(fake):
    with fake({"delay_ms": 400}, timeout_s=0.1) as client:
        assert client.post(PATH, json=BODY).status_code == 504
    with fake({"delay_ms": 400}) as client:
        assert client.post(PATH, json=BODY, headers={"x-timeout-ms": "50"}).status_code == 504
        assert client.post(PATH, json=BODY, headers={"x-timeout-ms": "soon"}).status_code == 422
        assert client.post(PATH, json=BODY, headers={"x-timeout-ms": "9000"}).status_code == 200


def test_what_goes_wrong_in_the_model_is_500_and_tells_nothing(fake, capfd, monkeypatch):
    def fail(self, inputs, *_):
        raise RuntimeError(f"a bug at {inputs}")

    with fake({}) as client:
        monkeypatch.setattr("optkit.serving.predictor.Predictor.predict", fail)
        answer = client.post(PATH, json=BODY)
        assert answer.status_code == 500
        monkeypatch.undo()
        assert client.post(PATH, json=BODY).status_code == 200
    logged = capfd.readouterr().err
    assert "RuntimeError" in logged
    assert "fine film" not in logged + answer.text


def test_requests_are_logged_when_asked_for_without_their_text(fake, capfd):
    with fake({}, log_requests=True) as client:
        client.post(PATH, json=BODY)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["path"], line["code"]) == (PATH, 200)
    assert "fine film" not in json.dumps(lines)


def test_draining_ends_connections_and_readiness(fake):
    with fake({}) as client:
        client.gate.draining = True
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200
        answer = client.post(PATH, json=BODY)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
