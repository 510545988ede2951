from __future__ import annotations

import subprocess
import sys

import pytest

from optkit import load
from optkit.artifact import Artifact
from optkit.checkpoint import fetch, load_model
from optkit.errors import CheckpointError, DataError
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.task import open_task


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory) -> Artifact:
    source = fetch(checkpoint)
    final = tmp_path_factory.mktemp("p") / "onnx"
    return apply(make("export-onnx", {}), source, final, make_context(open_task(source)))


def test_answers_are_transformers_own(checkpoint, model):
    """The very probabilities of the torch model on the same text."""
    import torch

    texts = ["a fine film", "dull", "the plot is thin and the cast is not very good", ""]
    with load(model.path) as predictor:
        answers = predictor.predict(texts, batch_size=2)
        network = load_model(checkpoint)
        for text, answer in zip(texts, answers):
            feeds = predictor.task.encode([text]).batch([0])
            with torch.inference_mode():
                logits = network(**{k: torch.from_numpy(v) for k, v in feeds.items()}).logits[0]
            for label, p in zip(("negative", "positive"), torch.softmax(logits, 0).tolist()):
                assert answer.scores[label] == pytest.approx(p, abs=1e-4)
            assert answer.label == max(answer.scores, key=answer.scores.get)


def test_pairs_and_nothing(model):
    with load(model.path) as predictor:
        assert len(predictor.predict([("a film", "the plot"), ("good", "bad")])) == 2
        assert predictor.predict([]) == []


def test_one_string_is_refused_rather_than_split(model):
    with load(model.path) as predictor, pytest.raises(DataError, match="one string"):
        predictor.predict("a fine film")


def test_a_damaged_file_is_refused(model, tmp_path):
    import shutil

    copy = shutil.copytree(model.path, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="sha256"):
        load(copy)


def test_no_torch_is_loaded(model):
    code = (
        f"import sys, optkit\nprint(optkit.load({str(model.path)!r}).predict(['a fine film'])[0].label)\n"
        "assert not {'torch', 'transformers', 'datasets', 'onnx', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("negative", "positive")
