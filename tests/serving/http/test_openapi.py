"""Requests made from the server's own description, and requests that no description would make."""

from __future__ import annotations

import random

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serving.http.processes import running

TASKS = ("text-classification", "embeddings", "causal-lm", "rerank", "zero-shot-classification")


@pytest.fixture(scope="module")
def home(folders):
    """The address of a server with a small limit of texts, to be met, and a large one of bodies: schemathesis
    takes 413 for no refusal."""
    models = [f"{task}={folders[task]}" for task in TASKS]
    with running(*models, "--max-text", "1000", "--max-body", "16777216") as server:
        yield f"http://127.0.0.1:{server.port}"
        assert "request failed" not in server.log()


def test_requests_made_from_the_description_find_nothing(home):
    """Every operation, with data that fits its schema and data that does not."""
    described = schemathesis.openapi.from_url(f"{home}/openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        # v2's tensors must have one length, a prompt must leave room behind it, and dimensions and prompts
        # are those of the version that answers, and so a query behind it; a schema cannot say so.
        unsaid = operation.path.endswith(
            (
                "/infer",
                "/completions",
                "/embeddings",
                "/embed",
                "/rerank",
                "causal-lm:predict",
                "rerank:predict",
                "zero-shot-classification",
                "zero-shot-classification:predict",
            )
        )
        skipped = [positive_data_acceptance] if unsaid else []
        has_body = operation.method.upper() == "POST"
        for mode in (GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if has_body else [])):
            _check(operation.as_strategy(generation_mode=mode), skipped)


def _check(cases, skipped) -> None:
    @given(cases)
    @settings(max_examples=8, suppress_health_check=list(HealthCheck))
    def check(case) -> None:
        case.validate_response(case.call(), excluded_checks=skipped)

    check()


ROUTES = ["/v1/embeddings", "/v1/completions", "/v1/chat/completions", "/embed", "/v1/rerank", "/rerank"]
BROKEN = (
    b"",
    b"{",
    b"[" * 100_000,
    b'{"instances": ["\xff\xfe"]}',
    b'{"instances": ["\\ud800"]}',
    b'{"instances": [NaN]}',
    b'{"instances": [' + b"9" * 10_000 + b"]}",
    b"\x00" * 100,
    b'\xef\xbb\xbf{"instances": ["a"]}',
    '{"instances": ["a"]}'.encode("utf-16"),
    b'{"instances": "a", "instances": {}}',
    b'{"instances": [[["a"]]]}',
)


@pytest.mark.parametrize("path", [f"/v1/models/{t}:predict" for t in TASKS] + ROUTES)
def test_broken_bodies_are_the_clients_fault(home, path):
    headers = {"content-type": "application/json"}
    for body in BROKEN:
        assert 400 <= requests.post(home + path, data=body, headers=headers).status_code < 500
    models = {"/v1/completions": "causal-lm", "/v1/rerank": "rerank", "/rerank": "rerank"}
    models["/v1/chat/completions"] = "causal-lm"
    ranked = {"query": "\u0000", "documents": ["\u0000"]}
    fitted = {"text": "\u0000", "candidate_labels": ["\u0000", "a"]}
    good = {
        "instances": [ranked if "rerank" in path else fitted if "zero" in path else "null \u0000 byte"],
        "input": "\u0000",
        "prompt": "\u0000",
        "messages": [{"role": "user", "content": "\u0000"}],
    }
    good |= {"model": models.get(path, "embeddings"), **ranked}
    good["inputs"] = "\u0000"
    assert requests.post(home + path, json=good).status_code == 200


def test_random_damage_never_breaks_the_server(home):
    headers = {"content-type": "application/json"}
    session = requests.Session()
    start = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a fine film"]}]}'
    for seed in range(300):
        chance = random.Random(seed)
        body = bytearray(start)
        for _ in range(chance.randint(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        answer = session.post(f"{home}/v2/models/embeddings/infer", data=bytes(body), headers=headers)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, body
