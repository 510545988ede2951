"""What tasks whose inputs are files have in common: requests in base64, and a label for each file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.errors import CheckpointError, DataError
from optkit.tasks.base import Columns, Labelled
from optkit.tasks.label_columns import REGRESSION
from optkit.tasks.labelled import Input, JsonType
from optkit.tasks.text_classification import TextClassification

if TYPE_CHECKING:
    import datasets


class FileInputs:
    """A task's inputs, where each is one file. Comes before `Task` in a class's bases."""

    #: How messages call what is expected, and one of them.
    expected: ClassVar[str]
    noun: ClassVar[str]

    def json_type(self, text: JsonType) -> JsonType:
        """A file in base64."""
        return {"b64": str}

    def from_json(self, value: Json) -> Input:
        return self.file_of(value)

    def file_of(self, value: Json) -> bytes:
        """The bytes of a file, in base64: {"b64": "..."}. A string would be a path, and is refused."""
        text = value.get("b64") if isinstance(value, dict) else None
        if not isinstance(text, str):
            raise DataError(
                f'Expected {self.expected} as {{"b64": "..."}}, received a {type(value).__name__}.'
            )
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as reason:
            raise DataError(f"Expected {self.expected} in base64: {reason}.") from None

    def from_fields(self, values: Sequence[Any]) -> Input:
        """The bytes of a file as they are, or a text of them in base64."""
        return values[0] if isinstance(values[0], bytes) else self.file_of({"b64": values[0]})

    @classmethod
    def from_line(cls, line: str) -> Input:
        """A path."""
        return line

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str | None:
        return None

    def named(self, inputs: Sequence[Input]) -> list[str]:
        """How a report calls each: by its path, or its number."""
        return [x if isinstance(x, str) else f"{self.noun} {i}" for i, x in enumerate(inputs)]


class FileClassification(FileInputs, TextClassification):
    """One file → one label, or several. Labels, metrics and predictions are those of text classification."""

    sentence_transformers: ClassVar[str] = ""
    graph_answers: ClassVar[bool] = False
    asked_last: ClassVar[bool] = False

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Self:
        task = super().from_artifact(artifact, metric)
        if task.problem == REGRESSION:
            raise CheckpointError("Expected a model with at least two labels, received one: a regression.")
        return task

    def inputs_of(self, rows: datasets.Dataset, name: str) -> list[Input]:
        """The files in column `name`."""
        return list(rows[name])

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        name, label = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        references, inputs = self.references(rows, label), self.inputs_of(rows, name)
        columns = Columns(name, None, label)
        return Labelled(self.encode(inputs), references, self.named(inputs), inputs, columns=columns)

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        config = super().training_config(rows, columns)
        if config["problem_type"] == REGRESSION:
            raise DataError(f"Expected a class per {cls.noun}, received numbers with a fraction.")
        return config
