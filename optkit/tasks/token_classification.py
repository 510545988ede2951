"""Token classification: a tag per word. Named entities (BIO tags) or parts of speech (plain tags).

A word is tagged by its first subword. Documents longer than the model are cut into windows that
overlap; each word is answered once, in the window where it is farthest from the border.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from optkit.artifact import Artifact
from optkit.data.dataset import class_names
from optkit.data.examples import EncodedSet, Windows
from optkit.errors import CheckpointError, DataError, RecipeError, did_you_mean
from optkit.models.text import TextEncoder
from optkit.tasks import bio_tags
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.label_mapping import places

#: Column names looked for, in this order.
COLUMNS = {
    "text": ("tokens", "words"),
    "plain": ("text", "sentence", "content", "review"),
    "label": ("ner_tags", "tags", "pos_tags", "upos", "labels"),
}
_METRICS = ("f1", "accuracy")
#: Words of plain text: links, tags and mentions, Han characters one by one, words, signs.
_WORD = re.compile(
    r"https?://\S+|[\u3400-\u9fff]|[@#]?[^\W\u3400-\u9fff]+(?:[-.&/][^\W\u3400-\u9fff]+)*"
    r"|['’][^\W\u3400-\u9fff]+|[^\w\s]"
)


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
    columns: ClassVar = COLUMNS
    parts: ClassVar = {**Task.parts, "text": "word list", "label": "tag list"}
    labels: list[str]
    metric: str
    encoder: TextEncoder
    own_labels: bool = False

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> TokenClassification:
        found = artifact.config.get("id2label") or {}
        try:
            labels = [found[str(i)] for i in range(len(found))]
        except KeyError as missing:
            raise CheckpointError(f"id2label in config.json has no entry {missing}.") from None
        if not labels:
            raise CheckpointError("Expected tag names (id2label) in config.json, received none.")
        if metric is not None and metric not in _METRICS:
            raise RecipeError(
                f"Metric {metric!r} does not fit token-classification.", hint=did_you_mean(metric, _METRICS)
            )
        if metric == "f1" and not is_bio(labels):
            raise RecipeError(
                "Metric 'f1' counts entities, and the model's tags are not BIO.", hint="Use accuracy."
            )
        return cls(labels, metric or cls.default_metric(labels), TextEncoder(artifact.path))

    @staticmethod
    def default_metric(labels: Sequence[str]) -> str:
        return "f1" if is_bio(labels) else "accuracy"

    @staticmethod
    def words(text: str) -> list[str]:
        """The words that a plain text is tagged by."""
        return [text[start:end] for start, end in word_spans(text)]

    def encode(self, inputs: Sequence[Any]) -> EncodedSet:
        """`inputs` are texts, or lists of words, which the tokenizer is given as words (`word_ids`).

        Places are characters of the text as it was given; words are then joined with single spaces.
        """
        texts, places = [], []
        for i, item in enumerate(inputs):
            if isinstance(item, str):
                texts.append(item)
                places.append(word_spans(item))
            elif isinstance(item, (list, tuple)) and all(isinstance(word, str) for word in item):
                texts.append(" ".join(item))
                ends = np.cumsum([len(word) + 1 for word in item]).astype(int)
                places.append([(int(e) - 1 - len(w), int(e) - 1) for e, w in zip(ends, item)])
            else:
                raise DataError(
                    f"Expected a text or a list of words at position {i}, received {type(item).__name__}."
                )
        each: list[list[Any]] = [[]] * len(inputs)
        for listed in (False, True):
            some = [i for i, item in enumerate(inputs) if isinstance(item, str) != listed]
            given = [list(inputs[i]) if listed else inputs[i] for i in some]
            stride = self.encoder.max_length // 4
            for i, windows in zip(some, self.encoder.cut(given, stride, words=listed, places=some)):
                each[i] = windows
        encoded = self.encoder.joined(each)
        owner, picks, words = [], [], []
        for example, (item, windows, spans) in enumerate(zip(inputs, each, places)):
            for positions, chosen in _assigned(windows, spans if isinstance(item, str) else None):
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
        return EncodedSet(encoded.arrays, encoded.pad, 0, windows_of if texts else None)

    def read(self, rows: Any, columns: Columns) -> Labelled:
        words, tags = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        names = class_names(rows.features.get(tags))
        inputs, references = list(rows[words]), []
        flat = []
        for row, (item, given) in enumerate(zip(inputs, rows[tags])):
            check_lengths(item, given, row)
            if is_bio(self.labels) and not names and all(isinstance(tag, str) for tag in given):
                check_bio([tag.strip()[:2].upper() + tag.strip()[2:] for tag in given], row)
            flat += [(row, tag) for tag in given]
        of_row: list[list[str]] = [[] for _ in inputs]
        for (row, _), place in zip(flat, places(flat, self.labels, names, self.own_labels)):
            of_row[row].append(self.labels[place])
        for row, named in enumerate(of_row):
            if is_bio(self.labels):
                check_bio(named, row)
            references.append(tuple(named))
        sources = [" ".join(item) for item in inputs]
        return Labelled(self.encode(inputs), references, sources, inputs, columns=Columns(words, None, tags))

    def tags(self, outputs: Outputs) -> list[tuple[str, ...]]:
        """The best tag of each word; O (or the first label) where a word has no token at all."""
        empty = "O" if "O" in self.labels else self.labels[0]
        found = []
        for logits, words, spans in zip(outputs["logits"], outputs["words"], outputs["spans"]):
            tags = [empty] * (len(spans) // 2)
            for word, best in zip(words, logits.argmax(axis=-1) if len(logits) else ()):
                tags[int(word)] = self.labels[int(best)]
            found.append(tuple(tags))
        return found

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

    def score(self, answers: np.ndarray, references: Sequence[Any]) -> float:
        if self.metric == "f1":
            return bio_tags.f1(map(bio_tags.spans, answers), map(bio_tags.spans, references))
        right = sum(a == b for x, y in zip(answers, references) for a, b in zip(x, y))
        return right / max(1, sum(len(y) for y in references))

    def table(self, answers: np.ndarray, references: Sequence[Any]) -> list[bio_tags.Line]:
        """Precision, recall, F1 and support per label, and their averages.

        For entities: per type, as seqeval prints them, and then per tag over words, without O, as
        scikit-learn does; the averages of that second part are called "micro, words" and so on.
        """
        flat = [[tag for tags in side for tag in tags] for side in (answers, references)]
        if not is_bio(self.labels):
            return bio_tags.tag_table(flat[0], flat[1])
        whole = bio_tags.table([bio_tags.spans(a) for a in answers], [bio_tags.spans(r) for r in references])
        words = bio_tags.tag_table(flat[0], flat[1], outside="O")
        averages = ("micro", "macro", "weighted")
        return [*whole, *(replace(x, label=f"{x.label}, words") if x.label in averages else x for x in words)]

    def json_type(self, text: Any) -> Any:
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

    def name_of(self, reference: Any) -> Any:
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
        found = []
        if is_bio(self.labels):
            groups = sorted(bio_tags.spans(tags), key=lambda span: span[1])
        else:
            groups = [(tag, i, i) for i, tag in enumerate(tags)]
        for label, first, last in groups:
            start, end = int(spans[2 * first]), int(spans[2 * last + 1])
            piece = "".join(map(chr, text[start:end].tolist()))
            found.append(Entity(piece, label, start, end, float(sure[first : last + 1].mean())))
        return Tagging(found)


def is_bio(labels: Sequence[str]) -> bool:
    """Whether these are tags of entities: O, and B- or I- for every other."""
    return any(x[:2] in ("B-", "I-") for x in labels) and all(
        x == "O" or x[:2] in ("B-", "I-") for x in labels
    )


def check_lengths(words: Any, tags: Any, row: int) -> None:
    """Raise DataError where a row has no list of words with a tag for each."""
    if not isinstance(words, list) or not isinstance(tags, list):
        raise DataError(f"Expected lists of words and tags in row {row}, received {words!r} and {tags!r}.")
    if len(words) != len(tags):
        raise DataError(
            f"Expected a tag per word in row {row}, received {len(words)} words, {len(tags)} tags."
        )


def check_bio(tags: Sequence[str], row: int) -> None:
    """Raise DataError where the tags of a row are no valid BIO."""
    if problem := bio_tags.fault(tags):
        raise DataError(
            f"The tags in row {row} are not valid BIO: {problem}.",
            hint="An entity begins with B-TYPE and goes on with I-TYPE of the same type.",
        )


def word_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each word of a plain text, in characters.

    Marks and joiners belong to the letter before them, however it is composed; a lone one is a sign.
    """
    if not text.isascii():
        plain: list[str] = []
        for character in text:
            joins = unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"
            plain.append("a" if joins and plain and plain[-1].isalnum() else character)
        text = "".join(plain)
    return [match.span() for match in _WORD.finditer(text)]


def _assigned(windows: list[Any], spans: list[tuple[int, int]] | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per window: positions of first subwords, and their words, each word in exactly one window.

    A word that several windows hold goes to the one in which it is farthest from both ends. `spans` are the
    words' in a plain text; None where the tokenizer was given words.
    """
    firsts: list[
        dict[int, tuple[int, int]]
    ] = []  # per window: word → its first position here, where it starts
    for window in windows:
        seen: dict[int, tuple[int, int]] = {}
        for position, word, start in _given(window) if spans is None else _overlapping(window, spans):
            seen.setdefault(word, (position, start))
        firsts.append(seen)
    begins: dict[int, int] = {}
    for seen in firsts:
        for word, (_, start) in seen.items():
            begins[word] = min(start, begins.get(word, start))
    best: dict[int, tuple[int, int, int]] = {}
    for w, (window, seen) in enumerate(zip(windows, firsts)):
        for word, (position, start) in seen.items():
            if start > begins[word]:
                continue  # this window begins inside the word
            margin = min(position, len(window.ids) - 1 - position)
            if word not in best or margin > best[word][0]:
                best[word] = (margin, w, position)
    chosen: list[list[tuple[int, int]]] = [[] for _ in windows]
    for word, (_, w, position) in best.items():
        chosen[w].append((position, word))
    pairs = [np.array(sorted(found), dtype=np.int64).reshape(-1, 2) for found in chosen]
    return [(pair[:, 0], pair[:, 1]) for pair in pairs]


def _given(window: Any) -> Iterator[tuple[int, int, int]]:
    """(position, word, where in the word it starts) of each subword of given words."""
    for position, (word, (start, _)) in enumerate(zip(window.word_ids, window.offsets)):
        if word is not None:
            yield position, word, start


def _overlapping(window: Any, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(position, word, where in the text it starts) of each token that shares characters with a word.

    A token of the space before a word alone is the word's first, as it is where the word itself is given.
    """
    begins = np.array([start for start, _ in spans])
    if not len(begins):
        return
    numbers, offsets = window.word_ids, window.offsets
    for position, (start, end) in enumerate(offsets):
        if end <= start or window.special_tokens_mask[position]:
            continue
        # Some tokenizers count the space before a word as part of its first token.
        word = int(np.searchsorted(begins, end - 1, side="right")) - 1
        if word >= 0 and end > spans[word][0] and start < spans[word][1]:
            first, after = position, spans[word - 1][1] if word else 0
            while first and numbers[first - 1] is not None and numbers[first - 1] == numbers[position]:
                a, b = offsets[first - 1]
                if a < b and not (a >= after and b <= spans[word][0]):
                    break
                first -= 1
            yield first, word, max(start, spans[word][0])


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # numpy would make tuples of one length a second dimension
        array[i] = value
    return array


TASK = TokenClassification
