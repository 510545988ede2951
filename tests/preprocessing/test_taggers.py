"""Taggers: jieba, a checkpoint that optkit fine-tuned, and spaCy where it is installed."""

from __future__ import annotations

import json
import random

import pytest

from optkit.errors import CheckpointError, MissingDependency
from optkit.preprocessing import run
from optkit.preprocessing.run import preprocess
from optkit.preprocessing.taggers import open_tagger
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import WORDS, write_jsonl

ALL_TRAIN = (1.0, 0.0, 0.0)
KIND = {"film": "NOUN", "cast": "NOUN", "is": "VERB", "not": "PART"}


@pytest.fixture(scope="module")
def tagger(checkpoint, tmp_path_factory):
    """A checkpoint that tells nouns, verbs and particles from the rest, fine-tuned here."""
    folder = tmp_path_factory.mktemp("pos")
    rng = random.Random(0)
    for split, count in (("train", 200), ("validation", 40)):
        texts = [rng.choices(WORDS, k=rng.randint(2, 12)) for _ in range(count)]
        rows = [{"tokens": words, "tags": [KIND.get(word, "X") for word in words]} for words in texts]
        write_jsonl(folder / f"{split}.jsonl", rows)
    settings = FinetuneSettings(epochs=4, batch=16, learning_rate=1e-2, max_length=32)
    made = finetune(checkpoint, folder, folder / "out", settings)
    assert made.lineage[-1]["notes"]["score"] == 1.0
    return made.path


def rows_of(folder):
    return [json.loads(x) for x in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_tagger_fine_tuned_with_optkit_tags_in_optkit(tagger, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SHARD", 2)
    texts = ["the film is good.", "", "cast not bad", "a film"]
    write_jsonl(tmp_path / "raw.jsonl", [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(texts)])
    settings = dict(tag=str(tagger), shares=ALL_TRAIN, keep_empty=True)
    preprocess(tmp_path / "raw.jsonl", tmp_path / "one", **settings)
    preprocess(tmp_path / "raw.jsonl", tmp_path / "two", **settings, processes=2)
    found = rows_of(tmp_path / "one")
    assert found[0]["words"] == ["the", "film", "is", "good", "."]
    assert [row["pos"][:3] for row in found] == [
        ["X", "NOUN", "VERB"],
        [],
        ["NOUN", "PART", "X"],
        ["X", "NOUN"],
    ]
    assert rows_of(tmp_path / "two") == found


def test_tags_as_features_and_of_given_words(tagger, tmp_path):
    write_jsonl(tmp_path / "raw.jsonl", [{"text": "film is", "label": "a"}, {"text": "not", "label": "b"}])
    settings = dict(tag=str(tagger), tag_features=True, shares=ALL_TRAIN)
    preprocess(tmp_path / "raw.jsonl", tmp_path / "out", **settings)
    assert [row["text"] for row in rows_of(tmp_path / "out")] == ["film/NOUN is/VERB", "not/PART"]
    (tmp_path / "x.conll").write_text("film B-W\nis O\n\nnot O\n", encoding="utf-8")
    preprocess(tmp_path / "x.conll", tmp_path / "given", tag=str(tagger), shares=ALL_TRAIN)
    assert [row["pos"] for row in rows_of(tmp_path / "given")] == [["NOUN", "VERB"], ["PART"]]
    assert rows_of(tmp_path / "given")[0]["tags"] == ["B-W", "O"]


def test_what_is_no_tagger_is_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="token-classification checkpoint as the tagger"):
        open_tagger(str(checkpoint))
    with pytest.raises(CheckpointError, match="Unknown tagger 'jeiba'"):
        open_tagger("jeiba")


def test_jieba_tags_texts_and_given_words():
    pytest.importorskip("jieba")
    texts, given = open_tagger("jieba")(["我爱北京", ["北京", "爱"]])
    assert texts == (["我", "爱", "北京"], ["r", "v", "ns"])
    assert given[0] == ["北京", "爱"]
    assert given[1][0] == "ns"


def test_spacy_tags_texts_and_given_words(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is optional")
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("attribute_ruler")
    ruler.add(patterns=[[{"LOWER": "film"}]], attrs={"POS": "NOUN"})
    pipeline.to_disk(tmp_path / "pipeline")
    tagger = open_tagger(f"spacy:{tmp_path / 'pipeline'}")
    texts, given = tagger(["a film, good", ["film", "is"]])
    assert texts == (["a", "film", ",", "good"], ["X", "NOUN", "X", "X"])
    assert given == (["film", "is"], ["NOUN", "X"])


def test_a_missing_spacy_or_pipeline_says_what_to_install():
    with pytest.raises(MissingDependency) as caught:
        open_tagger("spacy:no_such_pipeline")
    assert "install" in str(caught.value.hint).lower()
