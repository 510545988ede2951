"""What is asked of vectors, as `SentenceTransformer.encode` and `quantize_embeddings` give it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import optkit
from optkit.errors import DataError, RecipeError
from optkit.tasks.vectors import PRECISIONS, VectorOptions, quantize, read_ranges
from tests.tasks.builders import embedder

library = pytest.importorskip("sentence_transformers")
TEXTS = ["a fine film", "dull", "the plot is thin", "good cast and a bright film"]
PROMPTS = {"query": "the plot ", "document": "", "other": "very good "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = embedder(tmp_path_factory.mktemp("v") / "st", pooling={"pooling_mode_mean_tokens": True})
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    return folder


@pytest.fixture(scope="module")
def theirs(folder):
    return library.SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def ours(folder):
    with optkit.load(folder) as model:
        yield model


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [20, 32])
def test_fewer_bits_are_the_librarys_own(precision, width):
    vectors = np.random.default_rng(0).normal(size=(9, width)).astype(np.float32)
    vectors[:, 3] = 0.25  # a dimension without a range
    ranges = np.vstack([vectors[:4].min(axis=0), vectors[:4].max(axis=0)])
    for given in (None, ranges):
        right = library.quantize_embeddings(vectors, precision, ranges=given)
        found = quantize(vectors, precision, given)
        assert found.dtype == right.dtype
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt_name": "other"},
        {"prompt_name": "query", "precision": "ubinary"},
        {"prompt": "a ", "prompt_name": "other"},
        {"truncate_dim": 12},
        {"truncate_dim": 12, "normalize": True, "precision": "binary"},
        {"truncate_dim": 99},
    ],
)
def test_options_are_those_of_encode(asked, ours, theirs):
    names = {"normalize": "normalize_embeddings"}
    right = theirs.encode(TEXTS, **{names.get(name, name): value for name, value in asked.items()})
    found = np.stack(ours.predict(TEXTS, **asked))
    assert found.dtype == right.dtype
    np.testing.assert_allclose(found, right, atol=1e-5)


def test_queries_and_documents_have_routes_of_their_own(ours, theirs):
    for name, encode in (("query", theirs.encode_query), ("document", theirs.encode_document)):
        np.testing.assert_allclose(ours.predict(TEXTS, prompt_name=name), encode(TEXTS), atol=1e-5)


def test_a_default_prompt_gives_way_to_the_one_that_is_asked_for(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "st")
    settings = {"prompts": PROMPTS, "default_prompt_name": "other"}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(settings))
    right = library.SentenceTransformer(str(copy), device="cpu")
    with optkit.load(copy) as model:
        for asked in ({}, {"prompt_name": "query"}, {"prompt_name": "document"}, {"prompt": ""}):
            np.testing.assert_allclose(model.predict(TEXTS, **asked), right.encode(TEXTS, **asked), atol=1e-5)


def test_the_verb_and_files_take_them_too(folder, ours, tmp_path):
    whole = np.stack(ours.predict(TEXTS))
    np.save(tmp_path / "ranges.npy", np.vstack([whole.min(axis=0), whole.max(axis=0)]))
    asked = {"precision": "int8", "ranges": tmp_path / "ranges.npy"}
    right = quantize(whole, "int8")
    found = optkit.predict(folder, TEXTS, **asked).answers
    assert np.abs(np.stack(found).astype(int) - right).max() <= 1
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")
    optkit.predict(folder, input=tmp_path / "in.txt", output=tmp_path / "out.jsonl", chunk=2, **asked)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["vector"] for row in rows] == [x.tolist() for x in found]
    with pytest.raises(RecipeError, match="--ranges"):
        optkit.predict(folder, input=tmp_path / "in.txt", output=tmp_path / "other.jsonl", precision="int8")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prompt_name": "qury"}, "among query, document, other, received 'qury'"),
        ({"precision": "int4"}, "received 'int4'"),
        ({"truncate_dim": 0}, "truncate_dim"),
        ({"ranges": np.zeros((2, 3))}, "no ranges for float32"),
        ({"temperature": 1.0}, "options of vectors"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, message, ours):
    with pytest.raises(RecipeError, match=message):
        ours.predict(TEXTS, **asked)


def test_ranges_that_do_not_fit(ours, tmp_path):
    with pytest.raises(DataError, match=r"shape \(2, 32\)"):
        ours.predict(TEXTS, precision="int8", ranges=np.zeros((2, 3)))
    with pytest.raises(DataError, match="at least two vectors"):
        ours.predict(TEXTS[:1], precision="uint8")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Cannot read ranges"):
        read_ranges(tmp_path / "pickled.npy")
    assert VectorOptions().vectors([]) == []
