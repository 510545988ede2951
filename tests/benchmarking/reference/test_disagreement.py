"""A checkpoint whose tokenizer files disagree: rows read as transformers does, and the report names it."""

from __future__ import annotations

import json
import shutil

import pytest

from optkit.compression.compress import compress
from tests.benchmarking.reference.models import LABELS, model
from tests.conftest import write_jsonl

QUICK = {"shapes": ("1xdata",), "rounds": 1, "processes": 1, "threads": 1}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No peaks and no probes: others test them."""
    from optkit.benchmarking.evaluation import Evaluator

    monkeypatch.setattr(Evaluator, "roofline", lambda self, models: (None, {}, []))
    monkeypatch.setattr(Evaluator, "probe", lambda self, candidate: {})


def pipeline_accuracy(folder, rows):
    """What transformers' own pipeline scores."""
    from transformers import pipeline

    answers = pipeline("text-classification", str(folder), device="cpu")([row["text"] for row in rows])
    return sum(a["label"] == row["label"] for a, row in zip(answers, rows)) / len(rows)


def compressed(folder, rows, tmp_path):
    data = write_jsonl(tmp_path / "validation.jsonl", rows)
    (tmp_path / "d").mkdir()
    shutil.copy(data, tmp_path / "d" / "validation.jsonl")
    shutil.copy(data, tmp_path / "d" / "train.jsonl")
    return compress(folder, ["export-onnx"], data=tmp_path / "d", out=tmp_path / "out", **QUICK)


def test_a_cased_tokenizer_json_under_a_class_that_lowers_case(tmp_path):
    folder = model(tmp_path / "m", "bert-says-uncased", "bert", "text-classification")
    words = ["THE PLOT", "FINE FILM", "the film IS thin", "CAF\u00c9", "AND", "IS", "THIN FILM"]
    rows = [{"text": f"{a} {b}", "label": "yes"} for a in words for b in words]
    rows = [{**row, "label": LABELS["text-classification"][i % 3]} for i, row in enumerate(rows)]
    right = pipeline_accuracy(folder, rows)
    report = compressed(folder, rows, tmp_path)
    assert [row.score for row in report.rows] == [pytest.approx(right)] * len(report.rows)
    assert any("files disagree" in doubt and "BertTokenizer" in doubt for doubt in report.doubts)


def test_upper_case_sentences_of_the_shared_checkpoint(shared_checkpoint, shared_sst2, tmp_path):
    """.873 as transformers has it, not the .440 of tokenizer.json alone."""
    from optkit.data.dataset import Data

    folder = shutil.copytree(shared_checkpoint, tmp_path / "m")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(tokenizer))
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "do_lower_case": True}))
    table = Data(str(shared_sst2)).split("validation")
    names = json.loads((folder / "config.json").read_text())["id2label"]
    text, label = ("sentence" if "sentence" in table.column_names else "text"), "label"
    rows = [
        {"text": a.upper(), "label": b if isinstance(b, str) else names[str(b)]}
        for a, b in zip(table[text][:150], table[label][:150])
    ]
    right = pipeline_accuracy(folder, rows)
    assert right == pytest.approx(0.873, abs=0.02)
    report = compressed(folder, rows, tmp_path)
    assert [row.score for row in report.rows] == [pytest.approx(right)] * len(report.rows)
    assert any("files disagree" in d and "do_lower_case = true" in d for d in report.doubts)
