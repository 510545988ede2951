from __future__ import annotations

import base64
import io
import json
import struct

import numpy as np
import pytest

from optkit import load
from tests.serving.artifacts import INPUTS, TASKS, TEXTS
from tests.serving.http.test_predict import as_json

PATH = "/v2/models/text-classification"


def tensor(name, *texts, **more):
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts), **more}


def raw(*texts) -> bytes:
    return b"".join(struct.pack("<I", len(x)) + x for x in (t.encode() for t in texts))


def test_health_and_metadata(client):
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    found = client.get(PATH).json()
    assert found["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [o["name"] for o in found["outputs"]] == ["label", "score", "scores"]
    (version,) = found["versions"]
    assert client.get(f"{PATH}/versions/{version}").json() == found
    assert client.get(f"{PATH}/versions/{version}/ready").json() == {"ready": True}
    assert client.get(f"{PATH}/versions/1/ready").status_code == 404
    assert client.get("/v2/models/none").status_code == 404


@pytest.mark.parametrize("task", TASKS)
def test_outputs_have_the_names_types_and_shapes_of_the_metadata(task, client):
    image = as_json("image-classification", INPUTS["image-classification"][0])["b64"]
    names = [entry["name"] for entry in client.get(f"/v2/models/{task}").json()["inputs"]]
    several = ['["a film", "dull"]', '["the", "plot"]']
    texts = {"image": [image] * 2, **dict.fromkeys(("documents", "candidate_labels", "choices"), several)}
    inputs = [tensor(name, *texts.get(name, ["a [MASK]", "the [MASK]"])) for name in names]
    answer = client.post(f"/v2/models/{task}/infer", json={"id": "7", "inputs": inputs})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["id"] == "7"
    assert found["model_name"] == task
    for output, stated in zip(found["outputs"], client.get(f"/v2/models/{task}").json()["outputs"]):
        assert (output["name"], output["datatype"]) == (stated["name"], stated["datatype"])
        assert len(output["shape"]) == len(stated["shape"])
        assert all(b in (-1, a) for a, b in zip(output["shape"], stated["shape"]))
        assert len(output["data"]) == np.prod(output["shape"])


def test_pairs_and_nested_data(client):
    pair = [tensor("text", "a"), tensor("text_pair", "b")]
    assert client.post(f"{PATH}/infer", json={"inputs": pair}).status_code == 200
    nested = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["b"]]}
    assert client.post(f"{PATH}/infer", json={"inputs": [nested]}).json()["outputs"][0]["shape"] == [2]


def test_raw_tensors_as_tritons_client_sends_them(client, folders):
    texts, content = TEXTS[:3], raw(*TEXTS[:3])
    entry = {
        "name": "text",
        "shape": [3],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = client.post(f"{PATH}/infer", content=head + content, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    outputs, rest = json.loads(answer.content[:length])["outputs"], answer.content[length:]
    parts = {}
    for output in outputs:
        size = output["parameters"]["binary_data_size"]
        parts[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    with load(folders["text-classification"]) as predictor:
        expected = predictor.predict(texts)
    assert parts["label"] == raw(*(a.label for a in expected))
    scores = np.frombuffer(parts["scores"], "<f4").reshape(3, 2)
    assert scores == pytest.approx(np.array([list(a.scores.values()) for a in expected]), abs=1e-4)


def as_raw(name, content):
    """The body of a request with one raw tensor, and its headers."""
    size = {"binary_data_size": len(content)}
    entry = {"name": name, "shape": [1], "datatype": "BYTES", "parameters": size}
    head = json.dumps({"inputs": [entry]}).encode()
    return head + content, {"inference-header-content-length": str(len(head))}


@pytest.mark.parametrize(
    ("text", "code"), [("a" * 100_000, 200), ("é" * 100_000, 200), ("a" * 100_001, 422), ("é" * 100_001, 422)]
)
def test_a_text_may_have_so_many_characters_in_either_form(client, text, code):
    assert client.post(f"{PATH}/infer", json={"inputs": [tensor("text", text)]}).status_code == code
    content, headers = as_raw("text", raw(text))
    answer = client.post(f"{PATH}/infer", content=content, headers=headers)
    assert answer.status_code == code, answer.text
    assert code == 200 or "100001" in answer.text


def test_an_image_may_be_as_large_as_the_body(client):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 700), dtype=np.uint8)).save(file, "png")
    assert 400_000 < file.tell() < 600_000
    path = "/v2/models/image-classification/infer"
    text = base64.b64encode(file.getvalue()).decode()
    answer = client.post(path, json={"inputs": [tensor("image", text)]})
    assert answer.status_code == 200, answer.text
    content, headers = as_raw("image", struct.pack("<I", file.tell()) + file.getvalue())
    answer = client.post(path, content=content, headers=headers)
    assert answer.status_code == 200, answer.text


def test_only_the_outputs_asked_for(client):
    body = {"inputs": [tensor("text", "a")], "outputs": [{"name": "score"}]}
    assert [o["name"] for o in client.post(f"{PATH}/infer", json=body).json()["outputs"]] == ["score"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [tensor("words", "a")]},
        {"inputs": [tensor("text", "a"), tensor("text", "a")]},
        {"inputs": [tensor("text", "a"), tensor("text_pair", "a", "b")]},
        {"inputs": [{**tensor("text", "a"), "shape": [2]}]},
        {"inputs": [{**tensor("text", "a"), "datatype": "INT64"}]},
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES"}]},
        {"inputs": [tensor("text", "a")], "outputs": [{"name": "none"}]},
        {"inputs": [tensor("text")]},
    ],
)
def test_tensors_that_do_not_fit_are_refused(client, body):
    assert client.post(f"{PATH}/infer", json=body).status_code == 422


@pytest.mark.parametrize(
    ("content", "size", "length"),
    [
        (raw("a"), 4, None),
        (raw("a")[:3], 3, None),
        (struct.pack("<I", 2**31) + b"a", 5, None),
        (struct.pack("<I", 1) + b"\xff", 5, None),
        (raw("a") + b"more", 5, None),
        (raw("a"), -1, None),
        (raw("a"), 5, "9999999"),
        (raw("a"), 5, "-3"),
        (raw("a"), 5, "1e3"),
    ],
)
def test_broken_raw_tensors_are_refused(client, content, size, length):
    entry = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [entry]}).encode()
    headers = {"inference-header-content-length": length or str(len(head))}
    assert client.post(f"{PATH}/infer", content=head + content, headers=headers).status_code == 422
