"""Every task goes the whole way on a tiny model: fine-tune, export, INT8, predict."""

from __future__ import annotations

import random

import datasets
import pytest

from optkit import load
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import Columns, open_task, task_to_train
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import WORDS, write_jsonl

FAST = FinetuneSettings(epochs=3, batch=16, learning_rate=5e-3, max_length=32)


def tagged(count, seed):
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens = rng.choices(WORDS, k=rng.randint(3, 60))
        tags = [{"film": "B-work", "cast": "B-people"}.get(token, "O") for token in tokens]
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def asked(count, seed):
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        words = rng.choices([w for w in WORDS if w not in ("good", "bad")], k=rng.randint(3, 40))
        place = rng.randrange(len(words))
        words[place] = rng.choice(["good", "bad"])
        start = len(" ".join(words[:place])) + (place > 0)
        answers = {"text": [words[place]], "answer_start": [start]}
        rows.append({"question": "the plot", "context": " ".join(words), "answers": answers})
    return rows


CASES = {
    "token-classification": (tagged, ["the film is good"], lambda a: a.label == ["film/work"]),
    "question-answering": (asked, [("the plot", "a film is bad and not")], lambda a: a.text == "bad"),
}


@pytest.mark.parametrize("more", [{}, {"boxes": [[[0, 0, 9, 9]]]}])
def test_tagged_words_are_for_token_classification_with_boxes_too(more):
    rows = datasets.Dataset.from_dict({"tokens": [["a"]], "tags": [["X"]], **more})
    assert task_to_train(None, rows, Columns()).name == "token-classification"


@pytest.mark.parametrize("name", CASES)
def test_from_raw_data_to_an_int8_model_that_answers(name, checkpoint, tmp_path):
    make_rows, question, right = CASES[name]
    for split, count in (("train", 240), ("validation", 40)):
        write_jsonl(tmp_path / f"{split}.jsonl", make_rows(count, count))
    made = finetune(checkpoint, tmp_path, tmp_path / "out", FAST)
    assert (made.task, made.lineage[-1]["notes"]["metric"]) == (name, "f1")
    assert made.lineage[-1]["notes"]["score"] > 0.9
    with load(made.path) as model:
        before = model.predict(question)
    assert right(before[0])
    context = make_context(open_task(made))
    exported = apply(make("export-onnx", {}), made, tmp_path / "onnx", context)
    small = apply(make("quantize-dynamic", {}), exported, tmp_path / "int8", context)
    for folder in (exported, small):
        with load(folder.path) as model:
            assert right(model.predict(question)[0])
            assert len(model.predict(question * 3)) == 3


def test_an_unknown_task_is_refused():
    with pytest.raises(RecipeError, match="cannot be fine-tuned"):
        task_to_train("translation", None, Columns())


def test_labels_come_from_the_training_split(checkpoint, tmp_path):
    kind = task_to_train("token-classification", None, Columns())
    rows = datasets.Dataset.from_list(tagged(30, 0))
    config = kind.training_config(rows, Columns())
    assert list(config["id2label"].values()) == ["O", "B-people", "I-people", "B-work", "I-work"]
    assert kind.for_training(Artifact.open(checkpoint), config, 32).metric == "f1"


def labels_of(task, **columns):
    import datasets

    kind = task_to_train(task, None, Columns())
    return list(kind.training_config(datasets.Dataset.from_dict(columns), Columns())["id2label"].values())


def test_numbers_are_ordered_by_size_and_flags_are_counted():
    texts = ["a"] * 12
    assert labels_of("text-classification", text=texts, label=list(range(11, -1, -1))) == [
        str(i) for i in range(12)
    ]
    assert labels_of("text-classification", text=texts[:2], label=[1.0, 2.0]) == ["1", "2"]
    assert labels_of("text-classification", text=["a", "b"], label=[[0, 1, 0], [1, 1, 0]]) == ["0", "1", "2"]
    assert labels_of("text-classification", text=["a", "b"], label=[[2], [10, 0]]) == ["0", "2", "10"]


def test_lists_of_class_labels_keep_their_names():
    import datasets

    names = datasets.ClassLabel(names=["joy", "anger"])
    features = datasets.Features({"text": datasets.Value("string"), "labels": datasets.List(names)})
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "labels": [[0, 1], [1]]}, features=features)
    config = task_to_train("text-classification", None, Columns()).training_config(rows, Columns())
    assert list(config["id2label"].values()) == ["joy", "anger"]
    assert config["problem_type"] == "multi_label_classification"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["x", "x"]}, "at least two classes in column 'label', received: \\['x'\\]"),
        ({"label": [0.5, 0.5]}, "at least two numbers"),
        ({"label": ["x", None]}, "row 1, received none"),
        (
            {"label": [[0, 1, 0], [1, 0]]},
            "Expected 3 flags, as in row 0, in column 'label', row 1, received 2",
        ),
    ],
)
def test_labels_that_teach_nothing(columns, message):
    with pytest.raises(DataError, match=message):
        labels_of("text-classification", text=["a", "b"], **columns)


def test_one_class_only_though_the_data_set_names_two():
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 1]}, features=features)
    with pytest.raises(DataError, match="at least two classes"):
        task_to_train("text-classification", None, Columns()).training_config(rows, Columns())


def test_a_validation_split_with_other_labels_names_row_and_label(checkpoint, tmp_path):
    for split, labels in (("train", ["x", "y"]), ("validation", ["x", "z"])):
        write_jsonl(tmp_path / f"{split}.jsonl", [{"text": "a film", "label": x} for x in labels])
    with pytest.raises(DataError, match="'z' in row 1 is unknown to the model, which has: x, y"):
        finetune(checkpoint, tmp_path, tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()


def test_tags_of_another_scheme_are_refused():
    with pytest.raises(DataError, match="'S-x' in row 1 is not BIO"):
        labels_of("token-classification", tokens=[["a", "b"], ["c"]], tags=[["B-x", "O"], ["S-x"]])
    assert labels_of("token-classification", tokens=[["a", "b"]], tags=[["NOUN", "S-x"]]) == ["NOUN", "S-x"]


def test_texts_alone_are_for_a_language_model():
    import datasets

    def kind_of(**columns):
        return task_to_train(None, datasets.Dataset.from_dict(columns), Columns()).name

    assert kind_of(text=["a"]) == kind_of(content=["a"]) == "causal-lm"
    assert kind_of(text=["a"], label=["x"]) == "text-classification"
    assert kind_of(sentence=["a"], intent=["x"]) == "text-classification"


@pytest.mark.parametrize("name", ["topic", "stars", "polarity", "rating"])
def test_a_column_beside_the_text_that_may_be_the_label_is_asked_about(name, checkpoint, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a film", name: i % 2} for i in range(40)])
    with pytest.raises(DataError, match=f"which column holds the label; columns: text, {name}") as found:
        finetune(checkpoint, tmp_path / "train.jsonl", tmp_path / "out", FAST)
    assert "--label-column" in found.value.hint
    assert "--task causal-lm" in found.value.hint


@pytest.mark.parametrize("task", [None, "causal-lm"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_an_encoder_is_no_language_model(task, kind, make_checkpoint, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a fine film"}] * 40)
    with pytest.raises(CheckpointError, match="Expected a decoder .* received an encoder") as found:
        finetune(make_checkpoint(kind), tmp_path / "train.jsonl", tmp_path / "out", FAST, task=task)
    assert "--label-column" in found.value.hint


def test_a_language_model_learns_its_text(tmp_path):
    """Perplexity falls from that of a random model towards that of the text; rows left out are counted."""
    from tests.conftest import sentences
    from tests.tasks.builders import decoder

    for split, count in (("train", 200), ("validation", 30)):
        texts = [{"text": row["text"]} for row in sentences(count, seed=count)]
        write_jsonl(tmp_path / f"{split}.jsonl", [*texts, {"text": ""}])
    source = decoder(tmp_path / "start", positions=64)
    made = finetune(source, tmp_path, tmp_path / "out", FAST)
    notes = made.lineage[-1]["notes"]
    assert (made.task, notes["metric"], notes["skipped"]) == ("causal-lm", "neg_perplexity", 1)
    assert -12 < notes["score"] < -1  # of 257 bytes; the text has about 18 letters
    with load(made.path) as model:
        assert model.predict(["a fine"], max_new_tokens=5)[0].tokens == 5


def test_a_tokenizer_without_a_space_before_words_gets_one_as_transformers_sets_it(tmp_path):
    """RoBERTa's words would be read as one word in training, and otherwise in a text."""
    import json

    from transformers import AutoTokenizer

    from tests.benchmarking.reference.models import model

    source = model(tmp_path / "roberta", "roberta", "roberta", "token-classification")
    write_jsonl(tmp_path / "train.jsonl", tagged(40, 1))
    once = FinetuneSettings(epochs=1, batch=8, max_length=48)
    made = finetune(source, tmp_path / "train.jsonl", tmp_path / "out", once)
    assert json.loads((made.path / "tokenizer_config.json").read_text())["add_prefix_space"] is True
    words = ["the", "film", "is", "fine"]
    theirs = AutoTokenizer.from_pretrained(str(made.path))
    task = open_task(Artifact.open(made.path))
    for item, wanted in (
        (words, theirs(words, is_split_into_words=True)),
        (" ".join(words), theirs(" ".join(words))),
    ):
        assert task.encode([item]).arrays["input_ids"][0].tolist() == wanted["input_ids"]
    assert theirs(words, is_split_into_words=True)["input_ids"] == theirs(" ".join(words))["input_ids"]
    with load(made.path) as model_of:
        a, b = model_of.predict([words, " ".join(words)])
    assert a == b
