"""Words behind masks: which are masked, what is right, and transformers' own answers."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.architectures import infer_task
from optkit.passes.base import make
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from tests.tasks.builders import decoder, masked_lm

TEXTS = ["a fine film", "the plot is thin and dull", "not one bright cast", "unknown words entirely"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return masked_lm(tmp_path_factory.mktemp("masked") / "model")


@pytest.fixture
def task(model):
    return open_task(Artifact.open(model))


def table(**columns):
    return datasets.Dataset.from_dict(columns)


def ids(task, text):
    return task.encoder.encode([text]).arrays["input_ids"][0].tolist()


def test_one_word_of_each_text_is_masked_the_same_in_every_run(task):
    labelled = task.read(table(text=TEXTS), Columns())
    assert labelled.sources == TEXTS
    assert labelled.inputs == task.read(table(text=TEXTS[::-1]), Columns()).inputs[::-1]
    for text, masked, reference in zip(TEXTS, labelled.inputs, labelled.references):
        assert masked.count("[MASK]") == 1
        assert masked.replace("[MASK]", task.name_of(reference)) == text or reference == (1,)  # [UNK]
    assert [len(places) for places in labelled.encoded.windows.picks] == [1] * 4


def test_masks_of_ones_own_have_their_words_in_a_column(task):
    rows = table(text=["a [MASK] film", "the [MASK] is [MASK]"], target=[["fine"], ["plot", "thin"]])
    labelled = task.read(rows, Columns())
    assert labelled.columns == Columns("text", None, "target")
    assert [task.name_of(r) for r in labelled.references] == ["fine", "plot thin"]
    one = task.read(table(text=["a [MASK] film"], answer=["fine"]), Columns(label="answer"))
    assert one.references == [labelled.references[0]]


@pytest.mark.parametrize("words", [["fine"], "fine", None, ["fine", "thin", "dull"]])
def test_a_word_for_each_mask_or_the_row_is_named(task, words):
    with pytest.raises(DataError, match="each of the 2 masks .* in row 0"):
        task.read(table(text=["the [MASK] is [MASK]"], target=[words]), Columns())


def test_rows_without_a_word_of_one_token_are_counted_and_none_at_all_is_refused(task):
    labelled = task.read(table(text=["a fine film", "...", ""]), Columns())
    assert (len(labelled.inputs), labelled.skipped) == (1, 2)
    with pytest.raises(DataError, match="received 2 texts without any"):
        task.read(table(text=["...", ""]), Columns())
    two = table(text=["a [MASK] film", "a [MASK] film"], target=["fine", "fine film"])
    assert task.read(two, Columns()).skipped == 1


@pytest.mark.parametrize("text", ["a fine film", "film " * 100 + "[MASK]", "", 7])
def test_a_text_without_a_mask_that_the_model_sees_is_refused(task, text):
    with pytest.raises(DataError, match="position 1"):
        task.encode(["a [MASK]", text])


def test_a_model_without_a_mask_is_none_for_this_task(tmp_path):
    with pytest.raises(CheckpointError, match="mask token"):
        open_task(Artifact.open(decoder(tmp_path)), "fill-mask")


def test_the_metric_counts_masks_and_not_texts(model):
    answers = np.empty(2, dtype=object)
    answers[0], answers[1] = ((5, 6, 7, 8, 9, 10),), ((6, 5), (9, 8))
    for metric, expected in (("accuracy@1", 2 / 3), ("accuracy@5", 1.0)):
        task = open_task(Artifact.open(model), metric=metric)
        assert task.score(answers, [(5,), (5, 9)]) == pytest.approx(expected)
    with pytest.raises(RecipeError, match="does not fit fill-mask"):
        open_task(Artifact.open(model), metric="accuracy@3")


def test_words_and_scores_are_those_of_the_pipeline(model, task):
    import transformers

    network = transformers.AutoModelForMaskedLM.from_pretrained(str(model))
    reader = transformers.AutoTokenizer.from_pretrained(str(model))
    pipeline = transformers.pipeline("fill-mask", model=network, tokenizer=reader)
    texts = ["a fine [MASK]", "the [MASK] is thin and dull and very bright"]
    assert infer_task(Artifact.open(model)) == "fill-mask"
    with open_session(Artifact.open(model)) as session:
        answers = task.decode(infer_all(session, task.encode(texts), 8, 512))
    for text, answer in zip(texts, answers):
        expected = pipeline(text)
        assert [x.word for x in answer.masks[0]] == [x["token_str"].strip() for x in expected]
        assert [x.score for x in answer.masks[0]] == pytest.approx([x["score"] for x in expected], rel=1e-4)


def test_what_is_learned_is_drawn_by_the_seed(task):
    texts = ["the plot is thin and dull and the cast is not very good but bright " * 3] * 40
    labelled = task.read(table(text=texts), Columns())
    assert task.to_learn(labelled, None) is labelled
    one, again, other = (task.to_learn(labelled, seed) for seed in (1, 1, 2))
    assert one.encoded.digest() == again.encoded.digest() != other.encoded.digest()
    right = np.concatenate([np.array(ids(task, text)) for text in texts])
    shown = np.concatenate(one.encoded.arrays["input_ids"])
    wanted = np.concatenate(task.targets(one)["labels"])
    learned = wanted != -100
    assert np.array_equal(wanted[learned], right[learned])
    assert np.array_equal(shown[~learned], right[~learned])
    assert learned.mean() == pytest.approx(0.15, abs=0.02)
    assert (shown[learned] == task.encoder.mask_id).mean() == pytest.approx(0.8, abs=0.1)


def test_given_masks_are_what_is_learned(task):
    labelled = task.read(table(text=["a [MASK] film"], target=["fine"]), Columns())
    assert task.to_learn(labelled, 1) is labelled
    assert [x for x in task.targets(labelled)["labels"][0] if x >= 0] == list(labelled.references[0])


def test_the_words_to_choose_among_are_not_pruned(model, task):
    with pytest.raises(RecipeError, match="per token cannot be compared"):
        make("prune-vocabulary", {}).check(Artifact.open(model), task)
