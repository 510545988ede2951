"""What the models of sentence-transformers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import BATCH, Outputs, Reference, Row, TextReference

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from optkit.tasks.labelled import Input


class SentenceModel(Reference):
    """A class of sentence-transformers: its modules, prompt and padding."""

    package = "sentence_transformers"
    #: What it answers with, and optkit's name for it.
    feature: str
    output: str

    def load(self) -> None:
        import sentence_transformers
        import torch

        self.model: SentenceTransformer = getattr(sentence_transformers, self.auto)(
            str(self.folder),
            device=self.device,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            **self.trusted,
        ).eval()
        self.prompt = self.model.prompts.get(self.model.default_prompt_name or "")

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        rows: list[Row] = []
        for start in range(0, len(inputs), BATCH):
            features = self._features(inputs[start : start + BATCH])
            masks = [m.bool() for m in features["attention_mask"]]
            names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in features]
            rows += [{n: features[n][i][m].tolist() for n in names} for i, m in enumerate(masks)]
        return rows

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        import torch

        vectors: list[np.ndarray] = [np.empty(0)] * len(inputs)
        lengths = [len(row["input_ids"]) for row in rows]
        for part in TextReference._batches(lengths, 1 if alone else BATCH):
            with torch.inference_mode():
                features = {
                    n: v.to(self.device) if torch.is_tensor(v) else v
                    for n, v in self._features([inputs[i] for i in part]).items()
                }
                answer = self.model(features)[self.feature]
            for i, values in zip(part, answer.float().cpu().numpy()):
                vectors[i] = self.cut(values)
            self.progress(len(part))
        return {self.output: vectors}

    def cut(self, values: np.ndarray) -> np.ndarray:
        """What `encode` or `predict` leave of what the modules give for one input."""
        return values

    def _features(self, inputs: Sequence[Input]) -> dict[str, Any]:
        return self.model.preprocess(list(inputs), prompt=self.prompt)
