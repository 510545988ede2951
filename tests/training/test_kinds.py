"""Every task goes the whole way on a tiny model: fine-tune, export, INT8, predict."""

from __future__ import annotations

import random

import pytest

from optkit import load
from optkit.artifact import Artifact
from optkit.errors import RecipeError
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.task import Columns, open_task
from optkit.training.finetune import FinetuneSettings, finetune
from optkit.training.kinds import open_kind
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
        open_kind("translation", None, Columns())


def test_labels_come_from_the_training_split(checkpoint, tmp_path):
    kind = open_kind("token-classification", None, Columns())[1]
    import datasets

    rows = datasets.Dataset.from_list(tagged(30, 0))
    config = kind.config(rows, Columns())
    assert list(config["id2label"].values()) == ["O", "B-people", "I-people", "B-work", "I-work"]
    assert kind.task(Artifact.open(checkpoint), config, 32).metric == "f1"
