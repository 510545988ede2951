from __future__ import annotations

import base64

import numpy as np
import pytest

from optkit import load


def test_vectors_in_both_forms_and_tokens_counted(client, folders):
    texts = ["a fine film", "dull"]
    with load(folders["embeddings"]) as predictor:
        expected = predictor.predict(texts)
    body = {"model": "embeddings", "input": texts}
    plain = client.post("/v1/embeddings", json=body).json()
    packed = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    for i, vector in enumerate(expected):
        assert plain["data"][i]["index"] == i
        assert plain["data"][i]["embedding"] == pytest.approx(vector.tolist(), abs=1e-4)
        raw = base64.b64decode(packed["data"][i]["embedding"])
        assert np.frombuffer(raw, "<f4") == pytest.approx(vector, abs=1e-4)
    assert plain["usage"] == {"prompt_tokens": 8, "total_tokens": 8}  # [CLS] and [SEP] of each are two
    one = client.post("/v1/embeddings", json={"model": "embeddings", "input": "dull", "dimensions": 32})
    assert len(one.json()["data"]) == 1


@pytest.mark.parametrize(
    "change", [{"model": "text-classification"}, {"input": [1, 2]}, {"input": []}, {"dimensions": 5}]
)
def test_what_cannot_be_had_is_refused(client, change):
    body = {"model": "embeddings", "input": "dull", **change}
    assert client.post("/v1/embeddings", json=body).status_code == 422


def test_without_such_a_model_there_is_no_route(folders, serving):
    with serving({"m": folders["text-classification"]}) as client:
        assert client.post("/v1/embeddings", json={"model": "m", "input": "a"}).status_code == 404
