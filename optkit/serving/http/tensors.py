"""Tensors of the Open Inference Protocol v2: what each task takes and gives, as JSON and as raw bytes.

Source: https://github.com/kserve/open-inference-protocol and, for raw bytes after the JSON, Triton's
extension_binary_data.md. A BYTES element in raw form is four bytes of its length, then its bytes.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.core.reading import Json
from optkit.errors import DataError
from optkit.tasks.base import Field, Task
from optkit.tasks.labelled import Answer, Input

_NUMPY = {"FP32": "<f4", "INT32": "<i4"}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor in a model's metadata; -1 in `shape` is a size that varies."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True)
class Tensor:
    """`data`: texts or bytes for BYTES, an array otherwise; its first dimension is the inputs."""

    name: str
    datatype: str
    data: Any

    @classmethod
    def of(cls, field: Field, values: Sequence[Any]) -> Tensor:
        """One value per input."""
        data = values if field.datatype == "BYTES" else np.array(values, dtype=_NUMPY[field.datatype])
        return cls(field.name, field.datatype, data)

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


def inputs_of(task: Task) -> list[TensorInfo]:
    """What the model takes, for its metadata."""
    return [_described(field) for field in task.takes if field.required]


def outputs_of(task: Task) -> list[TensorInfo]:
    """What the model gives, for its metadata."""
    return [_described(field) for field in task.gives()]


def examples(task: Task, columns: dict[str, list[Any]], max_text: int) -> list[Input]:
    """Inputs for `predict` from the tensors of a request, by name.

    Raises DataError, also for a text of more than `max_text` characters.
    """
    needed = [field.name for field in task.takes if field.required]
    if set(needed) - set(columns) or set(columns) - {field.name for field in task.takes}:
        raise DataError(f"Expected the inputs {needed}, each once and no others.")
    if len({len(values) for values in columns.values()}) != 1:
        raise DataError("Expected inputs of one length.")
    last = max(i for i, field in enumerate(task.takes) if field.name in columns)
    count = len(next(iter(columns.values())))
    parts: list[list[Any]] = []
    for field in task.takes[: last + 1]:  # what lacks before the last one is None
        values = columns.get(field.name, [None] * count)
        parts.append([x if field.binary or x is None else _text(x, max_text) for x in values])
    return [task.from_fields(row) for row in zip(*parts)]


def tensors(task: Task, answers: Sequence[Answer]) -> list[Tensor]:
    """The answers as the outputs that `outputs_of` names."""
    columns = zip(*(task.fields(answer) for answer in answers))
    return [Tensor.of(field, values) for field, values in zip(task.gives(), columns)]


def from_raw(raw: bytes) -> list[bytes]:
    """The elements of a BYTES tensor in raw form. Raises DataError."""
    elements, offset = [], 0
    while offset < len(raw):
        if offset + 4 > len(raw):
            raise DataError("A BYTES tensor ends within a length.")
        (length,) = struct.unpack_from("<I", raw, offset)
        offset += 4
        if offset + length > len(raw):
            raise DataError("A BYTES tensor ends within an element.")
        elements.append(raw[offset : offset + length])
        offset += length
    return elements


def flat(data: Json) -> list[Json]:
    """JSON data row after row; it may be nested."""
    return [x for part in data for x in flat(part)] if isinstance(data, list) else [data]


def _described(field: Field) -> TensorInfo:
    return TensorInfo(field.name, field.datatype, [-1, *field.shape])


def _text(value: object, longest: int) -> str:
    if not isinstance(value, (str, bytes)):
        raise DataError(f"Expected texts in a BYTES tensor, received a {type(value).__name__}.")
    try:
        text = value if isinstance(value, str) else value.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("Expected texts in UTF-8 in a BYTES tensor.") from None
    if len(text) > longest:
        raise DataError(f"Expected a text of at most {longest} characters, received one of {len(text)}.")
    return text


def b64(array: np.ndarray) -> str:
    """In base64, OpenAI's compact form of a vector: float32, little-endian, or bytes where it has those."""
    kind = array.dtype if array.dtype.itemsize == 1 else "<f4"
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()
