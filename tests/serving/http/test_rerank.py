from __future__ import annotations

import pytest

from optkit import load

QUERY, TEXTS = "who?", ["a fine film", "dull", "the plot is thin", "dull"]


@pytest.fixture(scope="module")
def ranking(folders):
    with load(folders["rerank"]) as predictor:
        return predictor.predict_one((QUERY, TEXTS)).results


def test_coheres_shape(client, ranking):
    body = {"model": "rerank", "query": QUERY, "documents": [*TEXTS[:2], {"text": TEXTS[2]}, TEXTS[3]]}
    for path in ("/v1/rerank", "/v2/rerank"):
        answer = client.post(path, json=body).json()
        assert answer["model"] == "rerank"
        found = [(x["index"], x["relevance_score"]) for x in answer["results"]]
        assert found == [(x.index, pytest.approx(x.score, abs=1e-5)) for x in ranking]
    best = client.post("/v1/rerank", json={**body, "top_n": 1, "return_documents": True}).json()["results"]
    assert [(x["index"], x["document"]) for x in best] == [
        (ranking[0].index, {"text": TEXTS[ranking[0].index]})
    ]


def test_the_shape_of_text_embeddings_inference(client, ranking):
    body = {"query": QUERY, "texts": TEXTS, "truncate": True, "return_text": True, "raw_scores": True}
    found = client.post("/rerank", json=body).json()
    expected = [(x.index, pytest.approx(x.logit, abs=1e-5), TEXTS[x.index]) for x in ranking]
    assert [(x["index"], x["score"], x["text"]) for x in found] == expected
    assert "text" not in client.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json()[0]


def test_the_models_own_route_gives_the_same(client, ranking):
    body = {"instances": [{"query": QUERY, "documents": TEXTS}, {"query": QUERY, "documents": TEXTS[:1]}]}
    whole, one = client.post("/v1/models/rerank:predict", json=body).json()["predictions"]
    assert [(x["index"], x["score"]) for x in whole["results"]] == [
        (x.index, pytest.approx(x.score, abs=1e-5)) for x in ranking
    ]
    assert len(one["results"]) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"documents": []}, "documents: List should have at least 1 item"),
        ({"documents": "a text"}, "documents: Input should be a valid array"),
        ({"documents": [{"title": "a"}]}, "documents.0.text: Field required"),
        ({"documents": ["a"] * 10_000}, "128"),
        ({"documents": None}, "either documents or texts"),
        ({"texts": ["a"]}, "either documents or texts"),
        ({"query": ["a"]}, "query"),
        ({"model": "embeddings"}, "model"),
        ({"top_n": 0}, "top_n"),
    ],
)
def test_what_cannot_be_ranked_is_refused(client, change, said):
    answer = client.post("/v1/rerank", json={"query": QUERY, "documents": TEXTS, **change})
    assert answer.status_code == 422
    assert said in answer.text


def test_candidates_of_all_instances_count(client):
    body = {"instances": [{"query": QUERY, "documents": ["a"] * 100}] * 2}
    answer = client.post("/v1/models/rerank:predict", json=body)
    assert (answer.status_code, "at most 128 candidates" in answer.text) == (422, True)


def test_a_giant_document_is_cut_and_one_beyond_the_limit_is_refused(client):
    for length, code in ((20_000, 200), (200_000, 422)):
        answer = client.post("/v1/rerank", json={"query": QUERY, "documents": ["a" * length, "dull"]})
        assert answer.status_code == code, answer.text


def test_without_such_a_model_there_is_no_route(folders, serving):
    with serving({"m": folders["text-classification"]}) as client:
        assert client.post("/v1/rerank", json={"query": "a", "documents": ["b"]}).status_code == 404
