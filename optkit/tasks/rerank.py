"""Reranking: a query and its candidates → the candidates in order of their scores, by a cross-encoder.

A model with ONE logit reads a query together with a candidate; the score is the activation function that the
checkpoint states for it, as `CrossEncoder(folder).predict` of sentence-transformers gives it. Every pair is
encoded, padded and answered alone, as a window of its query: `EncodedSet.windows` brings them together again.

Training: binary cross-entropy of each pair's logit, as sentence-transformers' BinaryCrossEntropyLoss, with
labels divided by the highest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Len

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import PAIRS, questions_of_two
from optkit.errors import CheckpointError, DataError
from optkit.models.sentence_folder import Scoring, read_scoring
from optkit.models.text import TextEncoder
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.label_columns import labels_config
from optkit.tasks.labelled import Answer, Input, JsonType, tabbed
from optkit.tasks.ranked_lists import (
    NEGATIVE,
    POSITIVE,
    TEXTS,
    highest,
    queries_of,
    ranked_lists,
    value_of,
)
from optkit.tasks.text_classification import activated

if TYPE_CHECKING:
    import datasets
    import torch


#: The most candidates of one query.
MOST = 1000
#: What sentence-transformers applies to a single logit where nothing else is said.
DEFAULT = Scoring("Sigmoid")
#: What CSV files hold of a list.
_LIST = re.compile(r"\s*\[\s*(['\"]).*\1\s*\]\s*", re.DOTALL)
_HINT = 'Write ("query", ["candidate", ...]) or {"query": ..., "documents": [...]}.'


@dataclass(frozen=True)
class Ranked:
    """A candidate: its `index` in what was given, its `score`, and the model's `logit` behind it."""

    index: int
    score: float
    logit: float


@dataclass(frozen=True)
class Ranking:
    """A prediction: all candidates of a query, the best first, equal ones in the order given."""

    results: list[Ranked]

    @property
    def label(self) -> int:
        """The index of the best."""
        return self.results[0].index

    @property
    def score(self) -> float:
        return self.results[0].score


@dataclass
class Rerank(Task):
    """`metric` is a mean over queries (`ranked_lists.value_of`); `activation` is a class of torch.nn.

    `scale` divides the labels in training; None elsewhere.
    """

    name: ClassVar[str] = "rerank"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    ranks: ClassVar[bool] = True
    sentence_transformers: ClassVar[str] = "CrossEncoder"
    metrics: ClassVar = ("ndcg@10", "mrr@10", "map", "recall@10")
    columns: ClassVar = {
        "text": ("query", "question", "anchor"),
        "pair": (
            *("candidates", "documents", "passages", "document", "passage", "text", "answer"),
            *POSITIVE,
        ),
        "label": ("relevances", "relevance", "labels", "label", "score", *NEGATIVE),
    }
    parts: ClassVar = {"text": "query", "pair": "candidates", "label": "relevances"}
    takes: ClassVar[tuple[Field, ...]] = (Field("query"), Field("documents"))
    sameness: ClassVar[str] = "the same best candidate"
    metric: str
    encoder: TextEncoder
    activation: str = DEFAULT.activation
    scale: float | None = None

    @classmethod
    def declared_by(cls, folder: Path, config: Mapping[str, Any]) -> bool:
        return _outputs(config) == 1 and read_scoring(folder) is not None

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        if (count := _outputs(config)) != 1:
            raise CheckpointError(
                f"Expected a cross-encoder with one logit, received {architecture} with {count}.",
                hint="A classifier of pairs is for --task text-classification; optkit finetune --task rerank "
                "trains a head with one logit.",
            )

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Rerank:
        cls.check_architecture(artifact.config, (artifact.config.get("architectures") or ["a model"])[0])
        scoring = read_scoring(artifact.path) or DEFAULT
        encoder = TextEncoder(artifact.path, scoring.max_length)
        if scoring.lowercase:
            encoder.lower_case()
        return cls(cls.checked_metric(metric), encoder, scoring.activation)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """One row per candidate, cut as transformers cuts pairs: the longer text loses tokens first.

        Raises DataError for what is no query with 1 to `MOST` candidates.
        """
        given = [_checked(item, i) for i, item in enumerate(inputs)]
        encoded = self.encoder.encode([(query, text) for query, texts in given for text in texts])
        if not given:
            return encoded
        counts = [len(texts) for _, texts in given]
        candidates = [np.array([count]) for count in counts]
        return replace(encoded, windows=Windows.of_rows(counts, 1, candidates=candidates))

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Queries with their candidates; those whose candidates are all as relevant are skipped and counted,
        but for training, which learns from them too."""
        text, pair = self._text_and_pair(rows, columns)
        label, lists = ranked_lists(type(self), rows, text, pair, columns)
        left = [x for x in lists if self.scale is not None or len(set(x.relevances)) > 1]
        if not left:
            raise DataError(
                f"Expected candidates of different relevance for some of {len(lists)} queries, received one "
                "kind only: no order of them is better than another.",
                hint="Give each query candidates that do not answer it too, with 0 as their label.",
            )
        inputs = [(x.query, x.candidates) for x in left]
        return Labelled(
            self.encode(inputs),
            [x.relevances for x in left],
            [x.query for x in left],
            inputs,
            len(lists) - len(left),
            Columns(text, pair, label),
        )

    @classmethod
    def together(cls, rows: datasets.Dataset, columns: Columns) -> Sequence[object] | None:
        return queries_of(rows, *cls._text_and_pair(rows, columns))

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str:
        """Raises DataError where there is none: a query alone has nothing to rank."""
        others = [name for name in names if name != text]
        pair = cls.column(others, "pair")
        if pair in POSITIVE:  # these alone would be ranked
            raise DataError(
                f"Expected all candidates of a query in one column, received {', '.join(others)}.",
                hint="Put them into a list in the column documents, or name a column with --pair-column.",
            )
        return pair

    @classmethod
    def from_columns(cls, row: Mapping[str, Any], names: Sequence[str]) -> Input:
        """A query and its candidates, MS MARCO's passages too."""
        query, candidates = (row[name] for name in names)
        if isinstance(candidates, str) and _LIST.fullmatch(candidates):
            raise DataError(
                f"Expected texts in {names[1]!r}, received a list that is written as one: "
                f"{candidates[:60]!r}.",
                hint="Put a list there. Of a CSV file, with pandas: pd.read_csv(F, converters="
                f"{{'{names[1]}': ast.literal_eval}}).to_json('F.jsonl', orient='records', lines=True).",
            )
        of_marco = isinstance(candidates, Mapping) and TEXTS in candidates
        return query, list(candidates[TEXTS]) if of_marco else candidates

    @classmethod
    def from_line(cls, line: str) -> Input:
        """A query and its candidates, with a tab before each."""
        return tabbed(line, "query", "candidates")

    def decode(self, outputs: Outputs) -> list[Ranking]:
        rankings = []
        for logits, scores in zip(outputs["logits"], self.answers(outputs)):
            order = np.argsort(-scores, kind="stable")
            rankings.append(Ranking([Ranked(int(i), float(scores[i]), float(logits[i])) for i in order]))
        return rankings

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The scores of each query's candidates, in an object array of float64 arrays."""
        scores = np.empty(len(outputs["logits"]), dtype=object)
        for i, logits in enumerate(outputs["logits"]):
            scores[i] = activated(np.ravel(logits).astype(np.float64), self.activation)
        return scores

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        values = self.outcomes(answers, references)
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def outcomes(self, answers: np.ndarray, references: Sequence[Answer]) -> np.ndarray:
        """The metric of each query; NaN where all its candidates are as relevant, which only training has."""
        return np.array([value_of(self.metric, a, r) for a, r in zip(answers, references, strict=True)])

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        return _best(self.answers(outputs)) == _best(self.answers(others))

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """Share of queries with the same best candidate."""
        return float((_best(answers) == _best(others)).mean()) if len(answers) else 1.0

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """A question, and two texts that may answer it."""
        return list(questions_of_two(texts))

    def samples(self) -> Sequence[Input]:
        return self.probes([str(text) for text in super().samples()])

    def provoking(self) -> list[list[Input]]:
        return [[(query, [text]) for query, text in PAIRS]]

    def pieces(self, item: Input) -> list[Input]:
        query, candidates = _checked(item, 0)
        return [(query, [text]) for text in candidates]

    def joined(self, answers: Sequence[Ranking]) -> Ranking:
        results = [replace(answer.results[0], index=i) for i, answer in enumerate(answers)]
        return Ranking(sorted(results, key=lambda x: -x.score))

    def json_type(self, text: JsonType) -> JsonType:
        return {"query": text, "documents": Annotated[list[text], Len(1, MOST)]}

    def to_json(self, item: Input) -> Json:
        query, candidates = _checked(item, 0)
        return {"query": query, "documents": candidates}

    def from_fields(self, values: Sequence[Any]) -> Input:
        """The candidates are a JSON list: a tensor has one element for each query."""
        query, documents = values
        try:
            return query, json.loads(documents)
        except ValueError:
            raise DataError("Expected in documents a JSON list of texts for each query.") from None

    def gives(self) -> tuple[Field, ...]:
        """How many candidates a query has varies, so they are one JSON list."""
        return (Field("results"),)

    def fields(self, answer: Ranking) -> tuple[Any, ...]:
        return (json.dumps(asdict(answer)["results"]),)

    def alike(self, answer: Ranking, other: Ranking) -> float:
        """1 for the same best candidate."""
        return float(answer.label == other.label)

    def line(self, answer: Ranking) -> str:
        """Each candidate's number and score, the best first."""
        return "\t".join(f"{x.index}:{x.score:.4f}" for x in answer.results)

    def name_of(self, reference: Answer) -> Json:
        """The number of the most relevant candidate."""
        return int(np.argmax(reference))

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """Whether there are queries and passages to rank; questions with contexts are another task's."""
        names = set(rows.column_names)
        return "query" in names and all(names & set(cls.columns[part]) for part in ("pair", "label"))

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """`scale`: what divides the labels. Nothing of it goes into config.json."""
        return {"scale": highest(ranked_lists(cls, rows, *cls._text_and_pair(rows, columns), columns)[1])}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> Rerank:
        encoder = TextEncoder(source.path)
        encoder.truncate(max_length)
        return cls(cls.metrics[0], encoder, scale=config["scale"])

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        flat = [label / (self.scale or 1.0) for reference in labelled.references for label in reference]
        return {"labels": [np.array([label], dtype=np.float32) for label in flat]}

    def network(self, source: Artifact, config: dict[str, Any], load: Callable[..., Any]) -> torch.nn.Module:
        """transformers' loss of several labels, here one, is the binary cross-entropy."""
        network = load(
            self.auto_class, **labels_config(["relevance"]), problem_type="multi_label_classification"
        )
        network.config.sentence_transformers = {
            "activation_fn": f"torch.nn.modules.activation.{self.activation}"
        }
        return network

    @classmethod
    def _text_and_pair(cls, rows: datasets.Dataset, columns: Columns) -> tuple[str, str]:
        try:
            text = cls.column(rows.column_names, "text", columns)
            return text, cls.column([n for n in rows.column_names if n != text], "pair", columns)
        except DataError as error:
            hint = "Pairs with a number, compared by correlation, are for --task text-classification."
            raise DataError(str(error), hint=f"{error.hint} {hint}") from None


def _checked(item: Input, position: int) -> tuple[str, list[str]]:
    """A query and its candidates. Raises DataError."""
    if isinstance(item, Mapping):
        item = (item.get("query"), item.get("documents"))
    if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], str):
        raise DataError(
            f"Expected a query with its candidates at position {position}, received {type(item).__name__}.",
            hint=_HINT,
        )
    query, candidates = item[0], [item[1]] if isinstance(item[1], str) else item[1]
    if not isinstance(candidates, (tuple, list)) or not all(isinstance(text, str) for text in candidates):
        raise DataError(f"Expected a list of texts as the candidates at position {position}.", hint=_HINT)
    if not 1 <= len(candidates) <= MOST:
        raise DataError(
            f"Expected 1 to {MOST:,} candidates at position {position}, received {len(candidates):,}.",
            hint="Leave a query without candidates out; of many give those that a first search finds best.",
        )
    return query, list(candidates)


def _outputs(config: Mapping[str, Any]) -> int:
    """How many logits the model has; transformers' own default is two."""
    return len(config.get("id2label") or ()) or int(config.get("num_labels") or 2)


def _best(scores: np.ndarray) -> np.ndarray:
    return np.array([int(np.argmax(row)) for row in scores], dtype=np.int64)


TASK = Rerank
