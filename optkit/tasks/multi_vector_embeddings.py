"""Multi-vector embeddings (late interaction, ColBERT): one text → a vector for each of its tokens.

A query and a document are compared by MaxSim: for each vector of the query the largest product with one of
the document's, and the sum of these (or their mean). Each is read in its own way, so an input says which it
is: `{"query": text}`, `{"document": text}`, or a text alone, which is read as `MultiVectorEncoder.encode`
reads it. The graph gives a vector for every token; which of them count is known when a text is read.
Source: O. Khattab and M. Zaharia, "ColBERT" (SIGIR 2020); sentence-transformers 6.2,
`MultiVectorEncoder`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from optkit.core.artifact import Artifact
from optkit.core.sentence_modules import is_multi_vector
from optkit.data.examples import EncodedSet, Windows
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.limits import token_limit
from optkit.models.pooling import TOKENS
from optkit.models.sentence_folder import MEAN_MAXSIM
from optkit.models.task import Shape
from optkit.models.token_vectors import DOCUMENT, QUERY
from optkit.tasks import retrieval
from optkit.tasks.base import Columns, Input, JsonType, Labelled, Outputs, Task
from optkit.tasks.embeddings import NEAR, Embeddings
from optkit.tasks.pairs import COUNTED
from optkit.tasks.vectors import Prompted, unit

if TYPE_CHECKING:
    import datasets
    import torch


#: The score of a document of which no token counts: below any other's.
NOTHING = -1e9
#: Tokens of documents that a query is compared with at a time.
_AT_ONCE = 200_000


@dataclass(frozen=True)
class _Reading:
    """How texts of one side are read: the prompt before them, the most tokens (None: the model's own), and
    which ids have no vector, or (`only`) alone have one."""

    prompt: str
    length: int | None
    skipped: tuple[int, ...] = ()
    only: tuple[int, ...] = ()


@dataclass
class MultiVectorEmbeddings(Embeddings):
    """A folder of sentence-transformers' MultiVectorEncoder. `spearman` and `pearson` are between MaxSim and
    the score of a pair, whose first text is the query."""

    name: ClassVar[str] = "multi-vector-embeddings"
    architectures: ClassVar[tuple[str, ...]] = ()  # the folder's settings say it, no architecture does
    embeds: ClassVar[bool] = False
    sentence_transformers: ClassVar[str] = "MultiVectorEncoder"
    graph_answers: ClassVar[bool] = False
    kind: ClassVar[str] = "tokens"
    columns: ClassVar = {**Embeddings.columns, "plain": (DOCUMENT,)}
    metrics: ClassVar = (*retrieval.METRICS, "spearman", "pearson")
    sameness: ClassVar[str] = "a mean cosine of the tokens' vectors of at least 0.99"
    readings: dict[str, _Reading] = field(default_factory=dict)
    #: What fills a query up.
    filling: int | None = None

    @classmethod
    def declared_by(cls, folder: Path, config: Mapping[str, Any]) -> bool:
        return is_multi_vector(folder)

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> MultiVectorEmbeddings:
        task = super().from_artifact(artifact, metric)
        assert isinstance(task, MultiVectorEmbeddings)
        stated, encoder = task.pooling.tokens, task.encoder
        assert stated is not None
        limit = token_limit(artifact.config)
        if expansion := stated.expansion:
            task.filling = encoder.mask_id if expansion.token is None else encoder.id_of(expansion.token)
            if task.filling is None or encoder.tokenization.padding_side != "right":
                raise CheckpointError(
                    f"Expected a tokenizer that pads on the right and has the token by which {artifact.path} "
                    f"fills queries up ({expansion.token or 'its mask token'}); it is another.",
                    hint="Set token of query_expansion in the Transformer's settings, or all of it to null.",
                )
            if limit is not None and expansion.length > limit:
                raise CheckpointError(
                    f"Expected query_expansion to at most {limit} tokens, which the model takes, received "
                    f"{expansion.length}."
                )
        words = [encoder.id_of(word) for word in stated.skipped]
        for side in (QUERY, DOCUMENT, ""):
            length = stated.lengths.get(side)
            if side == QUERY and expansion and expansion.fixed:
                length = expansion.length
            task.readings[side] = _Reading(
                task.pooling.prompts[side] if side else task.pooling.prompt,
                length if length is None or limit is None else min(length, limit),
                tuple(x for x in words if x is not None) if (side or DOCUMENT) in stated.skipping else (),
                stated.only if side != QUERY else (),
            )
        return task

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {TOKENS: ("batch", "sequence", model.pooling.width(model.config.hidden_size))}

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """`inputs` are texts, `{"query": text}` and `{"document": text}`. Raises DataError for any other."""
        sided = [_side_of(i, item) for i, item in enumerate(inputs)]
        arrays: dict[str, list[np.ndarray]] = {}
        picks: list[np.ndarray] = [np.empty(0)] * len(inputs)
        truncated, pad = 0, {"input_ids": self.encoder.pad_id}
        for side, reading in self.readings.items():
            places = [i for i, (one, _) in enumerate(sided) if one == side]
            texts = [sided[i][1] for i in places]
            encoded = self.encoder.encode(
                [text if isinstance(text, Prompted) else reading.prompt + text for text in texts],
                reading.length,
            )
            truncated += encoded.truncated
            for row, place in enumerate(places):
                example = {name: rows[row] for name, rows in encoded.arrays.items()}
                counted = example["attention_mask"] != 0
                if side == QUERY:
                    example, counted = self._filled(example, counted)
                ids = example["input_ids"]
                counted &= ~np.isin(ids, reading.skipped)
                picks[place] = np.flatnonzero(
                    counted & np.isin(ids, reading.only) if reading.only else counted
                )
                for name, values in example.items():
                    arrays.setdefault(name, [np.empty(0)] * len(inputs))[place] = values
        if not inputs:
            return EncodedSet(self.encoder.encode([]).arrays, pad)
        ids_of = [ids[pick] for ids, pick in zip(arrays["input_ids"], picks)]
        return EncodedSet(arrays, pad, truncated, Windows(np.arange(len(inputs)), picks, {"ids": ids_of}))

    @classmethod
    def from_columns(cls, row: Mapping[str, Any], names: Sequence[str]) -> Input:
        """A column that is called query or document says which of them its texts are."""
        [name] = names
        return {name: row[name]} if name in (QUERY, DOCUMENT) else row[name]

    def _filled(
        self, example: dict[str, np.ndarray], counted: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """A query with what fills it up, and which of its tokens count."""
        stated = self.pooling.tokens
        assert stated is not None
        if (expansion := stated.expansion) is None or len(counted) >= expansion.length:
            return example, counted
        more = expansion.length - len(counted)
        fill = {"input_ids": self.filling, "attention_mask": int(expansion.attend)}
        filled = {n: np.append(x, np.full(more, fill.get(n, 0), dtype=x.dtype)) for n, x in example.items()}
        return filled, np.append(counted, np.full(more, stated.counts_filling or expansion.attend))

    def prepared(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
        """`prompt_name` query or document: as `encode_query` and `encode_document` read; `prompt` takes the
        place of its prompt. Vectors are neither cut nor packed."""
        if unknown := set(options) - {"prompt", "prompt_name"}:
            raise RecipeError(
                f"Expected prompt or prompt_name for {self.name}, received {', '.join(sorted(unknown))}."
            )
        asked = options.get("prompt_name") if options.get("prompt_name") in (QUERY, DOCUMENT) else ""
        sides, given = zip(*map(_side_of, range(len(inputs)), inputs)) if len(inputs) else ((), ())
        if asked and (other := set(sides) - {asked, ""}):
            raise DataError(
                f"Expected texts to read as {asked}, received one that is a {other.pop()}.",
                hint="Leave prompt_name out: each is read as what it says.",
            )
        texts = super().prepared(given, {n: x for n, x in options.items() if x is not None})
        return [{asked or side: text} if asked or side else text for side, text in zip(sides, texts)]

    def finished(self, answers: list[Any], options: Mapping[str, Any]) -> list[Any]:
        return answers

    def decode(self, outputs: Outputs) -> list[np.ndarray]:
        """float32 (vectors, width) per text."""
        return [np.asarray(rows, dtype=np.float32) for rows in outputs[TOKENS]]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """Vectors of queries and of documents, (pairs, 2), each an array (vectors, width)."""
        vectors = self.decode(outputs)
        if len(vectors) % 2:
            raise DataError(
                f"Expected a query and a document per pair, received {len(vectors)} texts in all."
            )
        array = np.empty(len(vectors), dtype=object)
        for i, value in enumerate(vectors):  # numpy would make arrays of one shape more dimensions
            array[i] = value
        return array.reshape(-1, 2)

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        pairs = zip(self.decode(outputs), self.decode(others))
        return np.array([self.alike(a, b) >= NEAR for a, b in pairs], dtype=bool)

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """The mean cosine of the two models' vectors of the same token, over the texts."""
        each = [self.alike(a, b) for a, b in zip(answers.reshape(-1), others.reshape(-1))]
        return float(np.mean(each)) if each else 1.0

    def alike(self, answer: np.ndarray, other: np.ndarray) -> float:
        """The mean cosine of the vectors of the same token; 0 where their numbers differ."""
        if answer.shape != other.shape:
            return 0.0
        return float((unit(answer) * unit(other)).sum(axis=1).mean()) if len(answer) else 1.0

    def _similarities(self, answers: np.ndarray) -> np.ndarray:
        mean = self.pooling.similarity == MEAN_MAXSIM
        each = [maxsim([query], [document], mean) for query, document in answers]
        return np.concatenate(each).reshape(-1) if each else np.empty(0)

    def _near(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        return maxsim(list(queries), list(documents), self.pooling.similarity == MEAN_MAXSIM)

    def _routed(self, pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[Input, Input]]:
        return [({QUERY: a}, {DOCUMENT: b}) for a, b in pairs]

    def provoking(self) -> list[list[Input]]:
        [texts] = Task.provoking(self)
        return [texts, [{QUERY: x} for x in texts], [{DOCUMENT: x} for x in texts]]

    def probes(self, texts: Sequence[str]) -> list[Input]:
        return [{(QUERY, DOCUMENT)[i % 2]: text} for i, text in enumerate(texts)]

    def samples(self) -> Sequence[Input]:
        return [{side: text} for text in Task.samples(self) for side in (QUERY, DOCUMENT)]

    def json_type(self, text: JsonType) -> JsonType:
        """A text, or an object that says which side it is of."""
        return text | Annotated[dict[Literal["query", "document"], text], Field(min_length=1, max_length=1)]

    def describe(self, answer: np.ndarray) -> dict[str, Any]:
        return {"vectors": np.asarray(answer).tolist()}

    gives = Task.gives
    fields = Task.fields

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """A score only says which pairs match."""
        return {"scale": None}

    @classmethod
    def for_training(
        cls, source: Artifact, config: dict[str, Any], max_length: int | None
    ) -> MultiVectorEmbeddings:
        task = super().for_training(source, config, max_length)
        assert isinstance(task, MultiVectorEmbeddings)
        for side, reading in task.readings.items():
            if max_length is not None and (reading.length or max_length) >= max_length:
                task.readings[side] = replace(reading, length=max_length)
        return task

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """Pairs to learn from, with the tokens that count; texts one by one to score (no `seed`)."""
        encoded = labelled.encoded
        if seed is None or encoded.windows is None:
            return labelled
        counted = [np.zeros(n, dtype=np.int64) for n in encoded.lengths]
        for row, pick in zip(counted, encoded.windows.picks):
            row[pick] = 1
        whole = EncodedSet({**encoded.arrays, COUNTED: counted}, encoded.pad, encoded.truncated)
        return super().to_learn(replace(labelled, encoded=whole), seed)

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        if COUNTED in labelled.encoded.arrays:
            return super().targets(labelled)
        return {"labels": [np.zeros((), dtype=np.float32)] * len(labelled.encoded)}  # nothing to learn from

    def line(self, answer: np.ndarray) -> str:
        return json.dumps([[float(f"{x:.6g}") for x in vector] for vector in answer])


def maxsim(queries: Sequence[np.ndarray], documents: Sequence[np.ndarray], mean: bool = False) -> np.ndarray:
    """How near each query is to each document, (queries, documents), float32, by their vectors (tokens,
    width).

    With `mean`, divided by the number of the query's. As sentence-transformers' `maxsim` and `mean_maxsim`.

    >>> maxsim([np.eye(2)], [np.eye(2), np.eye(2)[:1]])
    array([[2., 1.]], dtype=float32)
    """
    scores = np.full((len(queries), len(documents)), NOTHING, dtype=np.float32)
    for columns in _chunks([len(document) for document in documents]):
        some = [documents[i] for i in columns]
        together, starts = np.concatenate(some).T, np.cumsum([0, *map(len, some)])[:-1]
        for row, query in enumerate(queries):
            nearest = (
                np.maximum.reduceat(query @ together, starts, axis=1) if len(query) else np.zeros((1, 1))
            )
            scores[row, columns] = nearest.sum(axis=0)
    counts = np.array([max(len(query), 1) for query in queries], dtype=np.float32)
    return scores / counts[:, None] if mean else scores


def _chunks(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Places of documents with vectors, so many at a time that these are at most `_AT_ONCE`."""
    part: list[int] = []
    total = 0
    for i, size in enumerate(sizes):
        if part and total + size > _AT_ONCE:
            yield part
            part, total = [], 0
        if size:
            part.append(i)
            total += size
    if part:
        yield part


def _side_of(place: int, item: Input) -> tuple[str, str]:
    """Which side a text is of ("" for neither), and the text. Raises DataError."""
    if isinstance(item, str):
        return "", item
    if isinstance(item, dict) and len(item) == 1:
        [(side, text)] = item.items()
        if side in (QUERY, DOCUMENT) and isinstance(text, str):
            return side, text
    raise DataError(
        f'Expected a text, {{"query": text}} or {{"document": text}} at position {place}, received '
        f"{str(item)[:80]!r}."
    )


TASK = MultiVectorEmbeddings
