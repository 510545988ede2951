"""A pass and a task of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.tasks.text_classification import Classification, TextClassification


@dataclass(frozen=True)
class Sparsify(Pass):
    """Set the smallest weights of every matrix to zero."""

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"

    share: float = param(0.1, "share of the weights of a matrix that become zero", minimum=0.0, maximum=1.0)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        """Write the changed graph into `out`; the notes stand in the report."""
        from onnx import numpy_helper

        model, zeros = graph.load_graph(source.path), 0
        for tensor in model.graph.initializer:
            weights = numpy_helper.to_array(tensor)
            if weights.ndim == 2 and weights.dtype == np.float32:
                weights = np.where(np.abs(weights) < np.quantile(np.abs(weights), self.share), 0, weights)
                zeros += int((weights == 0).sum())
                tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float32), tensor.name))
        graph.save_graph(model, out)
        copy_side_files(source.path, out)
        return {"zeros": zeros}


@dataclass
class Reviews(TextClassification):
    """Text classification of a shop's reviews: its rows have other columns, its answers other words."""

    name: ClassVar[str] = "reviews"
    architectures: ClassVar[tuple[str, ...]] = ()  # no model is for it by its name: it takes task="reviews"
    columns: ClassVar = {"text": ("review_body",), "pair": (), "label": ("verdict",)}

    @property
    def reference(self) -> str:
        """The baseline is the one of text classification: transformers' own model and tokenizer."""
        return "text-classification"

    def line(self, answer: Classification) -> str:
        """An answer as `optkit predict` prints it."""
        return f"{'recommended' if answer.label == 'positive' else 'not recommended'} ({answer.score:.0%})"
