from __future__ import annotations

import base64

import numpy as np
import pytest

from optkit import load
from tests.tasks.towers import PICTURE, served_towers


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
    "change",
    [
        *({"model": "text-classification"}, {"input": [1, 2]}, {"input": []}, {"dimensions": 33}),
        *({"dimensions": 0}, {"output_dtype": "int4"}, {"prompt_name": "missing"}, {"output_dtype": "int8"}),
    ],
)
def test_what_cannot_be_had_is_refused(client, change):
    body = {"model": "embeddings", "input": "dull", **change}
    assert client.post("/v1/embeddings", json=body).status_code == 422


def test_without_such_a_model_there_is_no_route(folders, serving):
    with serving({"m": folders["text-classification"]}) as client:
        assert client.post("/v1/embeddings", json={"model": "m", "input": "a"}).status_code == 404


def test_fewer_dimensions_bits_and_a_prompt(client, folders):
    """A cut vector has length 1 again where the whole one has; `output_dtype` packs what is left."""
    with load(folders["embeddings"]) as predictor:
        plain = predictor.predict(["a fine film"])[0]
        prompted = predictor.predict(["a fine film"], prompt="the plot: ")[0]
    body = {"model": "embeddings", "input": "a fine film"}

    def asked(**more):
        return client.post("/v1/embeddings", json=body | more).json()["data"][0]["embedding"]

    cut = plain[:12] / (np.linalg.norm(plain[:12]) if abs(np.linalg.norm(plain) - 1) < 1e-3 else 1)
    assert asked(dimensions=12) == pytest.approx(cut.tolist(), abs=1e-4)
    assert asked(prompt="the plot: ") == pytest.approx(prompted.tolist(), abs=1e-4)
    bits = np.packbits(plain > 0)
    assert asked(output_dtype="ubinary") == bits.tolist()
    packed = base64.b64decode(asked(output_dtype="binary", encoding_format="base64"))
    assert (np.frombuffer(packed, "i1").astype(int) + 128).tolist() == bits.tolist()


def test_as_text_embeddings_inference_answers(client, folders):
    with load(folders["embeddings"]) as predictor:
        plain = np.stack(predictor.predict(["a fine film", "dull"]))
    rows = client.post("/embed", json={"inputs": ["a fine film", "dull"]}).json()
    np.testing.assert_allclose(rows, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-4)
    raw = client.post("/embed", json={"inputs": "dull", "normalize": False, "dimensions": 32}).json()
    np.testing.assert_allclose(raw, plain[1:], atol=1e-4)
    long = {"inputs": "film " * 2000, "truncate": False}
    assert client.post("/embed", json=long).status_code == 422
    assert client.post("/embed", json=long | {"truncate": True}).status_code == 200


def test_int8_by_the_ranges_that_the_server_was_started_with(folders, serving, tmp_path):
    with load(folders["embeddings"]) as predictor:
        vectors = predictor.predict(["a fine film", "dull"])
        np.save(tmp_path / "ranges.npy", np.vstack([np.min(vectors, axis=0), np.max(vectors, axis=0)]))
        expected = predictor.predict(["dull"], precision="int8", ranges=tmp_path / "ranges.npy")[0]
    with serving({"m": folders["embeddings"]}, ranges=str(tmp_path / "ranges.npy")) as client:
        body = {"model": "m", "input": "dull", "output_dtype": "int8"}
        found = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
        assert np.abs(np.array(found) - expected.astype(int)).max() <= 1
        assert client.post("/v1/embeddings", json=body | {"dimensions": 8}).status_code == 422


@pytest.fixture(scope="module")
def towers(folders, serving, tmp_path_factory):
    """A client of a model that reads images, too, beside one of texts, and a predictor of the first."""
    folder = served_towers(tmp_path_factory.mktemp("towers") / "clip")
    with serving({"clip": folder, "embeddings": folders["embeddings"]}) as client, load(folder) as predictor:
        yield client, predictor


def test_texts_and_images_as_jinas_clients_send_them(towers):
    client, predictor = towers
    image = base64.b64decode(PICTURE)
    body = {"model": "clip", "input": ["a fine film", {"text": "a fine film"}, {"image": PICTURE}]}
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    text, picture = predictor.predict([{"text": "a fine film"}, image])
    for one, right in zip(answer.json()["data"], (text, text, picture)):
        assert one["embedding"] == pytest.approx(right.tolist(), abs=1e-4)
    assert answer.json()["usage"]["prompt_tokens"] == 10  # of texts
    uri = {"model": "clip", "input": f"data:image/png;base64,{PICTURE}", "dimensions": 3}
    [one] = client.post("/v1/embeddings", json=uri).json()["data"]
    assert one["embedding"] == pytest.approx(picture[:3].tolist(), abs=1e-4)
    [unit] = client.post("/embed", json={"model": "clip", "inputs": {"image": PICTURE}}).json()
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": {"image": "AAAA"}}, "Cannot read an image"),
        ({"input": {"image": "no base64"}}, "an image in base64"),
        ({"input": {"image": "https://example.org/a.png"}}, "an image in base64"),
        ({"input": {"image": PICTURE, "text": "a"}}, "input"),
        ({"input": [{"image": 3}]}, "input"),
        ({"prompt": "a "}, "has no prompts"),
        ({"model": "embeddings", "input": {"image": PICTURE}}, "embeddings reads no images"),
    ],
)
def test_what_is_no_image_is_refused(towers, change, said):
    answer = towers[0].post("/v1/embeddings", json={"model": "clip", "input": "a", **change})
    assert (answer.status_code, said in answer.text) == (422, True), answer.text
