"""A language model over HTTP: OpenAI's completions, and options of generation in the other protocols."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from optkit import load
from optkit.serving.predictor import Predictor

PATH, MODEL = "/v1/completions", "causal-lm"
PROMPTS = ["a fine film", "the plot"]


def body(prompt=PROMPTS[0], **more):
    return {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 5, **more}


@pytest.fixture(scope="module")
def expected(folders):
    with load(folders[MODEL]) as predictor:
        return predictor.predict(PROMPTS, max_new_tokens=5)


def test_a_completion_is_the_predictors_own(client, expected):
    found = client.post(PATH, json=body(PROMPTS)).json()
    assert found["object"] == "text_completion"
    assert [choice["text"] for choice in found["choices"]] == [answer.text for answer in expected]
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    assert {choice["finish_reason"] for choice in found["choices"]} <= {"stop", "length"}
    read, written = sum(a.prompt_tokens for a in expected), sum(a.tokens for a in expected)
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    assert found["usage"] == usage
    assert read >= 5
    one = client.post(PATH, json=body()).json()
    assert [choice["text"] for choice in one["choices"]] == [expected[0].text]


def events(client, **more):
    """What a stream sends, but for its end."""
    answer = client.post(PATH, json=body(stream=True, **more))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    *sent, last, nothing = answer.text.split("\n\n")
    assert (last, nothing) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in sent]


def test_a_stream_gives_the_same_text_in_pieces(client, expected):
    *pieces, last = events(client)
    assert 1 < len(pieces) <= expected[0].tokens  # special tokens have no text
    assert "".join(event["choices"][0]["text"] for event in pieces) == expected[0].text
    assert {event["choices"][0]["finish_reason"] for event in pieces} == {None}
    assert last["choices"][0]["finish_reason"] == "length"
    assert len({event["id"] for event in [*pieces, last]}) == 1
    usage = events(client, stream_options={"include_usage": True})[-1]["usage"]
    assert usage == client.post(PATH, json=body()).json()["usage"]
    drawn = {"temperature": 1.5, "seed": 3, "max_tokens": 20}
    text = client.post(PATH, json=body(**drawn)).json()["choices"][0]["text"]
    assert "".join(e["choices"][0]["text"] for e in events(client, **drawn)) == text


def test_many_streams_beside_other_requests(client, expected):
    def ask(i):
        if i % 2:
            return client.post(PATH, json=body()).json()["choices"][0]["text"]
        return "".join(event["choices"][0]["text"] for event in events(client))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(32))) == {expected[0].text}


def test_a_stream_that_breaks_says_so_in_place_of_its_end(client, monkeypatch):
    def fail(self, prompt, **options):
        yield "a"
        raise RuntimeError("the plot")

    monkeypatch.setattr("optkit.serving.predictor.Predictor.generate", fail)
    answer = client.post(PATH, json=body(stream=True))
    first, last, _ = answer.text.split("\n\n")
    assert '"text": "a"' in first
    assert json.loads(last.removeprefix("data: ")) == {"error": "The server failed to answer."}


def test_a_deadline_holds_while_a_stream_waits_for_its_turn(client, monkeypatch):
    begun, release = threading.Event(), threading.Event()

    def hold(self, prompt, **options):
        yield "a"
        begun.set()
        release.wait(10)
        return SimpleNamespace(finished="end", prompt_tokens=1, tokens=1)

    monkeypatch.setattr("optkit.serving.predictor.Predictor.generate", hold)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, PATH, json=body(stream=True))
        assert begun.wait(10)
        asked = time.monotonic()
        late = client.post(PATH, json=body(stream=True), headers={"x-timeout-ms": "100"})
        assert (late.status_code, time.monotonic() - asked < 5) == (504, True)
        release.set()
        assert "[DONE]" in first.result().text
    assert client.post(PATH, json=body(stream=True)).status_code == 200  # the turn came back


def test_the_other_protocols_give_the_same_text(client, expected):
    parameters = {"max_new_tokens": 5}
    v1 = {"instances": PROMPTS, "parameters": parameters}
    found = client.post(f"/v1/models/{MODEL}:predict", json=v1).json()["predictions"]
    assert [answer["completion"] for answer in found] == [answer.text for answer in expected]
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": PROMPTS}
    v2 = {"inputs": [tensor], "parameters": {**parameters, "binary_data_output": False}}
    outputs = {
        o["name"]: o["data"] for o in client.post(f"/v2/models/{MODEL}/infer", json=v2).json()["outputs"]
    }
    assert outputs["text"] == [answer.text for answer in expected]
    assert outputs["tokens"] == [answer.tokens for answer in expected]


@pytest.mark.parametrize("seeds", [(None,), (None, 1, 2)])
def test_greedy_requests_share_batches_whatever_their_seeds(client, monkeypatch, seeds):
    sizes, predict = [], Predictor.predict

    def slow(self, inputs, *limits, **options):
        sizes.append(len(inputs))
        time.sleep(0.5)
        return predict(self, inputs, *limits, **options)

    monkeypatch.setattr(Predictor, "predict", slow)
    asked = [body(**({} if seed is None else {"seed": seed})) for seed in seeds * (12 // len(seeds))]
    with ThreadPoolExecutor(12) as threads:
        codes = list(threads.map(lambda b: client.post(PATH, json=b).status_code, asked))
    assert codes == [200] * 12
    assert sum(sizes) == 12
    assert len(sizes) <= 4  # the first goes at once, the others wait behind it


def test_a_seed_draws_the_same_text_whoever_else_asks(client):
    """A text drawn depends on its place in its batch, so such a request has one of its own."""
    drawn = [body(PROMPTS * 3, temperature=2, seed=i % 4, max_tokens=8) for i in range(24)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda b: client.post(PATH, json=b).json()["choices"], drawn))
    assert all(found[i] == found[i % 4] for i in range(24))
    assert any(found[0] != other for other in found[1:4])


def test_requests_with_other_options_share_no_batch(client):
    lengths = [1 + i % 3 for i in range(24)]
    with ThreadPoolExecutor(8) as threads:
        asked = [body(max_tokens=n) for n in lengths]
        found = list(
            threads.map(lambda b: client.post(PATH, json=b).json()["usage"]["completion_tokens"], asked)
        )
    assert all(a <= b for a, b in zip(found, lengths))
    assert found[:3] * 8 == found


@pytest.mark.parametrize(
    "change",
    [
        {"model": "embeddings"},
        {"max_tokens": 0},
        {"max_tokens": 257},
        {"temperature": -1},
        {"top_p": 0},
        {"stream": True, "prompt": PROMPTS},
        {"stream": True, "prompt": "good " * 200},
        {"n": 1000},
        {"n": 2, "stream": True},
        {"stop": [""]},
        {"logprobs": 2},
        {"prompt": []},
        {"prompt": [1, 2]},
        {"prompt": "good " * 200},  # leaves no room behind it
    ],
)
def test_what_cannot_be_had_is_refused(client, change):
    answer = client.post(PATH, json=body(**change))
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "parameters", [{"max_new_tokens": 257}, {"temprature": 1}, {"seed": -1}, {"top_k": 0}]
)
def test_options_that_do_not_exist_or_fit_are_refused(client, parameters):
    v1 = {"instances": PROMPTS, "parameters": parameters}
    assert client.post(f"/v1/models/{MODEL}:predict", json=v1).status_code == 422
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    code = client.post(
        f"/v2/models/{MODEL}/infer", json={"inputs": [tensor], "parameters": parameters}
    ).status_code
    assert code == (
        200 if "temprature" in parameters else 422
    )  # v2 keeps other things there, and ignores those


def test_without_such_a_model_there_is_no_route(folders, serving):
    with serving({"m": folders["text-classification"]}) as client:
        assert client.post(PATH, json={"model": "m", "prompt": "a"}).status_code == 404


def test_a_limit_below_the_default_becomes_the_default(folders, serving):
    with serving({MODEL: folders[MODEL]}, max_new_tokens=3) as client:
        found = client.post(f"/v1/models/{MODEL}:predict", json={"instances": ["a fine film"]}).json()
        assert found["predictions"][0]["tokens"] <= 3
