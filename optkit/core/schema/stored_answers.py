"""stored_answers.json: a few inputs of a model with what it gave for them, and on which machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from optkit.core.schema.base import Checked, Count, Line, Number, Word

FILE = "stored_answers.json"
SCHEMA = "optkit.answers/1"
#: Numbers kept of one output, evenly spaced where it has more.
MOST_VALUES = 512
Text = Annotated[str, Field(max_length=32_768)]
Texts = Annotated[list[Text], Field(max_length=512)]


#: Of each word of a page: see `optkit.tasks.layout_token_classification`.
Boxes = Annotated[list[Annotated[list[int], Field(min_length=4, max_length=4)]], Field(max_length=512)]
#: Of an image that has labels beside it: {"b64": "..."}.
File = dict[Literal["b64"], Text]


class Output(Checked):
    """`values` are those of `places(size)` of an output of `shape`, flattened; for one input, so no batch."""

    shape: list[Count] = Field(max_length=4)
    values: list[Number] = Field(min_length=1, max_length=MOST_VALUES)


class Example(Checked):
    """`input` as a request to `optkit serve` holds it."""

    input: Text | Texts | dict[Word, Text | Texts | Boxes | bool | File]
    outputs: dict[Line, Output] = Field(min_length=1, max_length=16)


class Machine(Checked):
    """What decides which kernels compute; `isa`: the names in `optkit.benchmarking.environment`."""

    device: Line
    isa: list[Word] = Field(max_length=50)
    runtime: Word
    version: Line
    precision: Word | None


class StoredAnswers(Checked):
    schema_name: Literal["optkit.answers/1"] = Field(alias="schema")
    machine: Machine
    examples: list[Example] = Field(min_length=1, max_length=4)

    @model_validator(mode="after")
    def _same_outputs(self) -> StoredAnswers:
        if len({frozenset(example.outputs) for example in self.examples}) > 1:
            raise ValueError("the same outputs for every input")
        return self
