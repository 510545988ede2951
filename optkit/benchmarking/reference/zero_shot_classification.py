"""Labels that nobody trained, as transformers' ZeroShotClassificationPipeline weighs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row, TextReference, split

if TYPE_CHECKING:
    from optkit.core.reading import Json


class ZeroShotClassification(TextReference):
    """The pipeline reads each pair and makes the answers; between them the model is asked in batches."""

    auto = "AutoModelForSequenceClassification"

    def load(self) -> None:
        import transformers

        super().load()
        if self.limit is not None:  # where the tokenizer states none, the pipeline cuts nothing
            self.tokenizer.model_max_length = self.limit
        self.pipeline = transformers.pipeline(
            "zero-shot-classification", model=self.model, tokenizer=self.tokenizer, device=self.device
        )
        config, entailment = self.model.config, self.pipeline.entailment_id
        against = config.id2label[config.num_labels - 1 if entailment == 0 else 0]
        if config.num_labels > 2 and not against.lower().startswith("contra"):
            self._say(f"With multi_label transformers weighs entailment against {against!r} in this model.")

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        rows: list[Row] = []
        self.owner = list[int]()
        for i, (text, labels, template, _) in enumerate(map(self._whole, inputs)):
            for label in labels:
                self.owner.append(i)
                pair = [[text, template.format(label)]]
                rows += split(self.pipeline._parse_and_tokenize(pair, padding=False))
        return [{name: list(map(int, values)) for name, values in row.items()} for row in rows]

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        logits = [answer["logits"] for answer in self.forward(rows, alone)]
        asked = [self._whole(item) for item in inputs]
        ends = np.cumsum([len(labels) for _, labels, _, _ in asked])
        told = [json.dumps([labels, several], ensure_ascii=False) for _, labels, _, several in asked]
        return {
            "logits": [np.concatenate(logits[end - len(x[1]) : end]) for x, end in zip(asked, ends)],
            "characters": [np.array([ord(c) for c in text], dtype=np.int64) for text in told],
        }

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Json]:
        """The best label, or all above one half in alphabetical order."""
        import torch

        answers: list[Json] = []
        for logits, (text, labels, _, several) in zip(outputs["logits"], map(self._whole, inputs)):
            each = torch.from_numpy(logits.reshape(len(labels), -1))
            told = [
                {"candidate_label": label, "sequence": text, "logits": row[None]}
                for label, row in zip(labels, each)
            ]
            answer = self.pipeline.postprocess(told, multi_label=several)
            scored = zip(answer["labels"], answer["scores"])
            above = sorted(label for label, score in scored if score > 0.5)
            answers.append(above if several else answer["labels"][:1])
        return answers

    def _whole(self, item: Sequence[Any]) -> tuple[str, list[str], str, bool]:
        """Text, labels, template, and whether each label stands by itself, of which the last two may lack."""
        text, labels, *more = item
        template = next((x for x in more if isinstance(x, str)), "This example is {}.")
        return text, self.pipeline._args_parser._parse_labels(labels), template, True in more


REFERENCE = ZeroShotClassification
