"""Sparse embeddings (SPLADE): one text → a weight for each token of the vocabulary, nearly all of them 0.

A masked language model says which tokens could stand at each place; a token's weight is the largest, or the
sum, of log(1 + max(logit, 0)) over the places. All of it is part of the graph, whose output is dense, (batch,
vocabulary); `decode` keeps what is not 0. Scored as embeddings are, and trained to find documents.
Source: T. Formal et al., "SPLADE v2" (2021); sentence-transformers 6.2, `SparseEncoder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.sentence_modules import is_sparse
from optkit.errors import RecipeError
from optkit.models.pooling import OUTPUT
from optkit.models.task import Shape
from optkit.tasks.base import Columns, Outputs, Task
from optkit.tasks.embeddings import Embeddings

if TYPE_CHECKING:
    import datasets
    import torch


#: Tokens that a line for people shows.
SHOWN = 10


@dataclass(frozen=True)
class SparseVector:
    """`values` (n,) float32 above 0 of the tokens `indices` (n,) int32, ascending; all others are 0."""

    indices: np.ndarray
    values: np.ndarray


@dataclass
class SparseEmbeddings(Embeddings):
    """A folder of sentence-transformers' SparseEncoder, with SpladePooling behind a masked language model."""

    name: ClassVar[str] = "sparse-embeddings"
    architectures: ClassVar[tuple[str, ...]] = ()  # the folder's modules say it, no architecture does
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    embeds: ClassVar[bool] = False
    sentence_transformers: ClassVar[str] = ""
    kind: ClassVar[str] = "sparse"

    @classmethod
    def declared_by(cls, folder: Path, config: Mapping[str, Any]) -> bool:
        return is_sparse(folder)

    @classmethod
    def auto_class_of(cls, config: dict[str, Any]) -> str:
        return cls.auto_class

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        """Whether it has a head for tokens shows where it is loaded."""

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {OUTPUT: ("batch", model.config.vocab_size)}

    def prepared(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
        """With the prompt that is asked for; a sparse vector is neither cut nor packed."""
        if unknown := set(options) - {"prompt", "prompt_name"}:
            raise RecipeError(
                f"Expected prompt or prompt_name for {self.name}, received {', '.join(sorted(unknown))}."
            )
        return super().prepared(inputs, options)

    def finished(self, answers: list[Any], options: Mapping[str, Any]) -> list[Any]:
        return answers

    def decode(self, outputs: Outputs) -> list[Any]:
        """What is not 0 of each vector."""
        rows = (np.asarray(row, dtype=np.float32) for row in outputs[OUTPUT])
        places = ((row, np.flatnonzero(row)) for row in rows)
        return [SparseVector(indices.astype(np.int32), row[indices]) for row, indices in places]

    def describe(self, answer: SparseVector) -> dict[str, Any]:  # type: ignore[override]
        return {"indices": answer.indices.tolist(), "values": answer.values.tolist()}

    gives = Task.gives
    fields = Task.fields

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """A score only says which pairs match."""
        return {"scale": None}

    def alike(self, answer: SparseVector, other: SparseVector) -> float:  # type: ignore[override]
        """The cosine of two vectors."""
        _, in_answer, in_other = np.intersect1d(
            answer.indices, other.indices, assume_unique=True, return_indices=True
        )
        lengths = float(np.linalg.norm(answer.values) * np.linalg.norm(other.values))
        product = float(answer.values[in_answer] @ other.values[in_other])
        return product / lengths if lengths else float(len(answer.indices) == len(other.indices))

    def line(self, answer: SparseVector) -> str:  # type: ignore[override]
        """The heaviest tokens, with their weights."""
        first = np.argsort(-answer.values, kind="stable")[:SHOWN]
        shown = (f"{self.encoder.token(int(answer.indices[i]))} {answer.values[i]:.3g}" for i in first)
        return ", ".join(" ".join(one.split()) for one in shown)


TASK = SparseEmbeddings
