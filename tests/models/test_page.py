"""docs/models.md says what benchmarks/results/models.json holds, and nothing else."""

from __future__ import annotations

import json

from benchmarks import models


def test_the_page_follows_from_the_results():
    rows = json.loads(models.RESULTS.read_text(encoding="utf-8"))
    assert models.PAGE.read_text(encoding="utf-8") == models.page(rows)


def test_a_refusal_stands_once_and_is_pointed_at():
    rows = [
        {
            "family": name,
            "model_type": "x",
            "task": "embeddings",
            "torch": "right",
            "export-onnx": "refused: no.",
        }
        for name in ("A", "B")
    ]
    page = models.page(rows)
    assert page.count("no.") == 1
    assert "| A | embeddings | right | refused (1) |  |  |" in page
    assert "| B | embeddings | right | refused (1) |  |  |" in page


def test_what_is_wrong_is_not_called_right():
    row = {"family": "A", "model_type": "x", "task": "embeddings", "torch": "right", "wrong": "a difference"}
    assert "| A | embeddings | wrong: a difference |" in models.page([row])
