"""`Task`: what a model is for. Each task is one file under `tasks/`.

A task turns examples into tensors, the model's outputs into predictions, and predictions into a
score. It needs numpy and tokenizers only, so that the same code serves without torch; metrics
load scikit-learn when they are asked for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data import provoking
from optkit.data.columns import column
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, RecipeError, did_you_mean
from optkit.models.architectures import infer_task
from optkit.models.task import TASKS
from optkit.runtimes.base import Session
from optkit.tasks.labelled import BETWEEN as BETWEEN
from optkit.tasks.labelled import Answer as Answer
from optkit.tasks.labelled import Columns as Columns
from optkit.tasks.labelled import Input as Input
from optkit.tasks.labelled import JsonType as JsonType
from optkit.tasks.labelled import Labelled as Labelled
from optkit.tasks.labelled import Outputs as Outputs
from optkit.tasks.trainable import Trainable

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Field:
    """A named part of every input or answer, as requests and files hold it: a tensor, a column.

    `datatype` as the Open Inference Protocol calls it: BYTES (a text, unless `binary`), FP32 or INT32.
    `shape` is that of one value, -1 where it varies. Inputs may lack what is not `required`.
    """

    name: str
    datatype: str = "BYTES"
    shape: tuple[int, ...] = ()
    required: bool = True
    binary: bool = False


class Task(Trainable, ABC):
    """What the model is for. Built from the artifact's folder by `from_artifact`.

    What it declares of its models is in `optkit.models.task.ModelTask`, how it is trained in `Trainable`.
    """

    #: The metric's name in reports; larger is better.
    metric: str
    #: What turns inputs into tensors, where one object does.
    encoder: Any
    #: The metrics that may be asked for; the first is the default.
    metrics: ClassVar[tuple[str, ...]] = ()
    #: What one input consists of where its parts have names; `from_fields` puts them together.
    takes: ClassVar[tuple[Field, ...]] = (Field("text"),)
    #: Names of the columns of a row, looked for in this order by every command: "text" (words, an image),
    #: "pair", "label"; "plain" are other names of a text where no label is needed.
    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: What messages call these parts of a row.
    parts: ClassVar[Mapping[str, str]] = {"text": "text", "pair": "second text", "label": "label"}
    #: The extras of optkit that its inputs need where it is served.
    needs: ClassVar[tuple[str, ...]] = ()
    #: Whether the graph's outputs for one text are the answer: no windows or offsets to decode them by.
    graph_answers: ClassVar[bool] = False
    #: Whether a student can learn its outputs from a teacher's, output by output.
    distills: ClassVar[bool] = True
    #: Latency shapes unless others are asked for, batch x tokens; "data" is the data's own lengths.
    shapes: ClassVar[tuple[str, ...]] = ("1xdata", "1x16", "1x32", "1x128", "8x128")

    @property
    def reference(self) -> str:
        """The name in `optkit.benchmarking.reference` of how the users of the libraries run this model."""
        return self.name

    @property
    def any_size(self) -> bool:
        """Whether its inputs are images, each of which the model is fed in a size of its own."""
        return False

    @property
    def has_plain_outputs(self) -> bool:
        """Whether the baseline can be asked as `plain_outputs` says, where `reference` names nothing."""
        return type(self).plain_outputs is not Task.plain_outputs

    def plain_outputs(
        self, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], outputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """For the baseline alone: what is scored of the outputs for the row `ids` of transformers' model,
        read with transformers' `tokenizer`, by no code that `encode` and `decode` share."""
        raise NotImplementedError

    def plain_answers(self, tokenizer: PreTrainedTokenizerBase, outputs: Outputs) -> list[Json] | None:
        """For the baseline alone: the answers to these outputs as JSON values; None: not compared."""
        return None

    @classmethod
    @abstractmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Task:
        """Read labels, limits and tokenizer from the folder. Raises CheckpointError."""

    @abstractmethod
    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """Tensors for the model, from raw inputs as a caller of `predict` gives them."""

    @abstractmethod
    def read(self, rows: Sequence[Mapping[str, Any]], columns: Columns) -> Labelled:
        """Rows of a data set, encoded, with their references. Raises DataError."""

    @abstractmethod
    def decode(self, outputs: Outputs) -> list[Answer]:
        """One typed prediction per example."""

    @abstractmethod
    def answers(self, outputs: Outputs) -> np.ndarray:
        """What `score` and agreement compare: labels, values. First dimension: examples."""

    @abstractmethod
    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        """The metric over these examples."""

    def prepared(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
        """`inputs` as the options of `predict` change them. Raises RecipeError for any that it has not."""
        if options:
            raise _generates_nothing(self.name, options)
        return inputs

    def finished(self, answers: list[Any], options: Mapping[str, Any]) -> list[Any]:
        """`answers` as the options of `predict`, which `prepared` took, change them."""
        return answers

    def complete(
        self, session: Session, prompts: Sequence[Input], batch_size: int, **options: float | None
    ) -> list[Answer]:
        """What the model writes after each prompt, where the task generates text. Raises RecipeError."""
        raise _generates_nothing(self.name, options)

    def generate(
        self, session: Session, prompt: Input, **options: float | None
    ) -> Generator[str, None, Answer]:
        """What the model writes after one prompt, piece by piece; returns all of it. Raises RecipeError."""
        raise _generates_nothing(self.name, options)

    def outcomes(self, answers: np.ndarray, references: Sequence[Answer]) -> np.ndarray | None:
        """Right or wrong per example where the metric is their mean; None where it is not."""
        return None

    #: When two answers count as the same, as `same` decides it.
    sameness: ClassVar[str] = "the same answer"

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        """Per example, whether two models answer the same. Shape (examples,), bool."""
        equal = self.answers(outputs) == self.answers(others)
        same: np.ndarray = equal.reshape(len(equal), -1).all(axis=1)
        return same

    def comparable(self, artifact: Artifact, outputs: Outputs) -> Outputs:
        """`outputs` of the model in `artifact` as this task, which is another model's, can decode them.

        They differ where a setting of the folder decides what an answer is. Raises RecipeError where they
        cannot be compared.
        """
        return outputs

    def aligned(self, right: Outputs, others: Outputs) -> Outputs:
        """`others` in the order of `right`, where an example's outputs have one that means nothing."""
        return others

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """Inputs for `encode`, made of built-in `texts`, to compare two models on where there is no data."""
        return list(texts)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the logits, where an answer is the largest of them."""
        return []

    @property
    def prompt(self) -> str:
        """What stands before every text that the model reads."""
        return ""

    def provoking(self) -> list[list[Input]]:
        """Lists of inputs, each of one form, on which two readers differ if they differ at all."""
        return [[*provoking.TEXTS, provoking.LONG]]

    def samples(self) -> Sequence[Input]:
        """A few inputs for `encode`, to check a graph with where there is no data."""
        return provoking.SAMPLES

    @classmethod
    def together(cls, rows: datasets.Dataset, columns: Columns) -> Sequence[object] | None:
        """For each row what it shares with those that make one example with it; None: each makes its own."""
        return None

    def pieces(self, item: Input) -> list[Input]:
        """The inputs that a server answers one by one, in whatever batches, in place of `item`."""
        return [item]

    def joined(self, answers: Sequence[Answer]) -> Answer:
        """The answer to an input, of those to its `pieces`."""
        return answers[0]

    def json_type(self, text: JsonType) -> JsonType:
        """The type of one input in a request's JSON, made of `text`, the server's type of a text.

        A mapping of names to types stands for an object with these keys, a list of texts for one's words.
        """
        return text

    def from_json(self, value: Json) -> Input:
        """An input for `encode` from a JSON value of a request. Never a path: DataError instead."""
        return value

    def to_json(self, item: Input) -> Json:
        """An input for `encode` as a value that `from_json` takes back."""
        return list(item) if isinstance(item, tuple) else item

    def to_embed(self, value: Json) -> Input:
        """An input for `encode` that is answered by its vector, from the JSON value of a request for one: a
        text, {"text": ...}, {"image": ...} in base64. Raises DataError for a kind that has none here."""
        value = value["text"] if isinstance(value, dict) and value.keys() == {"text"} else value
        if not isinstance(value, str):
            raise DataError(f"Expected a text, received {type(value).__name__}: {self.name} reads no images.")
        return value

    def token_count(self, inputs: Sequence[Input]) -> int:
        """The tokens of texts, as a server counts them."""
        return int(self.encode(inputs).lengths.sum())

    def from_fields(self, values: Sequence[Any]) -> Input:
        """An input for `encode` from its parts, in the order of `takes`; the last ones may lack."""
        return values[0] if len(values) == 1 else tuple(values)

    @classmethod
    def checked_metric(cls, metric: str | None) -> str:
        """`metric`, or the default for None. Raises RecipeError for one that the task does not have."""
        if metric is not None and metric not in cls.metrics:
            raise RecipeError(
                f"Metric {metric!r} does not fit {cls.name}.", hint=did_you_mean(metric, cls.metrics)
            )
        return metric or cls.metrics[0]

    @classmethod
    def column(cls, names: Sequence[str], part: str, wanted: Columns = Columns()) -> str:
        """Which of the columns `names` holds a `part` of a row ("text", "pair", "label"): the one that is
        wanted, else the first of the task's own. Raises DataError where none does, RecipeError for columns
        that the task has no use for."""
        cls._refuse_others(wanted)
        return column(names, getattr(wanted, part), cls.columns[part], cls.parts[part], f"--{part}-column")

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str | None:
        """Which of a row's columns holds the second text beside the column `text`; None for no pair."""
        return None

    @classmethod
    def input_columns(cls, names: Sequence[str], wanted: Columns = Columns()) -> tuple[str, ...]:
        """Which of the columns `names` make one input where no label is needed: a text, or both of a pair.

        Raises as `column` does.
        """
        cls._refuse_others(wanted)
        known = (*cls.columns["text"], *cls.columns.get("plain", ()))
        text = column(names, wanted.text, known, cls.parts["text"], "--text-column")
        if wanted.pair is not None:
            return text, cls.column(names, "pair", wanted)
        pair = cls.pair_column(names, text)
        return (text,) if pair is None else (text, pair)

    @classmethod
    def from_columns(cls, row: Mapping[str, Any], names: Sequence[str]) -> Input:
        """An input for `encode` from the columns of `row` that `input_columns` gave. May raise DataError."""
        return row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)

    @classmethod
    def _refuse_others(cls, wanted: Columns) -> None:
        for part, name in vars(wanted).items():
            if name is not None and part not in cls.columns:
                raise RecipeError(f"{cls.name} reads no {cls.parts[part]}: leave --{part}-column {name} out.")

    @classmethod
    def from_line(cls, line: str) -> Input:
        """An input for `encode` from a line of text, as `optkit predict` reads it."""
        return line

    def describe(self, answer: Answer) -> dict[str, Any]:
        """A prediction as JSON values."""
        return asdict(answer)

    def gives(self) -> tuple[Field, ...]:
        """What one answer consists of where its parts have names; `fields` takes it apart."""
        return (Field("answer"),)

    def fields(self, answer: Answer) -> tuple[Any, ...]:
        """The parts of one answer, as `gives` names them."""
        return (json.dumps(self.describe(answer), ensure_ascii=False),)

    def alike(self, answer: Answer, other: Answer) -> float:
        """How far two models agree on one input, from 0 to 1: here on the first part of their answers."""
        return float(self.fields(answer)[0] == self.fields(other)[0])

    def line(self, answer: Answer) -> str:
        """A prediction as a person reads it, in one line."""
        return f"{answer.label}\t{answer.score:.4f}"

    def name_of(self, reference: Answer) -> Answer:
        """A reference as a person reads it; None where that cannot say whether an answer is right."""
        return reference

    def drawn(self, item: Input, reference: Answer, before: Answer, after: Answer) -> dict[str, Json]:
        """For reports, where answers to `item` differ: keys of `optkit.core.schema.report.Flip`."""
        return {}

    @property
    def has_table(self) -> bool:
        """Whether `table` has lines."""
        return False

    def table(self, answers: np.ndarray, references: Sequence[Answer]) -> list[Any]:
        """Scores by label or kind of example: dataclasses of one type, a `label` first, then numbers."""
        return []

    def doubts(self, model: str, lines: Sequence[Mapping[str, Any]]) -> list[str]:
        """What a reader should know of the data and of the model called `model`, by the lines of `table`."""
        return []

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """Share of examples on which two models answer the same."""
        same = answers == others
        return float(same.reshape(len(same), -1).all(axis=1).mean()) if len(same) else 1.0


def aligned(
    task: Task, names: Sequence[str], right: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """`Task.aligned` of batches of outputs with these `names`."""
    if type(task).aligned is Task.aligned:
        return list(others)
    both = (dict(zip(names, map(list, part))) for part in (right, others))
    rows = task.aligned(*both)
    return [np.stack(rows[name]) for name in names]


def _generates_nothing(name: str, options: Mapping[str, Any]) -> RecipeError:
    given = f", received the options {', '.join(options)}" if options else ""
    return RecipeError(f"Expected a model that generates text, this one is for {name}{given}.")


def open_task(artifact: Artifact, name: str | None = None, metric: str | None = None) -> Task:
    """The task called `name` (default: inferred), set up from the artifact's folder."""
    return task_type(name or infer_task(artifact)).of(artifact.config).from_artifact(artifact, metric)


def task_type(name: str) -> type[Task]:
    """The class of the task called `name`. Raises RecipeError."""
    return cast(type[Task], TASKS[name])


def task_to_train(name: str | None, rows: datasets.Dataset, columns: Columns) -> type[Task]:
    """The task called `name`; without a name, the first whose columns the data has.

    Raises RecipeError for a task that is not known or has no trainer half, DataError where no column is
    known as the label.
    """
    known = {key: task_type(key) for key in TASKS}
    known = {key: task for key, task in known.items() if task.targets is not Trainable.targets}
    if name is not None:
        if name not in known:
            by = task_type(name).trained_by if name in TASKS else ""
            hint = f"Its models are fine-tuned with {by}." if by else did_you_mean(name, known)
            raise RecipeError(f"The task {name!r} cannot be fine-tuned.", hint=hint)
        return known[name]
    for task in sorted(known.values(), key=lambda task: task.asked_last):
        if task.fits(rows, columns):
            return task
    raise DataError(
        f"Cannot tell which column holds the label; columns: {', '.join(rows.column_names)}.",
        hint="Name it with --label-column. Texts without labels are for a decoder: --task causal-lm.",
    )
