"""Tensors of the Open Inference Protocol v2: what each task takes and gives, as JSON and as raw bytes.

Source: https://github.com/kserve/open-inference-protocol and, for raw bytes after the JSON, Triton's
extension_binary_data.md. A BYTES element in raw form is four bytes of its length, then its bytes.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.errors import DataError
from optkit.task import Task

_NUMPY = {"FP32": "<f4", "INT32": "<i4"}


@dataclass(frozen=True)
class Tensor:
    """`data`: texts or bytes for BYTES, an array otherwise; its first dimension is the inputs."""

    name: str
    datatype: str
    data: Any

    @property
    def shape(self) -> list[int]:
        return [len(self.data)] if self.datatype == "BYTES" else list(self.data.shape)

    def values(self) -> list[Any]:
        """For JSON, row after row."""
        return list(self.data) if self.datatype == "BYTES" else self.data.reshape(-1).tolist()

    def raw(self) -> bytes:
        if self.datatype == "BYTES":
            return b"".join(struct.pack("<I", len(x)) + x for x in (text.encode() for text in self.data))
        return np.ascontiguousarray(self.data, dtype=_NUMPY[self.datatype]).tobytes()


def inputs_of(task: Task) -> list[dict[str, Any]]:
    """What the model takes, for its metadata."""
    names = {"question-answering": ("question", "context"), "image-classification": ("image",)}
    return [{"name": n, "datatype": "BYTES", "shape": [-1]} for n in names.get(task.name, ("text",))]


def outputs_of(task: Task) -> list[dict[str, Any]]:
    """What the model gives, for its metadata."""
    columns = {
        "embeddings": [("embedding", "FP32", [-1, -1])],
        "token-classification": [("entities", "BYTES", [-1])],
        "question-answering": [
            ("answer", "BYTES", [-1]),
            ("start", "INT32", [-1]),
            ("end", "INT32", [-1]),
            ("score", "FP32", [-1]),
        ],
    }
    labels = len(getattr(task, "labels", ()))
    classes = [("label", "BYTES", [-1]), ("score", "FP32", [-1]), ("scores", "FP32", [-1, labels])]
    found = columns.get(task.name, classes)
    return [{"name": n, "datatype": kind, "shape": shape} for n, kind, shape in found]


def examples(task: Task, columns: dict[str, list[Any]]) -> list[Any]:
    """Inputs for `predict` from the tensors of a request, by name. Raises DataError."""
    needed = [spec["name"] for spec in inputs_of(task)]
    allowed = [*needed, *(["text_pair"] if task.name == "text-classification" else [])]
    if set(needed) - set(columns) or set(columns) - set(allowed):
        raise DataError(f"Expected the inputs {needed}, received {sorted(columns)[:8]}.")
    if len({len(values) for values in columns.values()}) != 1:
        raise DataError("Expected inputs of one length.")
    if task.name == "image-classification":
        return [x if isinstance(x, bytes) else task.from_json({"b64": x}) for x in columns["image"]]
    texts = {name: [_text(x) for x in values] for name, values in columns.items()}
    if len(texts) == 1:
        return texts[needed[0]]
    return list(zip(*(texts[name] for name in allowed if name in texts)))


def tensors(task: Task, answers: Sequence[Any]) -> list[Tensor]:
    """The answers as the outputs that `outputs_of` names."""
    if task.name == "embeddings":
        return [Tensor("embedding", "FP32", np.stack(list(answers)).astype(np.float32))]
    if task.name == "token-classification":
        entities = [json.dumps(task.describe(a)["entities"], ensure_ascii=False) for a in answers]
        return [Tensor("entities", "BYTES", entities)]
    score = Tensor("score", "FP32", np.array([a.score for a in answers], dtype=np.float32))
    if task.name == "question-answering":
        places = [
            Tensor(n, "INT32", np.array([getattr(a, n) for a in answers], np.int32)) for n in ("start", "end")
        ]
        return [Tensor("answer", "BYTES", [a.text for a in answers]), *places, score]
    labels = [a.label if isinstance(a.label, str) else json.dumps(a.label or []) for a in answers]
    scores = np.array([list(a.scores.values()) for a in answers], dtype=np.float32)
    return [Tensor("label", "BYTES", labels), score, Tensor("scores", "FP32", scores)]


def from_raw(raw: bytes) -> list[bytes]:
    """The elements of a BYTES tensor in raw form. Raises DataError."""
    found, place = [], 0
    while place < len(raw):
        if place + 4 > len(raw):
            raise DataError("A BYTES tensor ends within a length.")
        (length,) = struct.unpack_from("<I", raw, place)
        place += 4
        if place + length > len(raw):
            raise DataError("A BYTES tensor ends within an element.")
        found.append(raw[place : place + length])
        place += length
    return found


def flat(data: Any) -> list[Any]:
    """JSON data row after row; it may be nested."""
    return [x for part in data for x in flat(part)] if isinstance(data, list) else [data]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise DataError(f"Expected texts in a BYTES tensor, received a {type(value).__name__}.")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("Expected texts in UTF-8 in a BYTES tensor.") from None


def b64(array: np.ndarray) -> str:
    """float32, little-endian, in base64: OpenAI's compact form of a vector."""
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()
