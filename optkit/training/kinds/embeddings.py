"""Fine-tuning for embeddings: the cosine of two texts' vectors learns the similarity they were given.

The loss is sentence-transformers' CosineSimilarityLoss: the squared difference between cosine and score, with
scores divided by the highest in the training data. Both texts go through the same encoder.
Source: N. Reimers and I. Gurevych, "Sentence-BERT" (EMNLP 2019), regression objective.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import DataError
from optkit.models.checkpoint import model_inputs
from optkit.models.pooling import OUTPUT, pooled, read_pooling, save_layers
from optkit.tasks.base import Columns, Labelled, Task
from optkit.tasks.embeddings import Embeddings
from optkit.tasks.label_mapping import number
from optkit.training.kinds import Kind

#: Ending of the names of the second text's inputs.
SECOND = "_2"


class EmbeddingsKind(Kind):
    auto_class = "AutoModel"

    def fits(self, rows: Any, columns: Columns) -> bool:
        """Never unasked: scored pairs are as well data for a regression over both texts together."""
        return False

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        """`scale`: what divides the scores. Nothing of it goes into config.json."""
        name = Embeddings.column(rows.column_names, "label", columns)
        values = [x for x in map(number, rows[name]) if x is not None]
        if len(set(values)) < 2:
            raise DataError(f"Expected different similarities in column {name!r}, received {values[:1]}.")
        return {"scale": float(max(abs(v) for v in values))}

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        task = Embeddings.from_artifact(source)
        task.encoder.truncate(max_length)
        return task

    def prepared(self, labelled: Labelled) -> Labelled:
        """One row per pair: the second text's inputs lie beside the first's, under names of their own."""
        encoded = labelled.encoded
        arrays = {name: rows[::2] for name, rows in encoded.arrays.items()}
        arrays |= {f"{name}{SECOND}": rows[1::2] for name, rows in encoded.arrays.items()}
        pad = encoded.pad | {f"{name}{SECOND}": value for name, value in encoded.pad.items()}
        return replace(labelled, encoded=EncodedSet(arrays, pad, encoded.truncated))

    def targets(self, task: Task, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        return {"labels": [np.array(reference, dtype=np.float32) for reference in labelled.references]}

    def collate(self, encoded: Any, targets: Any, indices: Any) -> Any:
        batch = encoded.batch(indices)
        return {**batch, **{name: np.stack([rows[i] for i in indices]) for name, rows in targets.items()}}

    def network(self, source: Artifact, config: dict[str, Any], load: Any) -> Any:
        return _pair(pooled(load(self.auto_class), read_pooling(source.path), source.path), config["scale"])

    def backbone(self, network: Any) -> Any:
        return network.transformer

    def save(self, network: Any, folder: Path) -> None:
        network.transformer.save_pretrained(str(folder), safe_serialization=True)
        save_layers(network.model, folder)


def _pair(model: Any, scale: float) -> Any:
    """Two texts through one encoder: `OUTPUT` (batch, 2, width), and with `labels` the loss."""
    import torch

    class Pair(torch.nn.Module):
        is_pooled = True
        accepts_loss_kwargs = False  # or the Trainer leaves the mean over accumulated batches to us

        def __init__(self) -> None:
            super().__init__()
            self.model, self.config, self.pooling = model, model.config, model.pooling
            one = model_inputs(model)
            self.inputs = [*one, *(f"{name}{SECOND}" for name in one)]

        @property
        def transformer(self) -> Any:
            return self.model.transformer

        def forward(self, labels: torch.Tensor | None = None, **inputs: Any) -> dict[str, torch.Tensor]:
            inputs.pop("return_dict", None)
            first = {n: v for n, v in inputs.items() if not n.endswith(SECOND)}
            second = {n.removesuffix(SECOND): v for n, v in inputs.items() if n.endswith(SECOND)}
            a, b = self.model(**first)[OUTPUT], self.model(**second)[OUTPUT]
            answer = {OUTPUT: torch.stack([a, b], dim=1)}
            if labels is None:
                return answer
            cosine = torch.nn.functional.cosine_similarity(a, b)
            return {"loss": torch.nn.functional.mse_loss(cosine, labels / scale), **answer}

    return Pair()


KIND = EmbeddingsKind()
