"""Token classification: a tag per word. Named entities (BIO tags) or parts of speech (plain tags).

A word is tagged by its first subword. Documents longer than the model are cut into windows that
overlap; each word is answered once, in the window where it is farthest from the border.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.columns import class_names
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import WORDS
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models import tokenization
from optkit.models.limits import WITH_BOXES
from optkit.models.task import Shape
from optkit.models.text import TextEncoder
from optkit.tasks import bio_tags
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.bio_tags import check_bio, check_lengths, is_bio
from optkit.tasks.label_columns import labels_config, labels_of
from optkit.tasks.label_mapping import label_name, places
from optkit.tasks.label_scores import AVERAGES, Line, single
from optkit.tasks.labelled import Answer, Input, JsonType
from optkit.tasks.words import assigned, word_spans

if TYPE_CHECKING:
    import datasets
    import torch
    from tokenizers import Encoding


#: Column names looked for, in this order.
COLUMNS = {
    "text": ("tokens", "words"),
    "plain": ("text", "sentence", "content", "review"),
    "label": ("ner_tags", "tags", "pos_tags", "upos", "labels"),
}


@dataclass(frozen=True)
class Entity:
    """`text` is `[start, end)` in characters; `score` the mean probability of its tags."""

    text: str
    label: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Tagging:
    """A prediction: the entities of one text; with plain tags, one per word."""

    entities: list[Entity]

    @property
    def label(self) -> list[str]:
        return [f"{entity.text}/{entity.label}" for entity in self.entities]

    @property
    def score(self) -> float:
        """The least sure entity's; 1 for none."""
        return min((entity.score for entity in self.entities), default=1.0)


@dataclass
class TokenClassification(Task):
    """`labels` by index; `metric` is f1 (entities) or accuracy (words); `own_labels` as for texts."""

    name: ClassVar[str] = "token-classification"
    architectures: ClassVar[tuple[str, ...]] = ("ForTokenClassification",)
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    metrics: ClassVar = ("f1", "accuracy")
    columns: ClassVar = COLUMNS
    parts: ClassVar = {**Task.parts, "text": "word list", "label": "tag list"}
    labels: list[str]
    metric: str
    encoder: TextEncoder
    own_labels: bool = False

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> TokenClassification:
        if not (labels := labels_of(artifact.config)):
            raise CheckpointError("Expected tag names (id2label) in config.json, received none.")
        if metric is not None:
            cls.checked_metric(metric)
        if metric == "f1" and not is_bio(labels):
            raise RecipeError(
                "Metric 'f1' counts entities, and the model's tags are not BIO.", hint="Use accuracy."
            )
        return cls(labels, metric or cls.default_metric(labels), TextEncoder(artifact.path))

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        if config.get("model_type") in WITH_BOXES:
            raise CheckpointError(
                f"{architecture} reads where words stand on a page, which {cls.name} does not give it.",
                hint="Give --task layout-token-classification, and data with a column of boxes.",
            )

    @staticmethod
    def default_metric(labels: Sequence[str]) -> str:
        return "f1" if is_bio(labels) else "accuracy"

    @staticmethod
    def words(text: str) -> list[str]:
        """The words that a plain text is tagged by."""
        return [text[start:end] for start, end in word_spans(text)]

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """`inputs` are texts, or lists of words, which the tokenizer is given as words (`word_ids`).

        Places are characters of the text as it was given; words are then joined with single spaces.
        """
        texts, places, given = [], [], inputs
        inputs = [self.words_of(i, item) for i, item in enumerate(inputs)]
        for item in inputs:
            if isinstance(item, str):
                texts.append(item)
                places.append(word_spans(item))
            else:
                texts.append(" ".join(item))
                ends = np.cumsum([len(word) + 1 for word in item]).astype(int)
                places.append([(int(e) - 1 - len(w), int(e) - 1) for e, w in zip(ends, item)])
        each: list[list[Encoding]] = [[]] * len(inputs)
        for listed in (False, True):
            some = [i for i, item in enumerate(inputs) if isinstance(item, str) != listed]
            some_texts = [list(inputs[i]) if listed else inputs[i] for i in some]
            stride = self.encoder.max_length // 4
            for i, windows in zip(some, self.encoder.cut(some_texts, stride, words=listed, places=some)):
                each[i] = windows
        encoded = self.encoder.joined(each)
        owner, picks, words = [], [], []
        for example, (item, windows, spans) in enumerate(zip(inputs, each, places)):
            for positions, chosen in assigned(windows, spans if isinstance(item, str) else None):
                owner.append(example)
                picks.append(positions)
                words.append((example, chosen))
        carried = {
            "characters": [np.array([ord(c) for c in text], dtype=np.int64) for text in texts],
            "spans": [np.array(spans, dtype=np.int64).reshape(-1) for spans in places],
        }
        by_example: list[list[np.ndarray]] = [[] for _ in texts]
        for example, chosen in words:
            by_example[example].append(chosen)
        carried["words"] = [np.concatenate(parts) for parts in by_example]
        windows_of = Windows(np.array(owner, dtype=np.int64), picks, carried)
        arrays = {**encoded.arrays, **self.beside(each, given)}
        return EncodedSet(arrays, encoded.pad, 0, windows_of if texts else None)

    def words_of(self, place: int, item: Input) -> str | Sequence[str]:
        """The text, or the words, of an input. Raises DataError."""
        words = isinstance(item, (list, tuple)) and all(isinstance(x, str) for x in item)
        if not words and not isinstance(item, str):
            raise DataError(
                f"Expected a text or a list of words at position {place}, received {type(item).__name__}."
            )
        return item

    def beside(
        self, each: Sequence[Sequence[Encoding]], inputs: Sequence[Input]
    ) -> dict[str, list[np.ndarray]]:
        """What the model reads beside tokens, of the windows of each of `inputs`."""
        return {}

    def inputs_of(self, rows: datasets.Dataset, words: str, columns: Columns) -> tuple[list[Any], str | None]:
        """Inputs for `encode` of rows whose words are in the column `words`, and the other column read."""
        return list(rows[words]), None

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        words, tags = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        names = class_names(rows.features.get(tags))
        (inputs, other), references = self.inputs_of(rows, words, columns), []
        flat = []
        for row, (item, given) in enumerate(zip(rows[words], rows[tags])):
            check_lengths(item, given, row)
            if is_bio(self.labels) and not names and all(isinstance(tag, str) for tag in given):
                check_bio([tag.strip()[:2].upper() + tag.strip()[2:] for tag in given], row)
            flat += [(row, tag) for tag in given]
        of_row: list[list[str]] = [[] for _ in inputs]
        for (row, _), index in zip(flat, places(flat, self.labels, names, self.own_labels)):
            of_row[row].append(self.labels[index])
        for row, named in enumerate(of_row):
            if is_bio(self.labels):
                check_bio(named, row)
            references.append(tuple(named))
        sources = [" ".join(item) for item in rows[words]]
        return Labelled(self.encode(inputs), references, sources, inputs, columns=Columns(words, other, tags))

    def tags(self, outputs: Outputs) -> list[tuple[str, ...]]:
        """The best tag of each word; O (or the first label) where a word has no token at all."""
        empty = "O" if "O" in self.labels else self.labels[0]
        tags_of = []
        for logits, words, spans in zip(outputs["logits"], outputs["words"], outputs["spans"]):
            tags = [empty] * (len(spans) // 2)
            for word, best in zip(words, logits.argmax(axis=-1) if len(logits) else ()):
                tags[int(word)] = self.labels[int(best)]
            tags_of.append(tuple(tags))
        return tags_of

    def decode(self, outputs: Outputs) -> list[Tagging]:
        return [
            self._tagging(tags, *parts)
            for tags, *parts in zip(
                self.tags(outputs),
                outputs["logits"],
                outputs["words"],
                outputs["spans"],
                outputs["characters"],
            )
        ]

    sameness: ClassVar[str] = "the same tag for 99% of a text's words"

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        pairs = zip(self.tags(outputs), self.tags(others), strict=True)
        return np.array([sum(a != b for a, b in zip(x, y)) <= 0.01 * len(x) for x, y in pairs], dtype=bool)

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The tags of each example as a tuple, in an object array."""
        return _objects(self.tags(outputs))

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        if self.metric == "f1":
            return bio_tags.f1(map(bio_tags.spans, answers), map(bio_tags.spans, references))
        right = sum(a == b for x, y in zip(answers, references) for a, b in zip(x, y))
        return right / max(1, sum(len(y) for y in references))

    @property
    def has_table(self) -> bool:
        return True

    def table(self, answers: np.ndarray, references: Sequence[Answer]) -> list[Line]:
        """Precision, recall, F1 and support per label, and their averages.

        For entities: per type, as seqeval prints them, and then per tag over words, without O, as
        scikit-learn does with `labels`, whose averages are called "micro, words" and so on; last O, and the
        averages with it.
        """
        flat = [[tag for tags in side for tag in tags] for side in (answers, references)]
        if not is_bio(self.labels):
            return single(flat[0], flat[1])
        whole = bio_tags.table([bio_tags.spans(a) for a in answers], [bio_tags.spans(r) for r in references])
        words, all_words = single(flat[0], flat[1], outside="O"), single(flat[0], flat[1])
        return [
            *whole,
            *(replace(x, label=f"{x.label}, words") if x.label in AVERAGES else x for x in words),
            *(x for x in all_words if x.label == "O"),
            *(replace(x, label=f"{x.label}, words and O") for x in all_words if x.label in AVERAGES),
        ]

    def provoking(self) -> list[list[Input]]:
        return [list(WORDS)]

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", "sequence", model.config.num_labels)}

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        names = rows.column_names
        text = [columns.text] if columns.text else cls.columns["text"]
        tags = [columns.label] if columns.label else cls.columns["label"]
        words = any(n in names and isinstance(rows[0][n], list) for n in text)
        return words and any(n in names for n in tags)

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        words, tags = (cls.column(rows.column_names, x, columns) for x in ("text", "label"))
        names = class_names(rows.features.get(tags))
        first_rows: dict[str, int] = {}
        for row, (item, given) in enumerate(zip(rows[words], rows[tags])):
            check_lengths(item, given, row)
            for tag in given:
                known = names and isinstance(tag, int) and 0 <= tag < len(names)
                first_rows.setdefault(names[tag] if names and known else label_name(tag), row)
        labels = bio_tags.labels_of_tags(first_rows)
        if len(labels) < 2:
            raise DataError(f"Expected at least two tags in column {tags!r}, received: {labels}.")
        return labels_config(labels)

    @classmethod
    def for_training(
        cls, source: Artifact, config: dict[str, Any], max_length: int | None
    ) -> TokenClassification:
        cls.check_architecture(source.config, str(source.config.get("model_type")))
        encoder = TextEncoder(source.path)
        if not encoder.reads_words_as_text:
            encoder = _with_spaces(source.path)
        encoder.truncate(max_length)
        labels = list(config["id2label"].values())
        return cls(labels, cls.default_metric(labels), encoder, own_labels=True)

    def tokenizer_settings(self, source: Artifact) -> dict[str, Any]:
        """The space before each word belongs to the checkpoint, as it was learned with it."""
        same = tokenization.read(source.path).digest == self.encoder.tokenization.digest
        return {} if same else {"add_prefix_space": True}

    def class_counts(self, labelled: Labelled) -> np.ndarray | None:
        flat = np.concatenate(self.targets(labelled)["labels"])
        return np.bincount(flat[flat >= 0], minlength=len(self.labels))

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        windows = labelled.encoded.windows
        assert windows is not None
        index = {label: i for i, label in enumerate(self.labels)}
        taken = [0] * len(labelled.references)
        targets = []
        for owner, picks, length in zip(windows.owner, windows.picks, labelled.encoded.lengths):
            words = windows.carried["words"][owner][taken[owner] : taken[owner] + len(picks)]
            taken[owner] += len(picks)
            row = np.full(int(length), -100, dtype=np.int64)
            row[picks] = [index[labelled.references[owner][word]] for word in words]
            targets.append(row)
        return {"labels": targets}

    def json_type(self, text: JsonType) -> JsonType:
        """A text, or its words."""
        return text | list[text]

    def gives(self) -> tuple[Field, ...]:
        """How many entities a text has varies, so they are one JSON list."""
        return (Field("entities"),)

    def fields(self, answer: Tagging) -> tuple[Any, ...]:
        return (json.dumps(self.describe(answer)["entities"], ensure_ascii=False),)

    def alike(self, answer: Tagging, other: Tagging) -> float:
        """1 for the same entities; their scores may differ."""
        return float(answer.label == other.label)

    def name_of(self, reference: Answer) -> Json:
        return " ".join(reference)

    def line(self, answer: Tagging) -> str:
        return " ".join(answer.label) or "(no entity)"

    def _tagging(
        self,
        tags: tuple[str, ...],
        logits: np.ndarray,
        words: np.ndarray,
        spans: np.ndarray,
        text: np.ndarray,
    ) -> Tagging:
        sure = np.ones(len(tags))
        if len(logits):
            shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
            sure[words.astype(int)] = shifted.max(axis=-1) / shifted.sum(axis=-1)
        entities = []
        if is_bio(self.labels):
            groups = sorted(bio_tags.spans(tags), key=lambda span: span[1])
        else:
            groups = [(tag, i, i) for i, tag in enumerate(tags)]
        for label, first, last in groups:
            start, end = int(spans[2 * first]), int(spans[2 * last + 1])
            piece = "".join(map(chr, text[start:end].tolist()))
            entities.append(Entity(piece, label, start, end, float(sure[first : last + 1].mean())))
        return Tagging(entities)


def _with_spaces(folder: Path) -> TextEncoder:
    """What puts a space before each word, as transformers' run_ner.py does.

    RoBERTa's, ModernBERT's and GPT-2's words would else be read as if they were one, and the model would not
    know them in a text. Raises CheckpointError where that does not help.
    """
    from optkit.models.tokenization_worker import resolve

    encoder = TextEncoder(folder, tokenization=resolve(folder, add_prefix_space=True))
    if not encoder.reads_words_as_text:
        raise CheckpointError(
            f"Expected a tokenizer in {str(folder)!r} that reads words given one by one as it reads them in "
            "a text, received one that joins them, also with add_prefix_space: what is learned of them would "
            "not be known in a text.",
            hint="Take a checkpoint with another tokenizer, such as BERT's, RoBERTa's or ModernBERT's.",
        )
    return encoder


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # numpy would make tuples of one length a second dimension
        array[i] = value
    return array


TASK = TokenClassification
