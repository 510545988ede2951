"""Half of a surrogate pair, which JSON can write and UTF-8 cannot, anywhere in a body: refused."""

from __future__ import annotations

import copy
import json

import pytest

HALF = "\ud800"
BODIES = {
    "/v1/models/text-classification:predict": {"instances": ["a fine film"]},
    "/v1/models/token-classification:predict": {"instances": [["a", "fine", "film"]]},
    "/v1/models/question-answering:predict": {"instances": [{"question": "who?", "context": "the cast"}]},
    "/v1/models/rerank:predict": {"instances": [{"query": "who?", "documents": ["he"]}]},
    "/v1/rerank": {"model": "rerank", "query": "who?", "documents": ["he", {"text": "she"}]},
    "/v1/models/multiple-choice:predict": {
        "instances": [{"question": "who?", "choices": ["he", "she"], "context": "the cast"}]
    },
    "/zero-shot-classification": {
        "inputs": "a",
        "parameters": {"candidate_labels": ["film", "cast"], "hypothesis_template": "a {}"},
    },
    "/v1/models/embeddings:predict": {"instances": ["a"]},
    "/v1/models/image-classification:predict": {"instances": ["aGVsbG8="]},
    "/v1/models/causal-lm:predict": {"instances": ["a"], "parameters": {"seed": 1}},
    "/v2/models/text-classification/infer": {
        "id": "7",
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
        "outputs": [{"name": "label"}],
    },
    "/v1/embeddings": {"model": "embeddings", "input": ["a"], "user": "me", "encoding_format": "float"},
    "/v1/completions": {"model": "causal-lm", "prompt": "a", "max_tokens": 1, "stop": ["b"], "user": "me"},
}


def _broken(value):
    """`value` with one of its texts, or names, or an unknown name, holding half of a pair."""
    if isinstance(value, str):
        yield f"{value}{HALF}"
        yield HALF
    elif isinstance(value, list):
        for i, item in enumerate(value):
            for broken in _broken(item):
                yield [*value[:i], broken, *value[i + 1 :]]
    elif isinstance(value, dict):
        for key, item in value.items():
            for broken in _broken(item):
                yield {**copy.deepcopy(value), key: broken}
        yield {**value, HALF: 1}


@pytest.mark.parametrize("path", BODIES)
def test_half_of_a_pair_is_refused(client, path):
    for body in _broken(BODIES[path]):
        answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (body, answer.status_code, answer.text)
        assert "\n" not in answer.text.strip()


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "text",
    ["", "[" * 100_000, '{"a":' * 100_000, "NaN", '{"instances": [NaN]}', "9" * 10_000, "\ufeff{}", "null"],
)
def test_no_such_body_is_refused(client, path, text):
    answer = client.post(path, content=text.encode(), headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
