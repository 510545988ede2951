from __future__ import annotations

import json

import datasets
import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, RecipeError
from optkit.tasks import bio_tags
from optkit.tasks.base import Columns, open_task
from tests.conftest import WORDS, write_tokenizer

LABELS = ("O", "B-person", "I-person")


@pytest.fixture
def make_task(tmp_path):
    def make(labels=LABELS, metric=None):
        write_tokenizer(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"")
        config = {
            "architectures": ["BertForTokenClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "max_position_embeddings": 64,
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        return open_task(Artifact.open(tmp_path), metric=metric)

    return make


def table(tokens, tags):
    return datasets.Dataset.from_dict({"tokens": tokens, "tags": tags})


def told(task, labelled):
    """Outputs of a model that is right about every word: its targets as logits."""
    targets = task.targets(labelled)["labels"]
    count = len(task.labels)
    logits = [np.eye(count)[np.maximum(row, 0)] * 9 for row in targets]
    return labelled.encoded.windows.gather({"logits": logits})


@pytest.mark.parametrize("length", [1, 61, 62, 63, 200, 1000])
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_word_is_answered_once_however_long_the_text(make_task, length, side):
    task = make_task()
    task.encoder.truncation_side = side
    words = [WORDS[i % len(WORDS)] for i in range(length)]
    tags = [LABELS[(i + 1) % 3] for i in range(length)]
    labelled = task.read(table([words, ["a"]], [tags, ["O"]]), Columns())
    assert labelled.encoded.lengths.max() <= 64
    outputs = told(task, labelled)
    assert sorted(outputs["words"][0].tolist()) == list(range(length))
    assert task.tags(outputs) == [tuple(tags), ("O",)]
    assert task.score(task.answers(outputs), labelled.references) == 1


def test_words_of_several_subwords_are_tagged_by_their_first(make_task):
    task = make_task()
    labelled = task.read(table([["fine-film", "bad"]], [["B-person", "O"]]), Columns())
    assert labelled.encoded.lengths.tolist() == [6]
    assert labelled.encoded.windows.picks[0].tolist() == [1, 4]


def test_windows_survive_the_disk(make_task, tmp_path):
    task = make_task()
    labelled = task.read(table([["a"] * 150, ["film"]], [["B-person"] * 150, ["O"]]), Columns())
    labelled.encoded.save(tmp_path / "x.npz")
    again = EncodedSet.load(tmp_path / "x.npz").windows
    assert again.owner.tolist() == labelled.encoded.windows.owner.tolist()
    assert [p.tolist() for p in again.picks] == [p.tolist() for p in labelled.encoded.windows.picks]
    assert set(again.carried) == {"characters", "spans", "words"}


def test_entities_have_text_and_offsets(make_task):
    task = make_task()
    text = "the very good film"
    encoded = task.encode([text])
    logits = np.eye(3)[[0, 0, 1, 2, 0, 0]] * 9.0
    answer = task.decode(encoded.windows.gather({"logits": [logits]}))[0]
    entity = answer.entities[0]
    assert (entity.text, entity.label, text[entity.start : entity.end]) == (
        "very good",
        "person",
        "very good",
    )
    assert entity.score > 0.99
    assert answer.label == ["very good/person"]


def test_f1_and_table_are_those_of_seqeval(make_task):
    seqeval = pytest.importorskip("seqeval.metrics")
    rng = np.random.default_rng(0)
    tags = ["O", "O", "B-a", "I-a", "B-b", "I-b"]
    found, there = ([tuple(rng.choice(tags, 12).tolist()) for _ in range(200)] for _ in range(2))
    task = make_task(("O", "B-a", "I-a", "B-b", "I-b"))
    lists = [[list(x) for x in side] for side in (there, found)]
    assert task.score(found, there) == pytest.approx(seqeval.f1_score(*lists))
    expected = seqeval.classification_report(*lists, output_dict=True)
    table = task.table(found, there)
    for line in table[:5]:
        name = line.label if line.label in "ab" else f"{line.label} avg"
        for key, value in (("precision", line.precision), ("recall", line.recall), ("f1-score", line.f1)):
            assert value == pytest.approx(expected[name][key]), (name, key)
        assert line.support == expected[name]["support"]


@pytest.mark.parametrize("outside", [False, True])
def test_the_tables_over_words_are_scikit_learns(make_task, outside):
    """Support, micro, macro and weighted averages over the tags of entities, with O and without."""
    from sklearn.metrics import classification_report

    rng = np.random.default_rng(1)
    tags = ["B-a", "B-b", "I-a", "I-b"]
    found, there = ([tuple(rng.choice(["O", *tags], 12).tolist()) for _ in range(50)] for _ in range(2))
    flat = [[tag for x in side for tag in x] for side in (there, found)]
    wanted = [*tags, "O"] if outside else tags
    expected = classification_report(*flat, labels=wanted, output_dict=True)
    # Of all labels together scikit-learn prints the micro average as the accuracy.
    expected.setdefault(
        "micro avg", dict.fromkeys(("precision", "recall", "f1-score"), expected.get("accuracy"))
    )
    lines = {line.label: line for line in make_task(("O", *tags)).table(found, there)}
    part = "words and O" if outside else "words"
    names = {
        **{tag: tag for tag in wanted},
        **{f"{x}, {part}": f"{x} avg" for x in ("micro", "macro", "weighted")},
    }
    for mine, theirs in names.items():
        for key, value in expected[theirs].items():
            assert getattr(lines[mine], key.removesuffix("-score")) == pytest.approx(value), (mine, key)
    assert [line.label for line in make_task(("O", *tags)).table(found, there)][-4:] == [
        *("O", "micro, words and O", "macro, words and O", "weighted, words and O")
    ]


def test_plain_tags_give_accuracy_and_scikit_learns_table(make_task):
    from sklearn.metrics import classification_report

    rng = np.random.default_rng(0)
    found, there = ([tuple(rng.choice(["DET", "NOUN", "VERB"], 9).tolist()) for _ in range(30)] for _ in "ab")
    task = make_task(("DET", "NOUN", "VERB"))
    flat = [[t for x in side for t in x] for side in (there, found)]
    expected = classification_report(*flat, output_dict=True)
    assert task.metric == "accuracy"
    assert task.score(found, there) == pytest.approx(expected["accuracy"])
    lines = {line.label: line for line in task.table(found, there)}
    for name in ("DET", "NOUN", "VERB"):
        assert lines[name].f1 == pytest.approx(expected[name]["f1-score"])
    assert lines["weighted"].f1 == pytest.approx(expected["weighted avg"]["f1-score"])
    with pytest.raises(RecipeError, match="not BIO"):
        make_task(("DET", "NOUN"), metric="f1")


@pytest.mark.parametrize("tags", [["O", "I-person"], ["B-person", "I-group"], ["X", "O"], ["B-", "O"]])
def test_tags_that_are_no_bio_name_row_and_word(make_task, tags):
    with pytest.raises(DataError, match="row 1 are not valid BIO.*at word [01]"):
        make_task().read(table([["a", "film"]] * 2, [["O", "O"], tags]), Columns())


def test_other_bad_rows(make_task):
    with pytest.raises(DataError, match="2 words, 1 tags"):
        make_task().read(table([["a", "film"]], [["O"]]), Columns())
    with pytest.raises(DataError, match="'B-place' in row 0 is unknown"):
        make_task().read(table([["a"]], [["B-place"]]), Columns())
    with pytest.raises(DataError, match="position 0, received int"):
        make_task().encode([3])


def test_a_word_without_a_token_is_outside(make_task):
    task = make_task()
    outputs = told(task, task.read(table([["a", " ", "film"]], [["B-person", "O", "O"]]), Columns()))
    assert task.tags(outputs) == [("B-person", "O", "O")]


def test_an_i_that_continues_nothing_begins_an_entity():
    assert bio_tags.spans(("I-a", "I-b", "B-b")) == {("a", 0, 0), ("b", 1, 1), ("b", 2, 2)}


#: Words that some tokenizers drop, some split, and some join to what stands before.
STRANGE = [
    ["\u200bAnna", "lives", "in", "\u00a0Berlin", "\u00adnow", "Ma\u0301laga"],
    ["\u200b", "\u00a0", "x", "\ufefffilm\ufeff", "fi\u0301lm", ""],
]
TOKENIZERS = ["bert", "bert-cased", "roberta", "roberta-prefix", "xlm-roberta", "deberta-v2", "gpt2", "llama"]
TOKENIZERS += ["modernbert"]


def folder_of(tmp_path, name):
    """A token classifier's folder with the tokenizer `name`; nobody reads its weights."""
    from tests.models.test_tokenization import write

    folder = write(tmp_path / name, name)
    (folder / "model.safetensors").write_bytes(b"")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BertForTokenClassification"], "id2label": dict(enumerate(LABELS))}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", TOKENIZERS)
def test_given_words_are_tagged_and_learnt_as_word_ids_says(name, tmp_path):
    """The targets of every token are those of transformers' run_ner.py, and so is each word's tag."""
    from transformers import AutoTokenizer

    folder = folder_of(tmp_path, name)
    task = open_task(Artifact.open(folder))
    theirs = AutoTokenizer.from_pretrained(str(folder))
    for words in STRANGE:
        tags = ["B-person"] * len(words)
        labelled = task.read(table([words], [tags]), Columns())
        whole = theirs(words, is_split_into_words=True)
        expected, seen = [], set()
        for word in whole.word_ids():
            first = word is not None and word not in seen
            expected.append(LABELS.index(tags[word]) if first else -100)
            seen.add(word)
        assert labelled.encoded.arrays["input_ids"][0].tolist() == whole["input_ids"]
        assert task.targets(labelled)["labels"][0].tolist() == expected
        assert task.tags(told(task, labelled)) == [
            tuple("B-person" if i in seen else "O" for i in range(len(words)))
        ]


@pytest.mark.parametrize("name", ["bert", "roberta-prefix", "xlm-roberta", "deberta-v2", "albert"])
def test_a_text_is_tagged_at_the_tokens_of_its_words(name, tmp_path):
    """Also where the space before a word is a token of its own: it is learned as the word's first."""
    task = open_task(Artifact.open(folder_of(tmp_path, name)))
    words = ["the", "film", "quite", "fine", "zebra", "x"]
    encoded = task.encode([words, " ".join(words)])
    ids, picks = encoded.arrays["input_ids"], encoded.windows.picks
    assert ids[0].tolist() == ids[1].tolist()
    assert picks[0].tolist() == picks[1].tolist()


@pytest.mark.parametrize("name", ["bert", "bert-cased", "roberta", "xlm-roberta"])
@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("in Ma\u0301laga today", 3, 10),  # decomposed
        ("in M\u00e1laga today", 3, 9),
        ("in \u200bfilm today", 4, 8),
        ("in \u00a0film, today", 4, 8),
        ("e\u0301e\u0301 fi\u0301lm\u0327.", 5, 11),
        ("in \U0001f600 film", 5, 9),
    ],
)
def test_a_place_is_in_characters_of_the_text_as_it_was_given(name, text, begin, end, tmp_path):
    """The word at [begin, end) is answered by its first token, and its marks belong to it."""
    from optkit.tasks.token_classification import word_spans

    task = open_task(Artifact.open(folder_of(tmp_path, name)))
    encoded = task.encode([text])
    spans = word_spans(text)
    place = spans.index((begin, end))
    words = encoded.windows.carried["words"][0]
    logits = np.zeros((len(encoded.arrays["input_ids"][0]), 3))
    logits[encoded.windows.picks[0][words.tolist().index(place)], 1] = 9
    (entity,) = task.decode(encoded.windows.gather({"logits": [logits]}))[0].entities
    assert (entity.start, entity.end, entity.text) == (begin, end, text[begin:end])


@pytest.mark.parametrize("name", ["roberta", "modernbert", "gpt2", "qwen2", "llama"])
def test_byte_level_tokenizers_learn_words_as_they_stand_in_texts(name, tmp_path):
    """Of ModernBERT's class transformers 5 passes over add_prefix_space; its tokenizer.json then has it."""
    from transformers import AutoTokenizer

    from optkit.models.tokenization_worker import change
    from optkit.tasks.token_classification import TokenClassification

    folder, words = folder_of(tmp_path, name), ["the", "film", "quite", "fine"]
    source = Artifact.open(folder)
    config = {"id2label": dict(enumerate(LABELS))}
    learning = TokenClassification.for_training(source, config, None)
    assert learning.tokenizer_settings(source) == {"add_prefix_space": True}
    given, text = learning.encode([words, " ".join(words)]).arrays["input_ids"]
    assert given.tolist() == text.tolist()
    change(folder, learning.tokenizer_settings(source))
    theirs = AutoTokenizer.from_pretrained(str(folder))
    assert theirs(words, is_split_into_words=True)["input_ids"] == given.tolist()
    assert theirs(" ".join(words))["input_ids"] == given.tolist()


def test_a_tokenizer_that_joins_words_whatever_is_set_is_refused_before_the_training(tmp_path):
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    from optkit.errors import CheckpointError
    from optkit.tasks.token_classification import TokenClassification

    folder = folder_of(tmp_path, "modernbert")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u0120")  # as Gemma's, with another sign
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u0120", "merged_with_next")
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="joins them, also with add_prefix_space"):
        TokenClassification.for_training(Artifact.open(folder), {"id2label": dict(enumerate(LABELS))}, None)


@pytest.mark.parametrize("name", ["bert", "roberta-prefix", "xlm-roberta"])
def test_texts_are_tagged_as_transformers_pipeline_tags_them(name, tmp_path):
    """Each word has the tag that the pipeline gives its first token."""
    from transformers import pipeline

    from optkit.runtimes.base import infer_all, open_session
    from tests.benchmarking.reference.models import model

    folder = model(tmp_path, name, "roberta" if "roberta" in name else "bert", "token-classification")
    texts = ["the plot is thin and the film fine", "thin fine film"]
    artifact = Artifact.open(folder)
    task = open_task(artifact)
    with open_session(artifact) as session:
        tags = task.tags(infer_all(session, task.encode(texts), 8, 512))
    raw = pipeline("token-classification", str(folder), ignore_labels=[])
    for text, mine in zip(texts, tags):
        tokens, word_ids = raw(text), raw.tokenizer(text).word_ids()
        by_position = {token["index"]: token["entity"] for token in tokens}
        firsts = {
            word: position for position, word in reversed(list(enumerate(word_ids))) if word is not None
        }
        assert list(mine) == [by_position[position] for _, position in sorted(firsts.items())]
