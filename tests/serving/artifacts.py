"""Small ONNX artifacts of every task, made in milliseconds: an embedding table and one product."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from optkit import tasks
from optkit.core.artifact import Artifact, seal
from optkit.models import tokenization
from tests.conftest import tiny, write_tokenizer
from tests.tasks.builders import write_multi_vector, write_processor, write_splade

ARCHITECTURES = {
    "text-classification": "BertForSequenceClassification",
    "image-classification": "ViTForImageClassification",
    "token-classification": "BertForTokenClassification",
    "question-answering": "BertForQuestionAnswering",
    "embeddings": "BertModel",
    "causal-lm": "GPT2LMHeadModel",
    "fill-mask": "BertForMaskedLM",
    "sparse-embeddings": "BertForMaskedLM",
    "multi-vector-embeddings": "BertModel",
    "rerank": "BertForSequenceClassification",
    "multiple-choice": "BertForMultipleChoice",
    "zero-shot-classification": "BertForSequenceClassification",
}
#: These, whose graphs are of a kind of their own, or two, or for sounds, go the whole way in tests/tasks.
ELSEWHERE = {
    "audio-classification",
    "automatic-speech-recognition",
    "layout-token-classification",
    "object-detection",
    "semantic-segmentation",
    "text2text",
    "zero-shot-image-classification",
}
TASKS = tuple(sorted(set(tasks.TASKS) - ELSEWHERE))
LABELS = {
    "token-classification": ("O", "B-person", "I-person"),
    "rerank": ("relevance",),
    "multiple-choice": ("right",),
    "zero-shot-classification": ("contradiction", "neutral", "entailment"),
}
TEXTS = ("a fine film", "dull", "the plot is thin and the cast is not very good", "", "good " * 200)
#: What a caller gives to `predict`, by task.
INPUTS = {
    "text-classification": list(TEXTS),
    "token-classification": list(TEXTS),
    "embeddings": list(TEXTS),
    "sparse-embeddings": list(TEXTS),
    "multi-vector-embeddings": list(TEXTS),
    "causal-lm": [*TEXTS[:4], "good bad"],
    "question-answering": [("who?", text) for text in TEXTS],
    "fill-mask": [
        "a fine [MASK]",
        "[MASK]",
        "the [MASK] is thin and the [MASK] is good",
        "[MASK] bad",
        "a [MASK]",
    ],
    "rerank": [("who?", [text, "the cast"]) for text in TEXTS],
    "multiple-choice": [("who?", [text, "the cast", "dull"]) for text in TEXTS],
    "zero-shot-classification": [(text, ["film", "cast"]) for text in TEXTS],
    "image-classification": list(np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)),
}


#: How the language model's messages are written; it refuses a conversation that it should begin.
CHAT = (
    "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('The user speaks first.') }}{% endif %}"
    "{% for message in messages %}{{ message.role }} {{ message.content | trim }}\n{% endfor %}good"
)


def artifact(folder: Path, task: str = "text-classification", seed: int = 0, width: int = 32) -> Path:
    """A folder that `optkit.load` opens; `seed` decides the weights, `width` is that of its vectors."""
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    added = {"fill-mask": {"mask_token": "[MASK]"}, "causal-lm": {"chat_template": CHAT}}.get(task, {})
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **added}))
    if task == "sparse-embeddings":
        write_splade(folder)
    if task == "multi-vector-embeddings":
        write_multi_vector(folder, query_expansion={"strategy": "fixed", "length": 8})
    labels = LABELS.get(task, ("negative", "positive"))
    config = {
        **tiny("bert"),
        "architectures": [ARCHITECTURES[task]],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "num_channels": 1,
        "image_size": 8,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_processor(folder, 8, 1)
    write_graph(folder / "model.onnx", task, len(labels), seed, width)
    tokenization.record(folder, folder)
    empty = Artifact(folder, {"lineage": [], "runtime": None, "precision": "fp32"})
    seal(folder, empty, {"pass": "made-for-a-test", "parameters": {}}, format="onnx", task=task)
    return folder


def write_graph(file: Path, task: str, labels: int, seed: int, width: int) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)

    def weights(name: str, *shape: int):
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)

    def tensor(name: str, kind: int, *shape):
        return helper.make_tensor_value_info(name, kind, shape)

    cache = [("past_key_values.0.key", "present.0.key"), ("past_key_values.0.value", "present.0.value")]
    ids = [tensor(n, TensorProto.INT64, "batch", "sequence") for n in ("input_ids", "attention_mask")]
    embedded = [helper.make_node("Gather", ["table", "input_ids"], ["states"])]
    pooled = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["states", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["pooled"]),
    ]
    classified = [*embedded, *pooled, helper.make_node("MatMul", ["pooled", "head"], ["logits"])]
    parts = {
        **dict.fromkeys(
            ("text-classification", "rerank", "multiple-choice", "zero-shot-classification"), classified
        ),
        "token-classification": [*embedded, helper.make_node("MatMul", ["states", "head"], ["logits"])],
        "fill-mask": [*embedded, helper.make_node("MatMul", ["states", "vocabulary"], ["logits"])],
        "embeddings": [*embedded, *pooled, helper.make_node("Identity", ["pooled"], ["sentence_embedding"])],
        "multi-vector-embeddings": [
            *embedded,
            helper.make_node("Identity", ["states"], ["token_embeddings"]),
        ],
        "sparse-embeddings": [
            *embedded,
            *pooled,
            helper.make_node("MatMul", ["pooled", "vocabulary"], ["likely"]),
            helper.make_node("Relu", ["likely"], ["sentence_embedding"]),
        ],
        "question-answering": [
            *embedded,
            helper.make_node("ReduceMax", ["states", "last"], ["start_logits"], keepdims=0),
            helper.make_node("ReduceMin", ["states", "last"], ["end_logits"], keepdims=0),
        ],
        "causal-lm": [
            *embedded,
            helper.make_node("MatMul", ["states", "vocabulary"], ["logits"]),
            helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["numbers", "around"], ["new"]),
            *(helper.make_node("Concat", [past, "new"], [present], axis=2) for past, present in cache),
        ],
        "image-classification": [
            helper.make_node("Flatten", ["pixel_values"], ["flat"]),
            helper.make_node("MatMul", ["flat", "pixels"], ["logits"]),
        ],
    }
    shapes = {
        "text-classification": {"logits": ("batch", labels)},
        "rerank": {"logits": ("batch", labels)},
        "multiple-choice": {"logits": ("batch", labels)},
        "zero-shot-classification": {"logits": ("batch", labels)},
        "token-classification": {"logits": ("batch", "sequence", labels)},
        "fill-mask": {"logits": ("batch", "sequence", 40)},
        "embeddings": {"sentence_embedding": ("batch", width)},
        "sparse-embeddings": {"sentence_embedding": ("batch", 40)},
        "multi-vector-embeddings": {"token_embeddings": ("batch", "sequence", width)},
        "question-answering": {n: ("batch", "sequence") for n in ("start_logits", "end_logits")},
        "image-classification": {"logits": ("batch", labels)},
        "causal-lm": {
            "logits": ("batch", "sequence", 40),
            **{present: ("batch", 1, "all", 1) for _, present in cache},
        },
    }
    inputs = {
        "image-classification": [tensor("pixel_values", TensorProto.FLOAT, "batch", 1, 8, 8)],
        "causal-lm": [*ids, *(tensor(past, TensorProto.FLOAT, "batch", 1, "past", 1) for past, _ in cache)],
    }
    graph = helper.make_graph(
        parts[task],
        "small",
        inputs.get(task, ids),
        [tensor(n, TensorProto.FLOAT, *shape) for n, shape in shapes[task].items()],
        [
            weights("table", 40, width),
            weights("head", width, labels),
            weights("pixels", 64, labels),
            weights("vocabulary", width, 40),
            numpy_helper.from_array(np.array([1, 3]), "around"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "tokens"),
        ],
    )
    used = {name for node in graph.node for name in node.input}
    kept = [x for x in graph.initializer if x.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
