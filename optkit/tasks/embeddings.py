"""Embeddings: one text → one vector. Scored on pairs of texts: does the cosine follow the given similarity?

A pair is two texts in a row: `read` flattens pairs into single texts, so that every text is encoded,
padded and answered alone, and `answers` puts each two vectors together again. Pooling and
normalisation are inside the model (see `optkit.models.pooling`); nothing is left for `decode` to compute.

Training: pairs with a score learn it, pairs without one that each document is the nearest to its query
(`optkit.tasks.pairs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.columns import texts_of
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.architectures import TEXT_ENCODERS, refuse_no_encoder
from optkit.models.pooling import OUTPUT, Pooling, pooled, read_pooling, save_layers
from optkit.models.soundness import refuse_nan
from optkit.models.task import Shape
from optkit.models.text import TextEncoder
from optkit.tasks import retrieval
from optkit.tasks.base import BETWEEN, Columns, Field, Input, Labelled, Outputs, Task
from optkit.tasks.label_mapping import number
from optkit.tasks.pairs import SECOND, pair
from optkit.tasks.vectors import Prompted, VectorOptions, unit

if TYPE_CHECKING:
    import datasets
    import torch


#: Column names looked for, in this order.
COLUMNS = {
    "text": ("text", "sentence1", "query", "anchor", "question", "sentence", "premise", "content", "review"),
    "pair": ("text_pair", "sentence2", "passage", "positive", "document", "answer", "context", "hypothesis"),
    "label": ("label", "labels", "score", "similarity", "similarity_score"),
}
#: How messages call the kinds of vectors.
KINDS = {
    "dense": "dense vectors",
    "sparse": "sparse vectors (SpladePooling)",
    "tokens": "a vector for each token (MultiVectorEncoder)",
}
#: The least cosine of two vectors of a text that count as the same.
NEAR = 0.99


@dataclass
class Embeddings(Task):
    """`pooling` from the checkpoint; `metric` one of `metrics`.

    Two vectors are compared as the checkpoint says (`similarity_fn_name`; cosine where it says nothing).
    `spearman` and `pearson` are between that and the score over all pairs; the others are those of
    `optkit.tasks.retrieval`, of every query among all documents of the data.
    """

    name: ClassVar[str] = "embeddings"
    architectures: ClassVar[tuple[str, ...]] = ("Model", "EncoderModel")
    auto_class: ClassVar[str] = "AutoModel"
    unused: ClassVar = ("pooler",)
    embeds: ClassVar[bool] = True
    sentence_transformers: ClassVar[str] = "SentenceTransformer"
    keeps_modules: ClassVar[bool] = True
    graph_answers: ClassVar[bool] = True
    #: Which kind of vectors (`Pooling.kind`).
    kind: ClassVar[str] = "dense"
    columns: ClassVar = COLUMNS
    parts: ClassVar = {**Task.parts, "label": "similarity"}
    metrics: ClassVar = ("spearman", "pearson", *retrieval.METRICS)
    metric: str
    pooling: Pooling
    encoder: TextEncoder

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Embeddings:
        metric = cls.checked_metric(metric)
        pooling = read_pooling(artifact.path)
        if pooling.kind != cls.kind:
            raise CheckpointError(
                f"Expected a folder of {KINDS[cls.kind]} for {cls.name}, received one of "
                f"{KINDS[pooling.kind]} in {str(artifact.path)!r}.",
                hint="Leave --task out: the folder says which it is.",
            )
        encoder = TextEncoder(artifact.path, pooling.max_length)
        if pooling.lowercase:
            encoder.lower_case()
        return cls(metric, pooling, encoder)

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        refuse_no_encoder(config, architecture)

    @classmethod
    def auto_class_of(cls, config: dict[str, Any]) -> str:
        only_encoder = config.get("model_type") in TEXT_ENCODERS
        return "AutoModelForTextEncoding" if only_encoder else cls.auto_class

    @classmethod
    def completed(cls, model: torch.nn.Module, source: Artifact) -> torch.nn.Module:
        """With its pooling, whose layers are checked too."""
        whole = pooled(model, read_pooling(source.path), source.path)
        refuse_nan(whole.layers)
        return whole

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {OUTPUT: ("batch", model.pooling.width(model.config.hidden_size))}

    @property
    def prompt(self) -> str:
        return self.pooling.prompt

    def encode(self, inputs: Sequence[Any]) -> EncodedSet:
        for i, item in enumerate(inputs):
            if not isinstance(item, str):
                raise DataError(f"Expected a text at position {i}, received {type(item).__name__}.")
        prompt = self.pooling.prompt
        return self.encoder.encode([x if isinstance(x, Prompted) else prompt + x for x in inputs])

    def prepared(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
        return self._asked(options).texts(inputs, self.pooling) if options else inputs

    def finished(self, answers: list[np.ndarray], options: Mapping[str, Any]) -> list[np.ndarray]:
        return self._asked(options).vectors(answers) if options else answers

    def _asked(self, options: Mapping[str, Any]) -> VectorOptions:
        if unknown := set(options) - set(VectorOptions.__dataclass_fields__):
            raise RecipeError(
                f"Expected options of vectors, this model is for {self.name}, received {', '.join(unknown)}.",
                hint=f"They are {', '.join(VectorOptions.__dataclass_fields__)}.",
            )
        return VectorOptions(**options)

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Pairs, flattened: `encoded` and `inputs` hold two texts per reference."""
        first = self.column(rows.column_names, "text", columns)
        others = [name for name in rows.column_names if name != first or columns.pair is not None]
        second = self.column(others, "pair", columns)
        pairs = list(zip(texts_of(rows, first), texts_of(rows, second)))
        label, scores = self._references(rows, columns)
        references: list[Any] = scores
        if self.metric in retrieval.METRICS and pairs:
            references = retrieval.relevances([q for q, _ in pairs], [d for _, d in pairs], scores)
        inputs = [text for pair in self._routed(pairs) for text in pair]
        return Labelled(
            self.encode(inputs),
            references,
            [BETWEEN.join(pair) for pair in pairs],
            inputs,
            columns=Columns(first, second, label),
        )

    @classmethod
    def input_columns(cls, names: Sequence[str], wanted: Columns = Columns()) -> tuple[str, ...]:
        """One: each text has a vector of its own. Raises RecipeError where a second one is asked for."""
        if wanted.pair is not None:
            raise RecipeError(
                f"Each text gets a vector of its own: leave --pair-column {wanted.pair} out.",
                hint="Pairs are for data with a similarity.",
            )
        return super().input_columns(names, wanted)

    def decode(self, outputs: Outputs) -> list[np.ndarray]:
        """One float32 vector per text, of length 1 where the checkpoint normalises."""
        return [np.asarray(row, dtype=np.float32) for row in outputs[OUTPUT]]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """Vectors, (pairs, 2, width), float32: of length 1 where they are compared by their cosine."""
        vectors = np.stack(list(outputs[OUTPUT])).astype(np.float32)
        vectors = vectors.reshape(-1, vectors.shape[-1])  # training gives both vectors of a pair at once
        if len(vectors) % 2:
            raise DataError(f"Expected two vectors per pair, received {len(vectors)} vectors in all.")
        return (unit(vectors) if self._by_cosine else vectors).reshape(-1, 2, vectors.shape[1])

    def score(self, answers: np.ndarray, references: Sequence[Any]) -> float:
        if (each := self.outcomes(answers, references)) is not None:
            return float(each.mean()) if len(each) else float("nan")
        from scipy import stats

        correlation = stats.spearmanr if self.metric == "spearman" else stats.pearsonr
        return float(correlation(self._similarities(answers), np.asarray(references)).statistic)

    def outcomes(self, answers: np.ndarray, references: Sequence[Any]) -> np.ndarray | None:
        """For retrieval: one per query. A correlation is no mean."""
        if self.metric not in retrieval.METRICS:
            return None
        return retrieval.values(self.metric, answers, references, self._near)

    @property
    def sameness(self) -> str:  # type: ignore[override]
        return "a cosine of at least 0.99" if self._by_cosine else "a distance of at most 14% of the length"

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        """Per text, whether the cosine of the two vectors is at least `NEAR`; where their length counts too,
        whether they are as near to each other as such vectors of one length."""
        ours, theirs = (np.stack(list(x[OUTPUT])).astype(np.float64) for x in (outputs, others))
        if not self._by_cosine:
            apart = np.linalg.norm(ours - theirs, axis=1)
            return apart <= np.sqrt(2 - 2 * NEAR) * np.maximum(np.linalg.norm(theirs, axis=1), 1e-12)
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        return (ours * theirs).sum(axis=1) >= NEAR * np.maximum(lengths, 1e-12)

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """The mean cosine between the two models' vectors of the same text."""
        if not len(answers):
            return 1.0
        return float(np.einsum("ijk,ijk->ij", unit(answers), unit(others)).mean())

    def describe(self, answer: np.ndarray) -> dict[str, Any]:
        return {"vector": np.asarray(answer).tolist()}

    def gives(self) -> tuple[Field, ...]:
        return (Field("embedding", "FP32", (-1,)),)

    def fields(self, answer: np.ndarray) -> tuple[Any, ...]:
        return (answer,)

    def alike(self, answer: np.ndarray, other: np.ndarray) -> float:
        """The cosine of two vectors, at least 0."""
        lengths = float(np.linalg.norm(answer) * np.linalg.norm(other))
        return max(0.0, float(answer @ other) / lengths) if lengths else float(not other.any())

    def line(self, answer: np.ndarray) -> str:
        return "[" + ", ".join(f"{x:.6g}" for x in answer) + "]"

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """`scale`: what divides the scores (None: there are none). Nothing of it goes into config.json."""
        there = columns.label or next((n for n in COLUMNS["label"] if n in rows.column_names), None)
        if there is None:
            return {"scale": None}
        name = cls.column(rows.column_names, "label", columns)
        values = [x for x in map(number, rows[name]) if x is not None]
        if len(set(values)) < 2:
            raise DataError(f"Expected different similarities in column {name!r}, received {values[:1]}.")
        return {"scale": float(max(abs(v) for v in values))}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> Embeddings:
        task = cls.from_artifact(source, retrieval.METRICS[0] if config["scale"] is None else None)
        task.encoder.truncate(max_length)
        return task

    @property
    def compares_rows(self) -> bool:
        return self.metric in retrieval.METRICS

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """One row per pair: the second text's inputs lie beside the first's, under names of their own. To
        learn from (with a `seed`), those that match alone, where documents are looked for."""
        encoded, references = labelled.encoded, labelled.references
        rows: Sequence[int] = range(len(references))
        if self.compares_rows and seed is not None and references:
            least = retrieval.MATCH * max(one.score for one in references)
            rows = [i for i in rows if references[i].score >= least]
        arrays = {
            f"{name}{ending}": [values[2 * i + place] for i in rows]
            for place, ending in enumerate(("", SECOND))
            for name, values in encoded.arrays.items()
        }
        pad = encoded.pad | {f"{name}{SECOND}": value for name, value in encoded.pad.items()}
        learned = [references[i] for i in rows]
        left = labelled.skipped + len(references) - len(learned)
        return replace(
            labelled, encoded=EncodedSet(arrays, pad, encoded.truncated), references=learned, skipped=left
        )

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        rows: Sequence[Any] = labelled.references
        if self.compares_rows:
            rows = [(one.query, one.document) for one in labelled.references]
        return {"labels": [np.array(row, dtype=np.float32) for row in rows]}

    def network(self, source: Artifact, config: dict[str, Any], load: Callable[..., Any]) -> torch.nn.Module:
        return pair(pooled(load(self.auto_class), self.pooling, source.path), self.kind, config["scale"])

    def backbone(self, network: torch.nn.Module) -> torch.nn.Module:
        return network.transformer

    def save(self, network: torch.nn.Module, folder: Path) -> None:
        network.transformer.save_pretrained(str(folder), safe_serialization=True)
        save_layers(network.model, folder)

    @property
    def _by_cosine(self) -> bool:
        return self.pooling.similarity == "cosine"

    def _similarities(self, answers: np.ndarray) -> np.ndarray:
        """The similarity of each pair, (pairs,); distances with a minus."""
        a, b = answers[:, 0], answers[:, 1]
        if self.pooling.similarity == "euclidean":
            return -np.linalg.norm(a - b, axis=1)
        if self.pooling.similarity == "manhattan":
            return -np.abs(a - b).sum(axis=1)
        return np.einsum("ij,ij->i", a, b)

    def _near(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """The similarity of every query to every document, (queries, documents)."""
        if self.pooling.similarity in ("cosine", "dot"):
            return queries @ documents.T
        pairs = (np.stack([np.broadcast_to(q, documents.shape), documents], axis=1) for q in queries)
        return np.stack([self._similarities(pair) for pair in pairs])

    def _routed(self, pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[Input, Input]]:
        """For retrieval with the prompts of `encode_query` and `encode_document`, as the evaluator of the
        library asks.

        Raises RecipeError where another prompt goes before all texts, which the baseline would put there too.
        """
        if self.metric not in retrieval.METRICS or not pairs:
            return pairs
        if self.pooling.prompt:
            raise RecipeError(
                f"Expected no default prompt for {self.metric}, which asks with those of queries and of "
                f"documents, received {self.pooling.prompt!r}.",
                hint="Set default_prompt_name in config_sentence_transformers.json to null.",
            )
        sides = zip(zip(*pairs), ("query", "document"))
        first, second = (VectorOptions(prompt_name=n).texts(side, self.pooling) for side, n in sides)
        return [(str(a), str(b)) for a, b in zip(first, second)]

    def _references(self, rows: datasets.Dataset, columns: Columns) -> tuple[str | None, list[float]]:
        """Their column, and one number per pair. For retrieval data without scores holds matching pairs."""
        there = columns.label or next((n for n in COLUMNS["label"] if n in rows.column_names), None)
        if there is None and self.metric in retrieval.METRICS:
            return None, [1.0] * len(rows)
        try:
            name = self.column(rows.column_names, "label", columns)
        except DataError as error:
            hint = f"{error.hint} Pairs that match and have none: --metric {retrieval.METRICS[0]}."
            raise DataError(str(error), hint=hint) from None
        values = [number(value) for value in rows[name]]
        for i, value in enumerate(values):
            if value is None:
                raise DataError(
                    f"Expected a similarity (a number) in column {name!r}, row {i}, "
                    f"received {rows[name][i]!r}.",
                    hint="Name the right column with --label-column.",
                )
        return name, [value for value in values if value is not None]


def cosines(answers: np.ndarray) -> np.ndarray:
    """(pairs, 2, width) vectors of length 1 → (pairs,)."""
    return np.einsum("ij,ij->i", answers[:, 0], answers[:, 1])


TASK = Embeddings
