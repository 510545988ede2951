"""Marian's and M2M100's tokenizers: the ids and texts of transformers, without it."""

from __future__ import annotations

import json
import sys

import pytest

import optkit
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, MissingDependency
from optkit.models import sentence_pieces, tokenization
from optkit.models.text import TextEncoder
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.serving.package.requirements import extras_of
from optkit.tasks.base import open_task
from tests import seq2seq

TEXTS = ["a fine film", "", "what a dull \u00df\u00fc plot \u4f60", ">>de<< the film", "good " * 60]


@pytest.fixture(scope="module", params=["Marian", "M2M100"])
def source(request, tmp_path_factory):
    writer = {"Marian": seq2seq.marian_pieces, "M2M100": seq2seq.m2m_pieces}[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return seq2seq.checkpoint(request.param, folder, beams=1, tokenizer=writer)


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    artifact = Artifact.open(source)
    out = tmp_path_factory.mktemp("exported") / "onnx"
    return apply(make("export-onnx", {}), artifact, out, make_context(open_task(artifact)))


def test_ids_and_texts_are_those_of_transformers_which_is_not_there(source, exported, monkeypatch):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(source))
    monkeypatch.setitem(sys.modules, "transformers", None)
    encoder = TextEncoder(exported.path)
    assert not (exported.path / "tokenizer.json").exists()
    encoded = encoder.encode(TEXTS)
    rows = theirs(TEXTS, truncation=True)["input_ids"]
    assert [row.tolist() for row in encoded.arrays["input_ids"]] == rows
    assert encoded.truncated == 1
    assert encoder.whole(TEXTS) == theirs(TEXTS)["input_ids"]
    assert [encoder.text(row) for row in rows] == theirs.batch_decode(rows, skip_special_tokens=True)
    with pytest.raises(DataError, match="half of a surrogate pair"):
        encoder.encode(["a \ud800 b"])
    with pytest.raises(CheckpointError, match="no pairs"):
        encoder.encode([("a", "b")])


def test_written_texts_are_those_of_generate(source, exported):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    theirs, model = (
        AutoTokenizer.from_pretrained(str(source)),
        AutoModelForSeq2SeqLM.from_pretrained(str(source)),
    )
    feeds = theirs(TEXTS[:4], padding=True, return_tensors="pt")
    expected = theirs.batch_decode(model.generate(**feeds), skip_special_tokens=True)
    assert any(expected)
    with optkit.load(exported.path) as predictor:
        assert [written.text for written in predictor.predict(TEXTS[:4])] == expected
        assert "".join(predictor.generate(TEXTS[0])) == expected[0]
    assert "sentencepiece" in extras_of(exported)


def test_a_checkpoint_made_of_it_opens_in_transformers(source, tmp_path):
    from transformers import AutoTokenizer

    out = tmp_path / "model"
    out.mkdir()
    for name in ("config.json", "model.safetensors"):
        (out / name).write_bytes((source / name).read_bytes())
    tokenization.record(out, source)
    expected = AutoTokenizer.from_pretrained(str(source))(TEXTS)["input_ids"]
    assert AutoTokenizer.from_pretrained(str(out))(TEXTS)["input_ids"] == expected
    assert TextEncoder(out).whole(TEXTS) == expected


def test_what_is_not_followed_is_refused(source, exported, tmp_path, monkeypatch):
    def changed(**settings):
        folder = tmp_path / "-".join(settings)
        folder.mkdir()
        for file in source.iterdir():
            if file.suffix != ".safetensors":
                (folder / file.name).write_bytes(file.read_bytes())
        stated = json.loads((source / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**stated, **settings}))
        return folder

    with pytest.raises(CheckpointError, match="sp_model_kwargs"):
        tokenization.read(changed(sp_model_kwargs={"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}))
    told = {"content": "<s>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    with pytest.raises(CheckpointError, match="lstrip"):
        tokenization.read(changed(added_tokens_decoder={"3": {**told, "special": True}}))
    reading = tokenization.read(exported.path)
    value = json.loads(reading.tokenizer)
    for key, wrong in (("encoder_model", "AAAA"), ("encoder_ids", {"a": -1}), ("more", 1)):
        with pytest.raises(CheckpointError):
            sentence_pieces.PieceTokenizer(tmp_path, json.dumps({**value, key: wrong}).encode())
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingDependency, match="sentencepiece"):
        TextEncoder(exported.path)


@pytest.mark.parametrize(("kind", "file"), [("T5", "spiece.model"), ("MBart", "sentencepiece.bpe.model")])
def test_others_that_read_sentencepiece_files_become_tokenizers(kind, file, tmp_path):
    from transformers import AutoTokenizer

    (tmp_path / file).write_bytes(seq2seq.trained(seq2seq._ENGLISH, "unigram"))
    names = {"tokenizer_class": f"{kind}Tokenizer", "extra_ids": 3, "model_max_length": 64}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind.lower()}))
    reading = tokenization.read(tmp_path)
    assert not reading.pieces
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))(TEXTS)["input_ids"]
    assert TextEncoder(tmp_path).whole(TEXTS) == theirs
