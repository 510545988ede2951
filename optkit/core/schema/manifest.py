"""optkit.json: what a manifest may say. It is data: no path outside of its folder, no line of code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from optkit.core.schema.base import Checked, FileName, Line, Number, Sha256, Word

SCHEMA = "optkit.artifact/1"
MANIFEST = "optkit.json"


def _not_itself(files: dict[str, str]) -> dict[str, str]:
    if MANIFEST in files:
        raise ValueError("files without the manifest itself")
    return files


#: The license of the checkpoint that the model was made from, as it is stated there.
License = Annotated[str, Field(pattern=r"^[\w .,()+/-]+$", max_length=100)]


class Runtime(Checked):
    """Which runtime serves the model. The runtime's class says which options a manifest may set."""

    name: Word
    options: dict[Word, bool | Annotated[int, Field(ge=0, lt=2**31)] | Number | Word | None] = Field(
        {}, max_length=50
    )


class Step(Checked):
    """A pass that made the model, with its parameters; `notes` are for people and reports."""

    name: Word = Field(alias="pass")
    parameters: dict[Word, Any] = Field({}, max_length=200)
    notes: dict[Line, Any] = Field({}, max_length=10_000)
    seconds: Number = Field(0.0, ge=0)


class Manifest(Checked):
    """`files` lists every file of the folder that is read, with its sha256."""

    schema_name: Literal["optkit.artifact/1"] = Field(alias="schema")
    format: Literal["hf", "onnx", "openvino", "tensorrt"]
    precision: Word = "fp32"
    task: Word | None = None
    runtime: Runtime | None = None
    license: License | None = None
    lineage: list[Step] = Field([], max_length=1000)
    files: Annotated[dict[FileName, Sha256], AfterValidator(_not_itself)] = Field(
        min_length=1, max_length=10_000
    )
    versions: dict[Word, Line] = Field({}, max_length=100)
    gate: dict[Word, Any] = Field({}, max_length=100)
