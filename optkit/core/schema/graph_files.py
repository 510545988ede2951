"""What a graph asks for beside itself, read from the file's own bytes, before any runtime opens it.

A runtime opens whatever path an ONNX initializer names as its weights, and reads where an OpenVINO constant
says in the weights. Here every location has to be a file of the folder, and every offset within the file.
Source: onnx.proto, the protocol buffers wire format, and the OpenVINO intermediate representation.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from optkit.core.files import belongs
from optkit.core.reading import check_regular, read_bytes
from optkit.errors import CheckpointError

#: Message → field number → the message that it holds, for those on the way to a name.
_MESSAGES = {
    "model": {7: "graph", 25: "function", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
#: Operators that run what their attributes name, or may never end. No pass of optkit's writes one.
_REFUSED = {b"EPContext": "opens another file", b"Loop": "may never end"}
_DEPTH = 32
#: A graph of a large language model has some 100,000 fields; each takes a microsecond to pass.
_MOST_FIELDS = 5_000_000
_CONSTANT = re.compile(rb'\boffset="(\d{1,19})"[^>]*?\bsize="(\d{1,19})"')


def check_graphs(files: Iterable[Path]) -> None:
    """Check the ONNX and OpenVINO graphs among the files of a model. Raises CheckpointError."""
    for file in files:
        if file.suffix == ".onnx":
            check_graph(file)
        elif file.suffix == ".xml":
            check_intermediate(file)


def check_intermediate(file: Path) -> None:
    """Raise CheckpointError where the OpenVINO model in `file` reads behind its weights, or has entities."""
    text, weights = read_bytes(file, CheckpointError), file.with_suffix(".bin")
    size = weights.stat().st_size if weights.is_file() else 0
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise CheckpointError(f"Expected an OpenVINO model without a document type in {str(file)!r}.")
    for match in _CONSTANT.finditer(text):
        offset, length = int(match[1]), int(match[2])
        if offset + length > size:
            raise CheckpointError(
                f"Expected weights within the {size:,} bytes of {weights.name!r} in {str(file.parent)!r}, "
                f"received {length:,} bytes at {offset:,}.",
                hint="The folder is not whole; copy it again.",
            )


def check_graph(file: Path) -> set[str]:
    """The names of the files beside `file` that hold weights of the ONNX model in it.

    Raises CheckpointError for a location outside of the folder, for operators in `_REFUSED`, and for what is
    no ONNX model.
    """
    outside: set[str] = set()
    with file.open("rb") as stream:
        check_regular(os.fstat(stream.fileno()), file, CheckpointError)
        try:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for kind, value in _fields(data, 0, len(data), "model", 0, [_MOST_FIELDS]):
                    if kind == "operator" and value in _REFUSED:
                        name, why = value.decode(), _REFUSED[value]
                        raise CheckpointError(
                            f"Expected a graph without {name} in {str(file)!r}: it {why}.",
                            hint="Export the model again without it, for example with optkit compress.",
                        )
                    if kind == "location":
                        outside.add(value.decode("utf-8", "replace"))
        except (IndexError, ValueError, RecursionError) as reason:
            raise CheckpointError(f"{str(file)!r} is not an ONNX model: {reason}.") from reason
    for name in sorted(outside):
        beside = file.parent / name
        if Path(name).name != name or not beside.is_file() or not belongs(beside, file.parent):
            raise CheckpointError(
                f"Expected weights of {str(file)!r} in files of its folder, received {name[:80]!r}."
            )
    return outside


def _fields(
    data: mmap.mmap, begin: int, end: int, message: str, depth: int, left: list[int]
) -> Iterator[tuple[str, bytes]]:
    """("operator", type) of every node and ("location", path) of every external tensor in a message.

    `left` holds how many fields may still come.
    """
    if depth > _DEPTH:
        raise RecursionError("it is nested too deeply")
    inner = _MESSAGES.get(message, {})
    while begin < end:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError(f"it has more than {_MOST_FIELDS:,} fields")
        key, begin = _varint(data, begin, end)
        field, wire = key >> 3, key & 7
        if wire == 0:
            _, begin = _varint(data, begin, end)
            continue
        if wire in (1, 5):
            begin += 8 if wire == 1 else 4
            continue
        if wire != 2:
            raise ValueError(f"a field of wire type {wire}")
        size, begin = _varint(data, begin, end)
        stop = begin + size
        if stop > end:
            raise ValueError("a field ends behind the file")
        if message == "node" and field == 4:
            yield "operator", data[begin:stop]
        elif message == "tensor" and field == 13:
            name, value = _entry(data, begin, stop)
            if name == b"location":
                yield "location", value
        elif field in inner:
            yield from _fields(data, begin, stop, inner[field], depth + 1, left)
        begin = stop


def _entry(data: mmap.mmap, begin: int, end: int) -> tuple[bytes, bytes]:
    """Key and value of a StringStringEntryProto."""
    fields = {1: b"", 2: b""}
    while begin < end:
        key, begin = _varint(data, begin, end)
        if key & 7 != 2:
            raise ValueError("an entry that is no text")
        size, begin = _varint(data, begin, end)
        if begin + size > end:
            raise ValueError("an entry ends behind its message")
        fields[key >> 3] = data[begin : begin + size]
        begin += size
    return fields[1], fields[2]


def _varint(data: mmap.mmap, begin: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while begin < end and shift < 64:
        byte = data[begin]
        begin += 1
        value |= (byte & 127) << shift
        if not byte & 128:
            return value, begin
        shift += 7
    raise ValueError("a number without an end")
