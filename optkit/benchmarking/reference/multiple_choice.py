"""Questions with choices, as transformers' run_swag.py asks its models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import BATCH, TOKENS, Outputs, Row, TextReference, split

if TYPE_CHECKING:
    from optkit.core.reading import Json


class MultipleChoice(TextReference):
    """All choices of a question go through the model together, padded by DataCollatorForMultipleChoice."""

    auto = "AutoModelForMultipleChoice"

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        self.owner = [i for i, (_, seconds) in enumerate(inputs) for _ in seconds]
        firsts = [first for first, seconds in inputs for _ in seconds]
        seconds = [second for _, seconds in inputs for second in seconds]
        return split(self.tokenizer(firsts, seconds, truncation=True, max_length=self.limit))

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        import torch
        from transformers import DataCollatorForMultipleChoice

        collate = DataCollatorForMultipleChoice(self.tokenizer)
        one_by_one = alone or self.tokenizer.pad_token is None
        logits: list[list[float]] = [[] for _ in inputs]
        for part in self._parts(rows, inputs, one_by_one):
            features = [
                {
                    **{name: [rows[i][name] for i in question] for name in rows[0] if name in self.takes},
                    "labels": 0,
                }
                for question in part
            ]
            with torch.inference_mode():
                batch = {name: value.to(self.device) for name, value in collate(features).items()}
                del batch["labels"]
                answer = self.model(**batch).logits.float().cpu()
            for question, values in zip(part, answer.tolist()):
                logits[self.owner[question[0]]] += values
            self.progress(len(part))
        return {"logits": [np.array(values, dtype=np.float32) for values in logits]}

    def _parts(
        self, rows: Sequence[Row], inputs: Sequence[Any], one_by_one: bool
    ) -> Iterator[list[list[int]]]:
        """Questions of as many choices that are asked together: the numbers of their rows."""
        questions: list[list[int]] = [[] for _ in inputs]
        for row, owner in enumerate(self.owner):
            questions[owner].append(row)
        if one_by_one:
            yield from ([[row]] for question in questions for row in question)
            return

        def size(question: list[int]) -> tuple[int, int]:
            return len(question), max(len(rows[row]["input_ids"]) for row in question)

        part: list[list[int]] = []
        for question in sorted(questions, key=size, reverse=True):
            count, tokens = size(part[0]) if part else (0, 0)
            if part and (
                count != len(question)
                or (len(part) + 1) * count > BATCH
                or len(part) * count * tokens > TOKENS
            ):
                yield part
                part = []
            part.append(question)
        if part:
            yield part

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Json]:
        return [int(np.argmax(row)) for row in outputs["logits"]]


REFERENCE = MultipleChoice
