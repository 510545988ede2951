"""Decoders, as transformers documents perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row, TextReference, split

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input


class CausalLM(TextReference):
    """Perplexity as transformers documents it, with a window that moves by three quarters of itself.

    A document ends with the end-of-text token, and every token but the first is scored once.
    """

    auto = "AutoModelForCausalLM"
    window = 1024

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        length = min(self.limit or 512, self.window)
        stride = max(1, length - length // 4)
        rows: list[Row] = []
        self.owner, self.first = list[int](), list[int]()
        for example, ids in enumerate(self._documents(inputs)):
            done, start = 1, 0
            while True:
                part = ids[start : start + length]
                rows.append({"input_ids": part, "attention_mask": [1] * len(part)})
                self.owner.append(example)
                self.first.append(done - start)
                done = start + len(part)
                if done >= len(ids):
                    break
                start += stride
        return rows

    def provoked(self, inputs: Sequence[Input]) -> list[Row]:
        """The texts as they are: neither cut nor ended."""
        return split(self.tokenizer(list(inputs), return_token_type_ids=False))

    def _documents(self, inputs: Sequence[Input]) -> list[list[int]]:
        ends = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ends = self.model.config.eos_token_id if ends is None else ends
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        documents = []
        for ids in self.tokenizer(list(inputs), return_attention_mask=False)["input_ids"]:
            documents.append(ids if not ends or (ids and ids[-1] in ends) else [*ids, ends[0]])
        return documents

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        import torch

        parts: list[list[np.ndarray]] = [[] for _ in inputs]
        scored: list[np.ndarray] = [np.empty(0)] * len(rows)
        for batch in self._batches([len(row["input_ids"]) for row in rows], 1 if alone else 8):
            length = max(len(rows[i]["input_ids"]) for i in batch)
            ids = torch.zeros((len(batch), length), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for position, i in enumerate(batch):  # on the right: what comes later changes nothing before it
                row = torch.tensor(rows[i]["input_ids"])
                ids[position, : len(row)], mask[position, : len(row)] = row, 1
            with torch.inference_mode():
                logits = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits
                likely = logits[:, :-1].float().log_softmax(-1)
                likely = likely.gather(-1, ids[:, 1:, None].to(self.device)).squeeze(-1).cpu().numpy()
            for position, i in enumerate(batch):
                scored[i] = likely[position, self.first[i] - 1 : len(rows[i]["input_ids"]) - 1]
            self.progress(len(batch))
        for example, values in zip(self.owner, scored):
            parts[example].append(values)
        tokens = [np.array([len(ids)], dtype=np.int64) for ids in self._documents(inputs)]
        return {"log_likelihood": [np.concatenate(p) for p in parts], "tokens": tokens}

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Sequence[Json]:
        return [[float(row.sum(dtype=np.float64)), len(row)] for row in outputs["log_likelihood"]]


REFERENCE = CausalLM
