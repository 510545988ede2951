"""Texts become the ids that transformers gives, whatever the checkpoint's files say, and without it."""

from __future__ import annotations

import json
import shutil
import string

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from optkit.data import provoking
from optkit.errors import CheckpointError, DataError
from optkit.models import tokenization
from optkit.models.text import TextEncoder

PIECES = ["the", "plot", "is", "thin", "and", "fine", "film", "caf\u00e9", "cafe", *string.ascii_lowercase]


def word_piece(lowercase: bool = True) -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = dict.fromkeys([*special, *PIECES, *(w.upper() for w in PIECES), *(f"##{w}" for w in PIECES), "."])
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def unigram(special: list[str]) -> Tokenizer:
    pieces = [*special, "\u2581", *(f"\u2581{w}" for w in PIECES), *PIECES, "."]
    scored = [
        (piece, 0.0 if piece in special else -float(i)) for i, piece in enumerate(dict.fromkeys(pieces))
    ]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=special.index("<unk>")))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    return tokenizer


def byte_level(special: list[str], prefix: bool = False) -> Tokenizer:
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
    merges = [("t", "h"), ("th", "e")]
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer


ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
#: name → (tokenizer.json, model_type, tokenizer_config.json)
FAMILIES = {
    "bert": (word_piece, "bert", {"tokenizer_class": "BertTokenizer"}),
    "bert-cased": (
        lambda: word_piece(False),
        "bert",
        {"tokenizer_class": "BertTokenizer", "do_lower_case": False},
    ),
    "bert-says-cased": (word_piece, "bert", {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
    "bert-says-uncased": (lambda: word_piece(False), "bert", {"tokenizer_class": "BertTokenizer"}),
    "bert-keeps-accents": (word_piece, "bert", {"tokenizer_class": "BertTokenizer", "strip_accents": False}),
    "bert-no-types": (
        *(word_piece, "bert"),
        {"tokenizer_class": "BertTokenizer", "model_input_names": ["input_ids", "attention_mask"]},
    ),
    "electra": (word_piece, "electra", {"tokenizer_class": "ElectraTokenizer"}),
    "distilbert": (word_piece, "distilbert", {"tokenizer_class": "DistilBertTokenizer"}),
    "roberta": (lambda: byte_level(ROBERTA), "roberta", {"tokenizer_class": "RobertaTokenizer"}),
    "roberta-prefix": (
        *(lambda: byte_level(ROBERTA), "roberta"),
        {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True},
    ),
    "albert": (
        *(lambda: unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]), "albert"),
        {"tokenizer_class": "AlbertTokenizer"},
    ),
    "xlm-roberta": (
        *(lambda: unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]), "xlm-roberta"),
        {"tokenizer_class": "XLMRobertaTokenizer"},
    ),
    "deberta-v2": (
        *(lambda: unigram(["[PAD]", "[CLS]", "[SEP]", "<unk>", "[MASK]"]), "deberta-v2"),
        {"tokenizer_class": "DebertaV2Tokenizer", "unk_token": "<unk>"},
    ),
    "t5": (
        lambda: unigram(["<pad>", "</s>", "<unk>"]),
        "t5",
        {"tokenizer_class": "T5Tokenizer", "extra_ids": 0},
    ),
    "gpt2": (
        *(lambda: byte_level(["<|endoftext|>"]), "gpt2"),
        {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>"},
    ),
    "qwen2": (lambda: byte_level(["<|endoftext|>"]), "qwen2", {"tokenizer_class": "Qwen2Tokenizer"}),
    "llama": (
        *(lambda: byte_level(["<s>", "</s>", "<unk>"]), "llama"),
        {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "bos_token": "<s>"},
    ),
    "modernbert": (
        *(lambda: byte_level(["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]), "modernbert"),
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]},
    ),
    "mpnet": (
        *(lambda: _mpnet(), "mpnet"),
        {"tokenizer_class": "MPNetTokenizer"},
    ),
}


def _mpnet() -> Tokenizer:
    special = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    words = dict.fromkeys([*special, *PIECES, *(f"##{w}" for w in PIECES), "."])
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def write(folder, name):
    build, kind, stated = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    build().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64, **stated}))
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "max_position_embeddings": 128}))
    return folder


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """opened(name) → our encoder and transformers' tokenizer of the same folder."""
    known = {}

    def get(name):
        from transformers import AutoTokenizer

        if name not in known:
            folder = write(tmp_path_factory.mktemp(name), name)
            theirs = AutoTokenizer.from_pretrained(str(folder))
            known[name] = TextEncoder(folder), theirs, folder
        return known[name]

    return get


def expected(theirs, text):
    given = text if isinstance(text, tuple) else (text,)
    found = theirs(*[[part] for part in given], truncation=True, max_length=64)
    types = found.get("token_type_ids") or [[0] * len(found["input_ids"][0])]
    return found["input_ids"][0], types[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_and_types_are_those_of_transformers(name, opened):
    ours, theirs, _ = opened(name)
    for text in (*provoking.TEXTS, provoking.LONG, *provoking.PAIRS):
        ids, types = expected(theirs, text)
        if not ids:  # nothing that a model could answer
            with pytest.raises(DataError, match="at least one token"):
                ours.encode([text])
            continue
        found = ours.encode([text]).arrays
        assert (found["input_ids"][0].tolist(), found["token_type_ids"][0].tolist()) == (ids, types), text


@pytest.mark.parametrize("name", ["bert-says-cased", "roberta", "albert", "xlm-roberta", "qwen2"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    second=st.none() | st.text(max_size=40),
    most=st.integers(8, 64),
)
def test_any_text_pair_and_length(name, opened, text, second, most):
    _, theirs, folder = opened(name)
    ours = TextEncoder(folder)
    ours.truncate(most)
    second = None if second is None else second.encode("utf-8", "ignore").decode()
    given_ = (text,) if second is None else (text, second)
    found = theirs(*[[part] for part in given_], truncation=True, max_length=most)
    assume(found["input_ids"][0])
    encoded = ours.encode([text if second is None else (text, second)]).arrays
    assert encoded["input_ids"][0].tolist() == found["input_ids"][0]


@pytest.mark.parametrize(
    ("name", "setting"), [("bert-says-cased", "do_lower_case"), ("bert-says-uncased", "BertTokenizer")]
)
def test_files_that_disagree_are_named(name, setting, opened):
    [note] = opened(name)[0].tokenization.notes
    assert "The tokenizer's files disagree" in note
    assert setting in note
    assert opened("bert")[0].tokenization.notes == ()


def test_types_that_are_not_passed_are_named(opened):
    [note] = opened("bert-no-types")[0].tokenization.pair_notes
    assert "model_input_names" in note
    assert opened("bert-no-types")[0].encode([("a", "b")]).arrays["token_type_ids"][0].tolist() == [0] * 5
    assert opened("bert")[0].encode([("a", "b")]).arrays["token_type_ids"][0].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("name", ["bert-says-cased", "albert", "roberta-prefix", "llama"])
def test_what_is_recorded_needs_no_transformers(name, opened, tmp_path, monkeypatch):
    ours, _, folder = opened(name)
    for file in folder.iterdir():
        shutil.copy(file, tmp_path / file.name)
    tokenization.record(tmp_path, folder)
    asked = tokenization.reader(folder)
    monkeypatch.setattr(tokenization, "_ask", None)
    again = TextEncoder(tmp_path)
    for text in (t for t in (*provoking.TEXTS, *provoking.PAIRS) if any(t)):  # of "" some make no token
        for key in ("input_ids", "token_type_ids"):
            assert again.encode([text]).arrays[key][0].tolist() == ours.encode([text]).arrays[key][0].tolist()
    assert tokenization.reader(tmp_path) == asked


def test_another_tokenizer_beside_the_facts_is_asked_for_again(opened, tmp_path):
    _, _, folder = opened("bert")
    for file in folder.iterdir():
        shutil.copy(file, tmp_path / file.name)
    tokenization.record(tmp_path, folder)
    word_piece(False).save(str(tmp_path / "tokenizer.json"))
    [note] = TextEncoder(tmp_path).tokenization.notes
    assert "The tokenizer's files disagree" in note


def test_a_vocabulary_alone_is_converted(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "film"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert TextEncoder(tmp_path).encode(["Fine film"]).arrays["input_ids"][0].tolist() == [2, 5, 6, 3]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="Expected tokenizer.json"):
        TextEncoder(tmp_path)
