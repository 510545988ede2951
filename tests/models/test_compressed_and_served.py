"""Decoders that classify and embed, and a cross-encoder: compressed, predicted and served over HTTP.

Each answer is the one that the model's own library gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

import optkit
from optkit.benchmarking.gate import Gate
from optkit.compression.compress import compress
from optkit.compression.recipe import Recipe
from optkit.errors import DataError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import open_task
from tests.models.build import shake
from tests.models.test_tokenization import FAMILIES

pytest.importorskip("sentence_transformers")

#: Short, longer than the window, emoji and other scripts, empty.
TEXTS = [
    "the film",
    "the plot is thin and fine " * 30,
    "fine film \U0001f3ac\U0001f44d\U0001f3fd caf\u00e9",
    "",
    "\u0444\u0438\u043b\u044c\u043c \u96fb\u5f71 \u0641\u0644\u0645",
    "a",
]
PAIRS = [*zip(TEXTS, [*TEXTS[1:], TEXTS[0]]), ("the film", "the film")]
LABELS = {0: "negative", 1: "neutral", 2: "positive"}
#: Positions of the models; their tokenizers cut to fewer.
POSITIONS, WINDOW = 96, 64
DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
QWEN3 = {**DECODER, "num_key_value_heads": 2, "head_dim": 8, "eos_token_id": 0, "bos_token_id": None}


def write(folder, auto, name, family, ends=(), config=None, tokenizer=None):
    """A checkpoint with random weights and the tokenizer of `family`; `ends` stand behind every text."""
    import torch
    import transformers
    from tokenizers import processors

    folder.mkdir()
    build, _, stated = FAMILIES[family]
    made = build()
    if ends:
        made.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(
                    single=f"$A {ends[0]}", pair=f"$A $B {ends[0]}", special_tokens=[ends]
                ),
            ]
        )
    made.save(str(folder / "tokenizer.json"))
    settings = {"model_max_length": WINDOW, **stated, **(tokenizer or {})}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    sizes = {"vocab_size": made.get_vocab_size(), "max_position_embeddings": POSITIONS}
    model = getattr(transformers, auto).from_config(
        transformers.AutoConfig.for_model(name, **sizes, **(config or {}))
    )
    shake(model.eval())
    model.save_pretrained(str(folder))
    return folder


def qwen3_classifier(folder):
    changes = {"padding_side": "left", "pad_token": "<|endoftext|>"}
    return write(
        *(folder, "AutoModelForSequenceClassification", "qwen3", "qwen2"),
        ends=("<|endoftext|>", 0),
        config={**QWEN3, "id2label": LABELS, "pad_token_id": 0},
        tokenizer=changes,
    )


def gpt2_classifier(folder):
    """Its end of text is none of the vocabulary: transformers' default."""
    config = {"n_embd": 32, "n_layer": 2, "n_head": 2, "id2label": LABELS, "pad_token_id": 0}
    return write(folder, "AutoModelForSequenceClassification", "gpt2", "gpt2", config=config)


def qwen3_embeddings(folder):
    """Qwen3-Embedding's layout: last token, normalised, padded on the left, an unused chat template."""
    changes = {"padding_side": "left", "pad_token": "<|endoftext|>", "chat_template": "{{ messages }}"}
    write(
        *(folder, "AutoModel", "qwen3", "qwen2"),
        ends=("<|endoftext|>", 0),
        config={**QWEN3, "pad_token_id": 0},
        tokenizer=changes,
    )
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path in ("1_Pooling", "2_Normalize"):
        (folder / path).mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    prompts = {"query": "Instruct: find\nQuery:", "document": ""}
    settings = {"prompts": prompts, "default_prompt_name": "query", "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def cross_encoder(folder):
    """As sentence-transformers 6 saves one."""
    from sentence_transformers import CrossEncoder

    source = write(
        folder.with_name("source"),
        *("AutoModelForSequenceClassification", "xlm-roberta", "xlm-roberta"),
        config={**DECODER, "num_labels": 1, "pad_token_id": 1, "type_vocab_size": 1},
    )
    CrossEncoder(str(source), device="cpu").save_pretrained(str(folder))
    return folder


def classified(folder, inputs):
    """The probability of each label by transformers' pipeline, one text at a time."""
    import transformers

    classify = transformers.pipeline("text-classification", str(folder), device="cpu", dtype="float32")
    found = classify(inputs, top_k=None, truncation=True)
    return [[{x["label"]: x["score"] for x in one}[label] for label in LABELS.values()] for one in found]


def embedded(folder, inputs):
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}).encode(
        inputs
    )


def scored(folder, inputs):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu").predict(inputs)


def probabilities(answer):
    return list((answer["scores"] if isinstance(answer, dict) else answer.scores).values())


def vector(answer):
    return answer["vector"] if isinstance(answer, dict) else answer


def score(answer):
    return answer["results"][0]["score"] if isinstance(answer, dict) else answer.score


#: name → (folder, its own library's numbers, ours, inputs)
MODELS = {
    "Qwen3 classifier": (qwen3_classifier, classified, probabilities, TEXTS),
    "GPT-2 classifier": (gpt2_classifier, classified, probabilities, [text for text in TEXTS if text]),
    "Qwen3 embeddings": (qwen3_embeddings, embedded, vector, TEXTS),
    "XLM-R cross-encoder": (cross_encoder, scored, score, PAIRS),
}


@pytest.fixture(scope="module", params=MODELS)
def compressed(request, tmp_path_factory):
    """(what the library answers, the numbers of one of our answers, the inputs, fp32 and INT8 artifacts)"""
    build, library, numbers, inputs = MODELS[request.param]
    home = tmp_path_factory.mktemp("models")
    source = fetch(build(home / "checkpoint"))
    context = make_context(open_task(source))
    fp32 = apply(make("export-onnx", {}), source, home / "fp32", context)
    int8 = apply(make("quantize-dynamic", {}), fp32, home / "int8", context)
    return np.array(library(source.path, inputs)), numbers, inputs, {"fp32": fp32, "int8": int8}


def instances(inputs):
    """As KServe's protocol v1 takes them: a pair is a query with one candidate."""
    return [{"query": x[0], "documents": [x[1]]} if isinstance(x, tuple) else x for x in inputs]


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-4), ("int8", 0.1)])
def test_predicted_and_served_as_its_own_library_answers(compressed, precision, apart):
    from starlette.testclient import TestClient

    from optkit.serving.http.app import make_app
    from optkit.serving.http.settings import ServeSettings

    expected, numbers, inputs, rows = compressed
    folder = rows[precision].path
    predicted = [numbers(answer) for answer in optkit.load(folder).predict(inputs)]
    np.testing.assert_allclose(predicted, expected, atol=apart)
    settings = ServeSettings({"m": folder}, watch_s=0, drain_s=0)
    with TestClient(make_app(settings)) as client:
        answer = client.post("/v1/models/m:predict", json={"instances": instances(inputs)})
        assert answer.status_code == 200, answer.text
        served = [numbers(one) for one in answer.json()["predictions"]]
    np.testing.assert_allclose(served, predicted, atol=1e-5)


def test_a_text_of_no_tokens_is_refused(tmp_path):
    """transformers answers it by its padding, where it stands beside others, and alone not at all."""
    task = open_task(fetch(gpt2_classifier(tmp_path / "gpt2")))
    with pytest.raises(DataError, match="at least one token at position 1, received ''"):
        task.encode(["the film", ""])


def test_a_cross_encoder_through_compress(tmp_path):
    """Its first row is sentence-transformers' own, with which optkit's reading is compared."""
    folder = cross_encoder(tmp_path / "checkpoint")
    report = compress(
        folder,
        Recipe.of(["export-onnx"], Gate(min_agreement=0.9)),
        out=tmp_path / "out",
        limit=40,
        **{"shapes": ("1xdata",), "rounds": 2, "processes": 1, "threads": 1},
    )
    assert report.rows[0].notes["reference"]["by"] == "transformers"
    assert report.chosen == "onnxruntime-fp32"
    assert report.row("onnxruntime-fp32").fidelity["agreement"] == 1.0
    answers = [answer.score for answer in optkit.load(tmp_path / "out").predict(PAIRS)]
    np.testing.assert_allclose(answers, scored(folder, PAIRS), atol=1e-4)
