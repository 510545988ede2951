"""A language model over HTTP as a partner in a chat; `optkit.serving.http.openai` is tested here too."""

from __future__ import annotations

import json
import shutil

import pytest

from optkit import load
from optkit.errors import DataError
from tests.serving.artifacts import artifact

PATH, MODEL = "/v1/chat/completions", "causal-lm"
MESSAGES = [{"role": "system", "content": "the cast"}, {"role": "user", "content": " a fine film "}]
PROMPT = "system the cast\nuser a fine film\ngood"


def body(messages=MESSAGES, **more):
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 6, **more}


@pytest.fixture(scope="module")
def expected(folders):
    """The answer behind the prompt that the template writes, which has no token before or behind it."""
    with load(folders[MODEL]) as predictor:
        whole = predictor.task.encoder.whole([PROMPT], special=False)
        predictor.task._tokens = lambda inputs, places=None: whole
        return predictor.predict([PROMPT], max_new_tokens=6)[0]


def test_an_answer_is_that_behind_the_prompt_of_the_template(client, expected):
    found = client.post(PATH, json=body()).json()
    [choice] = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text}
    assert found["object"] == "chat.completion"
    assert found["usage"]["prompt_tokens"] == expected.prompt_tokens == len(PROMPT.split())
    assert found["usage"]["completion_tokens"] == expected.tokens
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in MESSAGES]
    assert client.post(PATH, json=body(parts)).json()["choices"] == [choice]
    more = body(max_tokens=None, max_completion_tokens=6, response_format={"type": "text"}, user="me")
    assert client.post(PATH, json=more).json()["choices"] == [choice]


def test_a_stream_names_the_role_once_and_gives_the_same_text(client, expected):
    answer = client.post(PATH, json=body(stream=True, stream_options={"include_usage": True}))
    *sent, end, nothing = answer.text.split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    first, *pieces, last, usage = [json.loads(event.removeprefix("data: ")) for event in sent]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(e["choices"][0]["delta"]["content"] for e in pieces) == expected.text
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert usage["usage"]["completion_tokens"] == expected.tokens
    assert {e["object"] for e in (first, *pieces, last)} == {"chat.completion.chunk"}


def test_a_text_ends_before_a_stop_sequence(client, expected):
    words = expected.text.split(" ")
    stop = words[-1]
    before = expected.text[: expected.text.index(stop)]
    for stops in (stop, [stop, "nothing like it"]):
        [choice] = client.post(PATH, json=body(stop=stops)).json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (before, "stop")
    events = client.post(PATH, json=body(stop=stop, stream=True)).text.split("\n\n")[1:-2]
    deltas = [json.loads(e.removeprefix("data: "))["choices"][0]["delta"] for e in events]
    assert "".join(delta.get("content", "") for delta in deltas) == before


def test_several_answers_are_drawn_apart_and_the_prompt_is_counted_once(client, expected):
    found = client.post(PATH, json=body(n=6, temperature=2, seed=1, max_tokens=12)).json()
    texts = [choice["message"]["content"] for choice in found["choices"]]
    assert [choice["index"] for choice in found["choices"]] == list(range(6))
    assert len(set(texts)) > 1
    assert found["usage"]["prompt_tokens"] == expected.prompt_tokens
    again = client.post(PATH, json=body(n=6, temperature=2, seed=1, max_tokens=12)).json()
    assert again["choices"] == found["choices"]
    same = client.post(PATH, json=body(n=3)).json()["choices"]
    assert {choice["message"]["content"] for choice in same} == {expected.text}


@pytest.mark.parametrize(
    "change",
    [
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "a"}]},  # the template refuses it
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
        {"messages": [{"role": "user", "content": "good " * 200}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"n": 2, "stream": True},
        {"n": 0},
        {"n": 100_000},
        {"stop": ["a"] * 17},
        {"stop": ""},
        {"max_tokens": 0},
        {"model": "embeddings"},
    ],
)
def test_what_cannot_be_had_is_refused(client, change):
    answer = client.post(PATH, json=body(**change))
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]


def test_a_model_without_a_template_says_so(folders, serving, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.serving.artifacts.CHAT", None)
    bare = artifact(tmp_path / "bare", MODEL)
    with serving({MODEL: bare}) as client:
        answer = client.post(PATH, json=body())
        assert (answer.status_code, "no chat template" in answer.json()["error"]) == (422, True)
    with load(folders[MODEL]) as predictor:
        assert predictor.predict(["a", MESSAGES, "b"], max_new_tokens=3)[1].text
        with pytest.raises(DataError, match="position 2"):
            predictor.predict(["a", MESSAGES, 3], max_new_tokens=3)
    shutil.rmtree(bare)
