from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from optkit import load
from tests.serving.artifacts import INPUTS, TASKS, TEXTS


def as_json(task, item):
    """An input as a client sends it."""
    if task == "question-answering":
        return {"question": item[0], "context": item[1]}
    if task == "rerank":
        return {"query": item[0], "documents": item[1]}
    if task == "zero-shot-classification":
        return {"text": item[0], "candidate_labels": item[1]}
    if task == "multiple-choice":
        return {"question": item[0], "choices": item[1]}
    if task == "image-classification":
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(item).save(file, "png")
        return {"b64": base64.b64encode(file.getvalue()).decode()}
    return item


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_are_the_predictors_own(task, client, folders):
    instances = [as_json(task, item) for item in INPUTS[task]]
    answer = client.post(f"/v1/models/{task}:predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    with load(folders[task]) as predictor:
        expected = [predictor.task.describe(a) for a in predictor.predict(INPUTS[task])]
    found = answer.json()["predictions"]
    assert [set(x) for x in found] == [set(x) for x in expected]
    if task == "embeddings":
        for one, other in zip(found, expected):
            assert one["vector"] == pytest.approx(other["vector"], abs=1e-4)
    else:
        assert [x.get("label") for x in found] == [x.get("label") for x in expected]


def test_models_are_listed(client):
    found = client.get("/v1/models").json()
    assert found["models"] == list(TASKS)
    assert [entry["id"] for entry in found["data"]] == list(TASKS)
    one = client.get("/v1/models/embeddings").json()
    assert one in found["data"]
    assert one["ready"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"instances": ["good", 1]}, 422),
        ({"instances": []}, 422),
        ({"instances": ["good"] * 129}, 422),
        ({"instances": ["x" * 100_001]}, 422),
        ({"instances": [["a", "b", "c"]]}, 422),
        ({"texts": ["good"]}, 422),
        (["good"], 422),
        (None, 415),
    ],
)
def test_a_body_that_does_not_fit_is_refused_without_repeating_it(client, body, code):
    answer = client.post("/v1/models/text-classification:predict", json=body)
    assert answer.status_code == code
    assert answer.json()["error"]
    assert "good" not in answer.text
    assert "xxx" not in answer.text


def test_the_words_of_a_text_count_together(client):
    def code(words):
        path = "/v1/models/token-classification:predict"
        return client.post(path, json={"instances": [words]}).status_code

    assert code(["good", "film"]) == 200
    assert code(["a"] * 50_000) == 200  # 99,999 characters, joined by spaces
    assert code(["a"] * 50_001) == 422
    assert code([""] * 100_002) == 422
    assert code(["a" * 100_001]) == 422
    pair = {"instances": [["x" * 60_000, "y" * 60_000]]}  # two texts, not one
    assert client.post("/v1/models/text-classification:predict", json=pair).status_code == 200


def test_a_path_is_no_image(client):
    for item in ("/etc/passwd", {"path": "/etc/passwd"}, {"b64": "/etc/passwd"}, {"bytes": None}):
        answer = client.post("/v1/models/image-classification:predict", json={"instances": [item]})
        assert answer.status_code == 422


def test_an_unknown_model_or_method(client):
    assert client.post("/v1/models/none:predict", json={"instances": ["x"]}).status_code == 404
    assert client.get("/v1/models/embeddings:predict").status_code == 405


def test_many_clients_get_their_own_answers(client, folders):
    texts = [f"{a} {b}" for a in TEXTS[:4] for b in "a fine film the plot is thin".split()]  # noqa: SIM905
    with load(folders["text-classification"]) as predictor:
        expected = [answer.label for answer in predictor.predict(texts)]

    def ask(text):
        body = {"instances": [text]}
        return client.post("/v1/models/text-classification:predict", json=body).json()["predictions"][0]

    with ThreadPoolExecutor(16) as threads:
        assert [answer["label"] for answer in threads.map(ask, texts)] == expected


def test_one_bad_input_fails_its_own_request_only(folders, serving):
    """A question that leaves no room for its context is found out in the batch that it shares."""
    bad = {"question": "good " * 60, "context": "film"}
    good = {"question": "who?", "context": "a fine film"}
    models = {"qa": folders["question-answering"]}
    with serving(models, max_delay_ms=20) as client, ThreadPoolExecutor(8) as threads:
        ask = lambda x: client.post("/v1/models/qa:predict", json={"instances": [x]}).status_code  # noqa: E731
        codes = list(threads.map(ask, [bad, good] * 8))
    assert codes == [422, 200] * 8


@pytest.mark.parametrize(
    "kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
def test_a_type_that_a_page_may_send_without_asking_runs_no_model(kind, client):
    for path in ("/v1/models/text-classification:predict", "/v2/models/text-classification/infer"):
        for extra in ({}, {"inference-header-content-length": "2"}):
            if extra and not kind:
                continue
            headers = {"content-type": kind, **extra}
            assert client.post(path, content=b"{}", headers=headers).status_code == 415
