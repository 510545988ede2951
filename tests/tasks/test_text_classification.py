from __future__ import annotations

import json

import datasets
import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.tasks.base import Columns, open_task
from tests.conftest import write_tokenizer


@pytest.fixture
def make_task(tmp_path):
    """make_task(labels, metric=..., **config) without any weights: a task needs none."""

    def make(labels=("negative", "positive"), metric=None, **config):
        write_tokenizer(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"")
        base = {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        }
        (tmp_path / "config.json").write_text(json.dumps({**base, **config}))
        return open_task(Artifact.open(tmp_path), metric=metric)

    return make


def table(**columns):
    return datasets.Dataset.from_dict(columns)


@pytest.mark.parametrize("label", ["positive", "Positive", 1, "1", 1.0])
def test_labels_match_by_name_or_number(make_task, label):
    read = make_task().read(table(text=["a film"], label=[label]), Columns())
    assert read.references == [1]


def classes(names, *labels):
    """A table whose labels are numbers with names, as the hub has them."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))}
    )
    rows = {"text": ["x"] * len(labels), "label": list(labels)}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize(
    ("model", "names", "wanted"),
    [
        (("negative", "positive"), ("positive", "negative"), [1, 0]),
        (("negative", "positive"), ("Positive", "NEGATIVE"), [1, 0]),
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), ("entailment", "neutral", "contradiction"), [2, 1]),
        (("LABEL_0", "LABEL_1"), ("positive", "negative"), [0, 1]),  # no name in common: the number it is
        (("0", "1"), ("positive", "negative"), [0, 1]),
        (("1", "0"), ("0", "1"), [1, 0]),
    ],
)
def test_label_names_of_the_data_set_win_over_its_numbers(make_task, model, names, wanted):
    assert make_task(model).read(classes(names, 0, 1), Columns()).references == wanted


def test_a_class_that_the_model_lacks_is_no_index(make_task):
    names = ("positive", "neutral", "negative")
    assert make_task().read(classes(names, 0, 2), Columns()).references == [1, 0]
    with pytest.raises(DataError, match="'neutral' in row 1 .*negative, positive"):
        make_task().read(classes(names, 0, 1), Columns())
    with pytest.raises(DataError, match="label -1 in row 0"):  # no label, on the hub
        make_task().read(classes(names, -1), Columns())
    with pytest.raises(DataError, match=r"\(LABEL_0, LABEL_1\), received 3 others: positive, neutral"):
        make_task(("LABEL_0", "LABEL_1")).read(classes(names, 0, 1), Columns())


@pytest.mark.parametrize("label", [7, 7.0, "7"])
def test_a_number_is_a_name_where_a_label_is_called_so(make_task, label):
    task = make_task(("3", "7", "10"))
    assert task.read(table(text=["a film"], label=[label]), Columns()).references == [1]
    assert task.read(table(text=["a film"], label=[2]), Columns()).references == [2]  # an index: no such name


def test_empty_texts_are_counted(make_task):
    assert make_task().read(table(text=["a", " ", ""], label=[0, 1, 1]), Columns()).empty == 2
    pairs = table(text=["", ""], text_pair=["a", ""], label=[0, 1])
    assert make_task().read(pairs, Columns()).empty == 1


@pytest.mark.parametrize("label", ["neutral", 2, -1, 0.5, None, float("nan"), float("inf")])
def test_an_unknown_label_names_row_and_known_labels(make_task, label):
    with pytest.raises(DataError, match="row 0.*negative, positive"):
        make_task().read(table(text=["a film"], label=[label]), Columns())


@pytest.mark.parametrize("named", [True, False])
def test_pairs_are_encoded_with_their_types_where_the_tokenizer_names_them(named, make_task, tmp_path):
    """As transformers: types that `model_input_names` lacks are never passed, so the model takes zeros."""
    task = make_task()
    if named:
        file = tmp_path / "tokenizer_config.json"
        names = ["input_ids", "token_type_ids", "attention_mask"]
        file.write_text(json.dumps({**json.loads(file.read_text()), "model_input_names": names}))
        task = open_task(Artifact.open(tmp_path))
    rows = table(text=["a film"], text_pair=["the plot"], label=["positive"])
    types = task.read(rows, Columns()).encoded.arrays["token_type_ids"][0].tolist()
    assert types == ([0, 0, 0, 0, 1, 1, 1] if named else [0] * 7)


def test_a_tab_divides_a_line_into_a_pair(make_task):
    task = make_task()
    assert task.from_line("a film\tthe plot") == ("a film", "the plot")
    for line in ("a film", "\ta film", "a\tb\tc"):
        assert task.from_line(line) == line


def test_columns_can_be_named(make_task):
    rows = table(x=["a film"], y=["the plot"], z=["positive"])
    read = make_task().read(rows, Columns("x", "y", "z"))
    assert read.sources == ["a film ⟂ the plot"]


def test_a_column_that_is_no_text(make_task):
    with pytest.raises(DataError, match="Expected text in column 'text'"):
        make_task().read(table(text=[1], label=["positive"]), Columns())


def test_longer_texts_are_truncated_and_counted(make_task):
    encoded = make_task().encode(["film " * 200, "film"])
    assert encoded.truncated == 1
    assert encoded.lengths.tolist() == [64, 3]


def test_an_empty_text_still_has_its_special_tokens(make_task):
    assert make_task().encode([""]).lengths.tolist() == [2]


def test_what_is_no_text_is_refused_with_its_place(make_task):
    with pytest.raises(DataError, match="position 1, received int"):
        make_task().encode(["a", 3])


def test_single_label_probabilities_sum_to_one(make_task):
    answer = make_task().decode({"logits": [np.array([0.0, 2.0])]})[0]
    assert answer.label == "positive"
    assert sum(answer.scores.values()) == pytest.approx(1)


def test_multi_label(make_task):
    task = make_task(("a", "b", "c"), problem_type="multi_label_classification")
    assert task.metric == "f1"
    read = task.read(table(text=["x", "y"], label=[["a", "c"], []]), Columns())
    assert read.references == [[1, 0, 1], [0, 0, 0]]
    outputs = {"logits": [np.array([2.0, -1.0, 3.0]), np.array([-1.0, -1.0, 1.0])]}
    assert task.decode(outputs)[0].label == ["a", "c"]
    # true positives 2, false positives 1, false negatives 0
    assert task.score(task.answers(outputs), read.references) == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("count", "label", "wanted"),
    [
        (2, [[0, 1], [0]], [[1, 1], [1, 0]]),
        (2, [[0, 1], []], [[1, 1], [0, 0]]),
        (2, [[0, 1], [0, 0]], [[0, 1], [0, 0]]),
        (2, [[1, 0], [1, 1]], [[1, 0], [1, 1]]),
        (2, [[False, True], [True, False]], [[0, 1], [1, 0]]),
        (2, [[0.0, 1.0]], [[0, 1]]),
        (3, [[0, 1], [1]], [[1, 1, 0], [0, 1, 0]]),
        (3, [[0, 1, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 0]]),
        (1, [[0], [1]], [[0], [1]]),
    ],
)
def test_flags_and_indices_are_told_apart_by_all_rows(make_task, count, label, wanted):
    task = make_task("abc"[:count], problem_type="multi_label_classification")
    assert task.read(table(text=["x"] * len(label), label=label), Columns()).references == wanted


@pytest.mark.parametrize("label", [[[0, 1]], [[0, 1], [1, 0]]])
def test_what_may_be_flags_or_indices_is_not_guessed(make_task, label):
    task = make_task(("a", "b"), problem_type="multi_label_classification")
    with pytest.raises(DataError, match="a flag per label or the labels' numbers") as found:
        task.read(table(text=["x"] * len(label), label=label), Columns())
    assert "by name (a, b)" in found.value.hint
    with pytest.raises(DataError, match="Expected 2 flags, one per label, in column 'label', row 1"):
        task.read(table(text=["x", "y"], label=[[0, 0], [1]]), Columns())


def test_lists_of_class_labels_keep_their_names(make_task):
    task = make_task(("b", "a"), problem_type="multi_label_classification")
    names = datasets.ClassLabel(names=["a", "b"])
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.List(names)})
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [[0, 1], [1]]}, features=features)
    assert task.read(rows, Columns()).references == [[1, 1], [1, 0]]


def test_regression(make_task):
    task = make_task(("value",))
    assert (task.problem, task.metric) == ("regression", "spearman")
    read = task.read(table(text=["x", "y", "z"], label=[1.0, 2.5, 4.0]), Columns())
    outputs = {"logits": [np.array([v]) for v in (0.1, 0.2, 0.9)]}
    assert task.score(task.answers(outputs), read.references) == pytest.approx(1.0)
    low, near, high = task.decode({"logits": [np.array([v]) for v in (1.0, 1.005, 1.1)]})
    assert low.label is None
    assert (task.alike(low, near), task.alike(low, high)) == (1, 0)
    for label in ("high", float("nan"), float("inf")):
        with pytest.raises(DataError, match="Expected a number as the label of row 0"):
            task.read(table(text=["x"], label=[label]), Columns())


@pytest.mark.parametrize("metric", ["f1", "matthews"])
def test_metrics_agree_with_scikit_learn(make_task, metric):
    from sklearn import metrics

    rng = np.random.default_rng(0)
    truth, answers = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    expected = {"f1": metrics.f1_score, "matthews": metrics.matthews_corrcoef}[metric](truth, answers)
    assert make_task(metric=metric).score(answers, truth) == pytest.approx(expected)


@pytest.mark.parametrize("several", [False, True])
def test_the_table_is_scikit_learns_classification_report(make_task, several):
    from sklearn.metrics import classification_report

    labels, rng = ["bad", "good", "so so"], np.random.default_rng(0)
    problem = "multi_label_classification" if several else "single_label_classification"
    task = make_task(labels, problem_type=problem)
    shape = (60, 3) if several else (60,)
    there, found = rng.integers(0, 2 if several else 3, (2, *shape))
    expected = classification_report(there, found, target_names=labels, output_dict=True, zero_division=0)
    if not several:
        micro = expected.pop("accuracy")
        expected["micro avg"] = dict.fromkeys(("precision", "recall", "f1-score"), micro)
    lines = {line.label: line for line in task.table(found, there.tolist())}
    assert list(lines) == [*labels, "micro", "macro", "weighted"]
    for name, line in lines.items():
        for key, value in expected[name if name in labels else f"{name} avg"].items():
            assert getattr(line, key.removesuffix("-score")) == pytest.approx(value), (name, key)


def test_a_metric_of_another_problem_is_refused(make_task):
    with pytest.raises(RecipeError, match="does not fit"):
        make_task(metric="spearman")


def test_an_architecture_without_a_task_names_the_flag(make_task):
    with pytest.raises(CheckpointError) as raised:
        make_task(architectures=["BertForPreTraining"])
    assert "--task" in raised.value.hint


def test_a_broken_tokenizer_is_a_checkpoint_error(make_task, tmp_path):
    make_task()
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        open_task(Artifact.open(tmp_path))


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "b")])
def test_several_numbers_per_text_are_refused(make_checkpoint, labels):
    folder = make_checkpoint("bert", labels, problem_type="regression")
    with pytest.raises(
        CheckpointError, match=f"one output for problem_type regression, received {len(labels)}"
    ):
        open_task(fetch(folder))
