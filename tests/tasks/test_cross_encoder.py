"""Classifiers of pairs that sentence-transformers wrote: scores as `CrossEncoder(folder).predict` gives them.

With one label they are rerankers (test_rerank.py), unless `--task text-classification` says otherwise.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from optkit.errors import CheckpointError
from optkit.models.architectures import infer_task
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import open_task
from tests.conftest import tiny, write_tokenizer

library = pytest.importorskip("sentence_transformers")

PAIRS = [("a fine film", "the plot"), ("the acting", "a fine film with a plot " * 5), ("Film", "film")]


def classifier(folder, kind="bert", labels=1, **settings):
    import torch
    import transformers

    torch.manual_seed(3)
    folder.mkdir()
    write_tokenizer(folder)
    config = transformers.AutoConfig.for_model(kind, **{**tiny(kind), "num_labels": labels, **settings})
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for weight in model.parameters():
        weight.data.mul_(4.0) if weight.dim() > 1 else None
    model.save_pretrained(str(folder))
    return folder


def saved(tmp_path, kind="bert", labels=1, activation=None, **settings):
    """A folder written by sentence-transformers 6: modules.json with one Transformer."""
    source = classifier(tmp_path / "source", kind, labels, **settings)
    model = library.CrossEncoder(str(source), device="cpu", activation_fn=activation)
    model.save_pretrained(str(tmp_path / "ce"))
    return tmp_path / "ce"


def predicted(folder, **settings):
    return library.CrossEncoder(str(folder), device="cpu").predict(PAIRS, **settings)


def answers(artifact):
    task = open_task(artifact, "text-classification")
    with open_session(artifact) as session:
        return task.decode(infer_all(session, task.encode(PAIRS), 8, 512))


def exported(folder, tmp_path):
    source = fetch(folder)
    return apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(open_task(source)))


def activation(name):
    import torch

    return getattr(torch.nn, name)()


@pytest.mark.parametrize(
    ("kind", "name"), [("bert", None), ("roberta", "Identity"), ("xlm-roberta", "Sigmoid"), ("bert", "Tanh")]
)
def test_a_reranker_gives_the_librarys_score(kind, name, tmp_path):
    folder = saved(tmp_path, kind, activation=activation(name) if name else None)
    expected = predicted(folder)
    assert expected.shape == (3,)
    for artifact in (fetch(folder), exported(folder, tmp_path)):
        np.testing.assert_allclose([a.score for a in answers(artifact)], expected, atol=1e-5)


def test_several_labels_are_probabilities(tmp_path):
    folder = saved(tmp_path, labels=3)
    expected = predicted(folder, apply_softmax=True)
    found = [list(a.scores.values()) for a in answers(fetch(folder))]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "stated",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"},
        {"sbert_ce_default_activation_function": None},
        {"sentence_transformers": {"version": "4.1.0"}},
    ],
)
def test_folders_of_before_version_six(stated, tmp_path):
    folder = classifier(tmp_path / "old")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | stated))
    np.testing.assert_allclose([a.score for a in answers(fetch(folder))], predicted(folder), atol=1e-5)


def test_where_nothing_says_cross_encoder_the_library_reads_the_model_alone(tmp_path):
    """It converts the folder then: its own limit, prompt and activation are not read."""
    folder = saved(tmp_path)
    change(folder, "config_sentence_transformers.json", model_type=None)
    file = folder / "config_sentence_transformers.json"
    settings = json.loads(file.read_text()) | {
        "activation_fn": "torch.nn.Tanh",
        "prompts": {"a": "the plot "},
        "default_prompt_name": "a",
    }
    del settings["model_type"]
    file.write_text(json.dumps(settings))
    change(folder, "sentence_bert_config.json", max_seq_length=5)
    np.testing.assert_allclose([a.score for a in answers(fetch(folder))], predicted(folder), atol=1e-5)


def test_a_prompt_and_a_chat_template_are_refused(tmp_path):
    folder = saved(tmp_path)
    change(folder, "config_sentence_transformers.json", prompts={"a": "the plot "}, default_prompt_name="a")
    with pytest.raises(CheckpointError, match="puts a prompt before texts"):
        open_task(fetch(folder))
    old = classifier(tmp_path / "old", sentence_transformers={"version": "5.1.0"})
    change(old, "tokenizer_config.json", chat_template="{{ messages }}")
    with pytest.raises(CheckpointError, match="has a chat template"):
        open_task(fetch(old))


def change(folder, name, **values):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_classifier_of_one_label_is_no_reranker(tmp_path):
    folder = classifier(tmp_path / "plain")
    assert infer_task(fetch(folder)) == "text-classification"
    assert open_task(fetch(folder)).activation is None


@pytest.mark.parametrize(
    "stated", ["torch.nn.Softmax", "torch.nn.modules.activation.Softshrink", "os.system"]
)
def test_other_activations_are_refused_by_name(stated, tmp_path):
    folder = saved(tmp_path)
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"activation_fn": stated}))
    with pytest.raises(CheckpointError, match=stated.rpartition(".")[2]):
        open_task(fetch(folder))


def test_metrics_compare_scores_with_scores_or_flags(tmp_path):
    task = open_task(fetch(saved(tmp_path)), "text-classification")
    assert task.metric in ("spearman", "pearson")
    logits = {"logits": [np.array([x], np.float32) for x in (-2.0, 0.5, 3.0)]}
    assert task.answers(logits) == pytest.approx([0.1192029, 0.6224593, 0.9525741])
    assert task.score(task.answers(logits), [0, 0, 1]) > 0.8
